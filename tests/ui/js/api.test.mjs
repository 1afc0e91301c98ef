// SPDX-License-Identifier: Apache-2.0
// How Airflow's REST API is asked, and what is kept of a log. The server is a real one, on a port of its own.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, test } from "node:test";

import { ApiError, Place, plain, read, tail } from "../../../airflow_provider_jobapi/ui/static/api.js";

let server;
let answer;
let asked;

before(async () => {
  server = createServer((request, response) => {
    asked = request;
    answer(response);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const base = `http://127.0.0.1:${server.address().port}/airflow/`;
  globalThis.location = { origin: new URL(base).origin };
  globalThis.document = { querySelector: (selector) => (selector === "head > base" ? { getAttribute: () => "/airflow/" } : null) };
});

after(() => {
  server.close();
  server.closeAllConnections();
});

const place = new Place({ dagId: "a dag", runId: "manual__2026-01-05T12:00:00+00:00", taskId: "train", mapIndex: "-1" });

test("a place is escaped, and a mapped one has an index", () => {
  assert.equal(place.instance, "api/v2/dags/a%20dag/dagRuns/manual__2026-01-05T12%3A00%3A00%2B00%3A00/taskInstances/train");
  assert.equal(place.mapped, false);
  const mapped = new Place({ dagId: "d", runId: "r", taskId: "t", mapIndex: "2" });
  assert.equal(mapped.pageOf(), "dags/d/runs/r/tasks/t/mapped/2");
  assert.equal(new Place({ dagId: "d", runId: "r", taskId: "t" }).mapIndex, -1);
});

test("JSON is read below Airflow's base path, with the server's date", async () => {
  answer = (response) => response.writeHead(200, { Date: "Mon, 05 Jan 2026 12:00:00 GMT" }).end('{"state": "running"}');
  const { body, date } = await read(place.instance, { map_index: -1 });
  assert.deepEqual(body, { state: "running" });
  assert.equal(date, Date.UTC(2026, 0, 5, 12));
  assert.match(asked.url, /^\/airflow\/api\/v2\/dags\/a%20dag\/.*\?map_index=-1$/);
});

test("an error has Airflow's own words where it gives some", async () => {
  answer = (response) => response.writeHead(404).end('{"detail": "No such task."}');
  await assert.rejects(read("x"), (error) => error instanceof ApiError && error.status === 404 && error.message === "No such task.");
  answer = (response) => response.writeHead(502).end("<html>");
  await assert.rejects(read("x"), (error) => error.status === 502 && error.message === "Airflow answered 502.");
  answer = (response) => response.writeHead(422).end('{"detail": [{"loc": []}]}');
  await assert.rejects(read("x"), { message: "Airflow answered 422." });
});

test("no answer at all is status 0", async () => {
  answer = (response) => response.destroy();
  await assert.rejects(read("x"), (error) => error instanceof ApiError && error.status === 0);
});

test("an XCom's value may be JSON or JSON in a text", () => {
  assert.deepEqual(plain('{"a": 1}'), { a: 1 });
  assert.equal(plain('"id"'), "id");
  assert.equal(plain("{broken"), "{broken");
  assert.equal(plain("id"), "id");
  assert.deepEqual(plain({ a: 1 }), { a: 1 });
});

const line = (event, logger = "airflow_provider_jobapi.triggers.training.TrainingTrigger", more = {}) =>
  `${JSON.stringify({ event, timestamp: "2026-01-05T12:00:00Z", level: "info", logger, ...more })}\n`;

function sendLog(text) {
  // In pieces that cut lines and characters anywhere.
  answer = (response) => {
    const all = Buffer.from(text);
    for (let at = 0; at < all.length; at += 7) response.write(all.subarray(at, at + 7));
    response.end();
  };
}

test("the end of a log is its job's last lines, without colours", async () => {
  sendLog([line("not the job's", "airflow.task"), line("one"), line("zwei ü…"), line("\u001b[31mred\u001b[0m")].join(""));
  const log = await tail(place, 1, 2);
  assert.deepEqual(log.lines.map(({ text }) => text), ["zwei ü…", "red"]);
  assert.equal(log.count, 3);
  assert.equal(log.ofJob, true);
});

test("without a line of a job, the end of the log is that of the task, without folds and notes", async () => {
  sendLog([`${JSON.stringify({ event: "names of files" })}\n`, line("::group::Pre", "airflow.task"), line("kept", "airflow.task"), "no json\n"].join(""));
  const log = await tail(place, 1, 10);
  assert.deepEqual(log.lines.map(({ text }) => text), ["kept"]);
  assert.equal(log.ofJob, false);
});

test("the last error of the task is found", async () => {
  sendLog(line("Task failed", "task", { error_detail: [{ exc_type: "JobFailed", exc_value: "Job j failed." }] }));
  assert.deepEqual((await tail(place, 1, 10)).error, { type: "JobFailed", text: "Job j failed." });
});
