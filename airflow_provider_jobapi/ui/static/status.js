// SPDX-License-Identifier: Apache-2.0
// Interprets the task's state and its XComs: the headline, the phases with their times, the reason of a failure.

import { readMetrics, readTries } from "./metrics.js";

/** The XComs of a training task. */
export const KEYS = ["training_job_id", "training_facts", "trainingStatus", "training_metrics", "training_result", "return_value"];

/** The result, and a copy of what the page shows of it, which is there where an XCom backend keeps results elsewhere. */
const RESULTS = new Set(KEYS.slice(-2));

const OVER = new Set(["success", "failed", "skipped", "upstream_failed", "removed"]);
const BEFORE = new Set([null, undefined, "none", "scheduled", "queued", "up_for_reschedule", "restarting"]);
const ENDED = new Set(["SUCCESSFUL", "FAILED", "STOPPED"]);

/** Whether the task is over, so that nothing changes until it is cleared. */
export const isOver = (ti) => OVER.has(ti?.state);

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const time = (text) => (typeof text === "string" ? Date.parse(text) : NaN);
const text = (value) => (typeof value === "string" ? value : "");

/**
 * Everything that the page shows, derived from one snapshot of the feed.
 *
 * After a clear the old trigger may still write for a second, so XComs that name another job are ignored.
 */
export function understand(read) {
  const { ti, xcoms } = read;
  const jobId = typeof xcoms.get("training_job_id") === "string" ? xcoms.get("training_job_id") : null;
  const ignored = [];
  const own = (key) => {
    const value = xcoms.get(key);
    if (!isObject(value)) return null;
    if (jobId !== null && value.job_id === jobId) return value;
    if (!RESULTS.has(key) || jobId !== null) ignored.push(key);
    return null;
  };
  const [facts, status, metrics, copy, whole] = KEYS.slice(1).map(own);
  const result = whole ?? copy;
  const view = { ti, jobId, facts, status, result, ignored, kind: kindOf(read, jobId) };
  view.metrics = view.kind === "cleared" ? new Map() : readMetrics(metrics);
  view.rules = Array.isArray(metrics?.rules) ? metrics.rules.filter((name) => typeof name === "string") : [];
  view.leftOut = metrics?.left_out > 0 ? metrics.left_out : 0;
  view.tries = readTries(read.store, view.kind === "cleared" ? null : jobId);
  view.now = nowOf(read, facts, status);
  view.state = stateOf(view);
  view.progress = view.kind === "training" && view.state === "running" ? progressOf(status) : null;
  view.phases = jobId && view.kind === "training" ? phasesOf(view) : [];
  view.failure = failureOf(view, read.log);
  return { ...view, ...headlineOf(view, read) };
}

/** The place of the model that a fetch has brought; empty where it has brought none. */
export const fetchedModel = (xcoms) => text(xcoms.get("training_result")?.model) || text(xcoms.get("return_value"));

const UNSAFE = "Unsafe to load: loading a model of this kind can run code that is in its files. Load it only where you trust the job.";
const WHOLE = "The model, complete and verified.";

/** What is known of the model: its place, a sentence, its kind, and the warning where loading it can run code. */
export function modelOf(view) {
  const known = view.kind === "fetch" ? view.brought : view.kind === "training" ? view.result : null;
  const kind = text(known?.model_kind);
  return { ...placeOf(view), kind, unsafe: kind && known.model_unsafe === true ? UNSAFE : "" };
}

function placeOf({ ti, kind, state, facts, result, status, fetched }) {
  if (kind === "fetch") return { place: fetched, note: fetched ? WHOLE : "" };
  if (kind !== "training") return { place: "", note: "" };
  if (result?.model) return { place: String(result.model), note: WHOLE };
  const wanted = facts?.destination ? String(facts.destination) : "";
  if (state === "successful" && (!wanted || ti.state === "success")) return { place: "", note: leftOf(result, text(status?.message)) };
  if (["failed", "stopped", "left"].includes(state)) return { place: "", note: "" };
  return { place: wanted, note: wanted ? "The model will be fetched into a folder in this place." : "" };
}

/** What a successful job left on its service, in the service's own words where it has some. */
function leftOf(result, message) {
  if (message) return message;
  return result?.model_kind === null ? "The job left no model." : "The model stays on the service.";
}

/** The facts of the model that a fetch has brought; null where the provider's version wrote none. */
export const broughtModel = (xcoms) => (isObject(xcoms.get("training_result")) ? xcoms.get("training_result") : null);

function kindOf({ ti, links, forbidden }, jobId) {
  if (jobId !== null) return BEFORE.has(ti.state) && ti.state !== "up_for_reschedule" ? "cleared" : "training";
  if (forbidden) return "forbidden";
  if (links && "Training" in links) return BEFORE.has(ti.state) ? (ti.try_number > 1 ? "cleared" : "waiting") : "jobless";
  if (links && "Model" in links) return "fetch";
  return "other";
}

/** The service's clock in milliseconds: Airflow's, less the difference of both clocks at the submit. */
function nowOf({ offset = 0 }, facts, status) {
  const apart = time(facts?.submitted) - time(status?.submissionTime);
  return Date.now() + offset - (Math.abs(apart) > 5000 ? apart : 0);
}

/** The job's state: queued, running, storing, successful, failed, stopped, left; null while it is unknown. */
function stateOf({ ti, status, facts }) {
  const word = text(status?.status).toUpperCase();
  if (ENDED.has(word)) return word.toLowerCase();
  if (isOver(ti)) return "left";
  if (status === null) return facts === null ? null : "queued";
  if (!Number.isNaN(time(status.storingTime))) return "storing";
  return !Number.isNaN(time(status.startTime)) || word === "RUNNING" ? "running" : "queued";
}

const LABELS = { queued: "Queued", running: "Running", storing: "Storing" };
const ENDS = { successful: "Done", failed: "Failed", stopped: "Stopped", left: "Ended" };

/** The timeline: each phase with its begin and end in milliseconds (NaN: not yet), and how it is drawn. */
export function phasesOf({ ti, status, facts, state }) {
  const over = state in ENDS;
  const end = over ? firstTime(status?.finishTime, isOver(ti) ? ti.end_date : null) : NaN;
  const begins = [firstTime(status?.submissionTime, facts?.submitted), time(status?.startTime), time(status?.storingTime)];
  const phases = Object.keys(LABELS).map((key, index) => {
    const begin = begins[index];
    const next = begins.slice(index + 1).find((each) => !Number.isNaN(each)) ?? end;
    if (Number.isNaN(begin)) return { key, label: LABELS[key], begin, end: NaN, look: over ? "skipped" : "todo" };
    return { key, label: LABELS[key], begin, end: next, look: over || !Number.isNaN(next) ? "done" : "active" };
  });
  const good = state === "successful";
  const last = phases.findLast((phase) => phase.look === "done");
  if (over && !good && last) last.look = state === "failed" ? "bad" : "cut";
  const look = over ? (good ? "good" : state === "failed" ? "bad" : "cut") : "todo";
  return [...phases, { key: "end", label: ENDS[state] ?? "Done", begin: end, end: NaN, look, first: phases[0].begin }];
}

function firstTime(...texts) {
  return texts.map(time).find((each) => !Number.isNaN(each)) ?? NaN;
}

/** How far the training is, from 0 to 1, and the seconds left, null where they are not known; null when nothing is known. */
function progressOf(status) {
  const within = (value, most) => typeof value === "number" && value >= 0 && value <= most;
  if (!within(status?.progress, 1)) return null;
  return { done: status.progress, left: within(status.remaining, Number.MAX_SAFE_INTEGER) ? status.remaining : null };
}

/** Why the training failed; null when it did not. */
function failureOf({ ti, status, state, kind }, log) {
  const error = log?.error ?? null;
  const ended = state === "failed" || state === "stopped";
  const bad = ended || ["failed", "up_for_retry"].includes(ti.state);
  if (!bad || kind === "cleared" || kind === "other") return null;
  const { message, reason, exitCode } = ended ? endOf(status) : NO_END;
  return {
    message: message || (error ? error.text.split("\n")[0] : ""),
    reason,
    exitCode,
    lastLine: state === "failed" && log?.ofJob ? lastOf(log.lines) : "",
    detail: error && error.text !== message ? `${error.type}: ${error.text}` : "",
  };
}

const NO_END = { message: "", reason: "", exitCode: null };

/** What the service says about the end of the job. */
const endOf = (status) => ({
  message: text(status?.message),
  reason: text(status?.reason),
  exitCode: typeof status?.exitCode === "number" ? status.exitCode : null,
});

/** The job's last line, which most often is the exception of the script. */
function lastOf(lines) {
  const last = lines.findLast((line) => line.text.trim() && !line.text.startsWith("jobapi: "));
  return last ? last.text.trim().slice(0, 500) : "";
}

const HEADLINES = {
  queued: ["Queued", "active", "The job waits for its turn."],
  running: ["Training", "active", "The job is running."],
  storing: ["Storing the model", "active", "The training is over; the service stores the model."],
  successful: ["Trained", "good", "The job was successful."],
  failed: ["Failed", "bad", "The job failed."],
  stopped: ["Stopped", "bad", "The job was stopped."],
};

const WITHOUT_TRAINING = {
  cleared: ["Cleared", "idle", "The task was cleared and trains again when its turn comes; the results of the earlier training are gone."],
  waiting: ["Not run yet", "idle", "The training has not begun: this task waits for its turn."],
  fetch: ["No training", "idle", "This task fetches the model of a training."],
  other: ["No training", "idle", "This task is not a training, so there is nothing to show here."],
  forbidden: ["No permission", "idle", "You may not read the XComs of this DAG, which hold the training."],
};

const headline = ([title, tone, sentence]) => ({ title, tone, sentence });

function headlineOf(view, { ti }) {
  if (view.kind in WITHOUT_TRAINING) return headline(view.kind === "other" && neverRan(ti) ? NEVER : WITHOUT_TRAINING[view.kind]);
  if (view.kind === "jobless") return headline(joblessOf(ti));
  return headline(trainingOf(view));
}

const NEVER = ["Not run yet", "idle", "This task has not run, so there is nothing to show yet."];
const neverRan = (ti) => BEFORE.has(ti.state) || (isOver(ti) && !ti.start_date);

function joblessOf(ti) {
  if (ti.state === "skipped" || ti.state === "removed") return ["Skipped", "idle", "The task was skipped; nothing was trained."];
  if (ti.state === "upstream_failed") return ["Not run", "idle", "A task before this one failed, so nothing was trained."];
  if (ti.state === "success") return ["No job", "idle", "The task was marked success before it submitted a job."];
  if (ti.state === "failed") return ["Failed", "bad", "The task failed before it submitted a job."];
  if (ti.state === "up_for_retry") return ["Failed", "bad", "This try failed before it submitted a job; another try follows."];
  return ["Submitting", "active", "The task prepares the job: it uploads the script and the data, and submits."];
}

function trainingOf({ ti, state, status, facts }) {
  const message = text(status?.message);
  if (state === "left") {
    return ti.state === "success"
      ? ["Ended", "idle", `The task was marked success while its job was running${facts ? "; the job was asked to stop" : ""}.`]
      : ["Failed", "bad", "The task ended before its job did."];
  }
  if (state === null) return ["Submitted", "active", "The job was submitted; its first status has not been read yet."];
  const [title, tone, sentence] = HEADLINES[state];
  const reason = state === "queued" && message ? ` ${message}` : "";
  return [title, tone, sentence + reason + after(ti, state)];
}

/** What the task does, or did, after the end of its job. */
function after(ti, state) {
  if (state === "successful") {
    if (ti.state === "failed") return " The task failed afterwards.";
    if (ti.state === "up_for_retry") return " The task failed afterwards; another try follows, without a new training.";
    return isOver(ti) ? "" : " The task reads its results.";
  }
  if (ti.state === "up_for_retry") return " Another try follows.";
  return ti.state === "success" ? " The task was marked success." : "";
}
