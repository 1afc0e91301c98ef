// SPDX-License-Identifier: Apache-2.0
// What the page concludes from a task's state and its XComs.

import assert from "node:assert/strict";
import { test } from "node:test";

import { broughtModel, fetchedModel, modelOf, understand } from "../../../airflow_provider_jobapi/ui/static/status.js";

const ID = "11111111-2222-5333-8444-555555555555";
const T = (seconds) => new Date(Date.UTC(2026, 0, 5, 12) + seconds * 1000).toISOString();

/** A page's snapshot of a task whose job has this status. */
function snapshot({ ti = {}, status = null, facts = {}, log = null, id = ID, links = null, forbidden = false, more = {} } = {}) {
  const xcoms = new Map(Object.entries(more));
  if (id) xcoms.set("training_job_id", id);
  if (facts) xcoms.set("training_facts", { job_id: id, submitted: T(0), ...facts });
  if (status) xcoms.set("trainingStatus", { job_id: id, submissionTime: T(0), ...status });
  return { ti: { state: "deferred", try_number: 1, ...ti }, xcoms, store: [], links, log, forbidden };
}

const looks = (view) => Object.fromEntries(view.phases.map(({ key, look }) => [key, look]));

test("the rules that found metrics are shown, whatever the XCom holds", () => {
  const rules = (given) => understand(snapshot({ more: { training_metrics: { job_id: ID, rules: given, metrics: {} } } })).rules;
  assert.deepEqual(rules(["keras", 7, "dict"]), ["keras", "dict"]);
  for (const given of [undefined, "keras", {}]) assert.deepEqual(rules(given), []);
});

test("a job that waits", () => {
  const view = understand(snapshot({ status: { status: "PENDING", message: "2 jobs are ahead." } }));
  assert.equal(view.state, "queued");
  assert.match(view.sentence, /2 jobs are ahead\.$/);
  assert.deepEqual(looks(view), { queued: "active", running: "todo", storing: "todo", end: "todo" });
});

test("a job that runs", () => {
  const view = understand(snapshot({ status: { status: "RUNNING", startTime: T(5) } }));
  assert.equal(view.state, "running");
  assert.deepEqual(looks(view), { queued: "done", running: "active", storing: "todo", end: "todo" });
});

test("how far a job is that runs", () => {
  const running = (more) => understand(snapshot({ status: { status: "RUNNING", startTime: T(5), ...more } })).progress;
  assert.deepEqual(running({ progress: 0.45, remaining: 720 }), { done: 0.45, left: 720 });
  assert.deepEqual(running({ progress: 0.45 }), { done: 0.45, left: null });
  assert.deepEqual(running({ progress: 0, remaining: -1 }), { done: 0, left: null });
  for (const progress of [undefined, null, "0.4", -0.1, 1.1, Number.NaN]) assert.equal(running({ progress, remaining: 7 }), null);
  assert.equal(running({ progress: 1, storingTime: T(65) }), null);
  const over = understand(snapshot({ ti: { state: "failed" }, status: { status: "FAILED", progress: 0.45, finishTime: T(9) } }));
  assert.equal(over.progress, null);
});

test("a job whose model is being stored", () => {
  const view = understand(snapshot({ status: { status: "RUNNING", startTime: T(5), storingTime: T(65) } }));
  assert.equal(view.state, "storing");
  assert.equal(looks(view).storing, "active");
});

test("a job that was successful", () => {
  const status = { status: "SUCCESSFUL", startTime: T(5), storingTime: T(65), finishTime: T(70) };
  const view = understand(snapshot({ ti: { state: "success" }, status }));
  assert.equal(view.tone, "good");
  assert.equal(view.failure, null);
  assert.deepEqual(looks(view), { queued: "done", running: "done", storing: "done", end: "good" });
});

test("a job that failed: the reason, the exit code and the job's last line", () => {
  const status = { status: "FAILED", startTime: T(5), finishTime: T(9), reason: "NonZeroExit", exitCode: 3, message: "The script failed." };
  const log = { ofJob: true, lines: [{ text: "ValueError: bad" }, { text: "jobapi: exit code 3" }, { text: " " }], error: null };
  const view = understand(snapshot({ ti: { state: "failed" }, status, log }));
  assert.deepEqual(view.failure, { message: "The script failed.", reason: "NonZeroExit", exitCode: 3, lastLine: "ValueError: bad", detail: "" });
  assert.deepEqual(looks(view), { queued: "done", running: "bad", storing: "skipped", end: "bad" });
});

test("a task that failed before its job ended shows Airflow's own error", () => {
  const view = understand(snapshot({ ti: { state: "failed", end_date: T(9) }, log: { ofJob: false, lines: [], error: { type: "Boom", text: "no\nmore" } } }));
  assert.equal(view.state, "left");
  assert.equal(view.failure.message, "no");
  assert.equal(view.failure.detail, "Boom: no\nmore");
});

test("XComs of another job are ignored, since the trigger of an earlier clear may still write for a second", () => {
  const view = understand(snapshot({ more: { training_metrics: { job_id: "another", metrics: { loss: { values: [1] } } } } }));
  assert.deepEqual(view.ignored, ["training_metrics"]);
  assert.equal(view.metrics.size, 0);
});

test("what a page without a job shows depends on the task's links and state", () => {
  const kind = (ti, links, forbidden = false) => understand(snapshot({ ti, id: null, facts: null, links, forbidden })).kind;
  const training = { Training: "/x" };
  assert.equal(kind({ state: "queued" }, training), "waiting");
  assert.equal(kind({ state: "queued", try_number: 2 }, training), "cleared");
  assert.equal(kind({ state: "running" }, training), "jobless");
  assert.equal(kind({ state: "success" }, { Model: "/x" }), "fetch");
  assert.equal(kind({ state: "success" }, {}), "other");
  assert.equal(kind({ state: "success" }, null, true), "forbidden");
});

test("a cleared task shows that it trains again, and no curves of what it trained before", () => {
  const view = understand(snapshot({ ti: { state: "scheduled", try_number: 2 }, more: { training_metrics: { job_id: ID, metrics: { loss: { values: [1] } } } } }));
  assert.equal(view.kind, "cleared");
  assert.equal(view.metrics.size, 0);
});

test("a service whose clock is an hour ahead does not make a job run for an hour", () => {
  const view = understand(snapshot({ facts: { submitted: T(0) }, status: { submissionTime: T(3600), status: "RUNNING", startTime: T(3601) } }));
  assert.ok(Math.abs(view.now - (Date.now() + 3_600_000)) < 5000);
});

test("hostile values are no objects, no times and no texts", () => {
  for (const status of ["text", 7, [], null]) assert.equal(understand(snapshot({ more: { trainingStatus: status } })).status, null);
  const view = understand(snapshot({ status: { status: {}, startTime: 5, message: {}, reason: [] } }));
  assert.equal(view.state, "queued");
});

test("the model of a task whose result an XCom backend keeps elsewhere", () => {
  const status = { status: "SUCCESSFUL", finishTime: T(70) };
  const copy = { job_id: ID, model: "s3://models/7" };
  const elsewhere = "file:///xcoms/dag/run/train/0f.json";
  const view = understand(snapshot({ ti: { state: "success" }, status, more: { return_value: elsewhere, training_result: copy } }));
  assert.equal(view.result.model, "s3://models/7");
  assert.deepEqual(view.ignored, []);
  const whole = { job_id: ID, model: "s3://models/8" };
  assert.equal(understand(snapshot({ status, more: { return_value: whole, training_result: copy } })).result.model, "s3://models/8");
  assert.equal(fetchedModel(new Map(Object.entries({ return_value: elsewhere, training_result: copy }))), "s3://models/7");
  assert.equal(fetchedModel(new Map([["return_value", "file:///models/7"]])), "file:///models/7");
  assert.equal(fetchedModel(new Map()), "");
});

test("what is known of a model", () => {
  const success = { ti: { state: "success" }, status: { status: "SUCCESSFUL", finishTime: T(70) } };
  const known = (result, more = {}) => modelOf(understand(snapshot({ ...success, ...more, more: { return_value: { job_id: ID, ...result } } })));

  const fetched = known({ model: "file:///m/7", model_kind: "onnx", model_unsafe: false });
  assert.deepEqual(fetched, { place: "file:///m/7", note: "The model, complete and verified.", kind: "onnx", unsafe: "" });
  assert.match(known({ model: "file:///m/7", model_kind: "pickle", model_unsafe: true }).unsafe, /^Unsafe to load: /);

  const left = known({ model: null, model_kind: "pickle", model_unsafe: true });
  assert.deepEqual([left.place, left.note, left.kind], ["", "The model stays on the service.", "pickle"]);
  assert.match(left.unsafe, /^Unsafe to load: /);
  assert.deepEqual(known({ model: null, model_kind: null, model_unsafe: false }), { place: "", note: "The job left no model.", kind: "", unsafe: "" });
  const says = { status: { status: "SUCCESSFUL", finishTime: T(70), message: "The job wrote no model." } };
  assert.equal(known({ model: null, model_kind: null }, says).note, "The job wrote no model.");

  const old = known({ model: null });
  assert.deepEqual(old, { place: "", note: "The model stays on the service.", kind: "", unsafe: "" });
});

test("what is known of a model that a task has fetched", () => {
  const xcoms = (more) => new Map(Object.entries(more));
  const facts = { job_id: ID, model: "file:///m/7", model_kind: "pickle", model_unsafe: true };
  const fetch = (more) => modelOf({ kind: "fetch", fetched: fetchedModel(xcoms(more)), brought: broughtModel(xcoms(more)) });
  const pickled = fetch({ return_value: "file:///m/7", training_result: facts });
  assert.deepEqual([pickled.place, pickled.kind], ["file:///m/7", "pickle"]);
  assert.match(pickled.unsafe, /^Unsafe to load: /);
  assert.deepEqual(fetch({ return_value: "file:///m/7" }), { place: "file:///m/7", note: "The model, complete and verified.", kind: "", unsafe: "" });
  assert.deepEqual(fetch({}), { place: "", note: "", kind: "", unsafe: "" });
});
