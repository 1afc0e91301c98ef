// SPDX-License-Identifier: Apache-2.0
// Requests to Airflow's REST API with the cookie of the page, so that the tab shows what the user may see in Airflow.

/** A request that failed; `status` is the HTTP status, 0 when there was no answer. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const root = () => new URL(document.querySelector("head > base")?.getAttribute("href") ?? "/", location.origin);

/** The address of a task instance in the API and in the UI. */
export class Place {
  constructor({ dagId, runId, taskId, mapIndex }) {
    const index = Number.parseInt(mapIndex, 10);
    this.mapIndex = Number.isNaN(index) ? -1 : index;
    this.ids = { dagId, runId, taskId };
    const [dag, run, task] = [dagId, runId, taskId].map((id) => encodeURIComponent(id ?? ""));
    this.instance = `api/v2/dags/${dag}/dagRuns/${run}/taskInstances/${task}`;
    this.page = `dags/${dag}/runs/${run}/tasks/${task}`;
  }

  get mapped() {
    return this.mapIndex >= 0;
  }

  /** The task instance's page in the UI, relative to Airflow's base. */
  pageOf(mapIndex = this.mapIndex) {
    return mapIndex >= 0 ? `${this.page}/mapped/${mapIndex}` : this.page;
  }
}

async function ask(path, query, accept, signal) {
  const url = new URL(path, root());
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
  let answer;
  try {
    answer = await fetch(url, { credentials: "same-origin", headers: { Accept: accept }, signal });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "Airflow does not answer.");
  }
  if (!answer.ok) throw new ApiError(answer.status, await reason(answer));
  return answer;
}

async function reason(answer) {
  try {
    const { detail } = await answer.json();
    return typeof detail === "string" ? detail : `Airflow answered ${answer.status}.`;
  } catch {
    return `Airflow answered ${answer.status}.`;
  }
}

/** Read JSON; `date` is the time of Airflow's clock in milliseconds, NaN without a Date header. */
export async function read(path, query = {}, signal = undefined) {
  const answer = await ask(path, query, "application/json", signal);
  return { body: await answer.json(), date: Date.parse(answer.headers.get("Date") ?? "") };
}

/** The value of an XCom, which older Airflows return as JSON text. */
export function plain(value) {
  if (typeof value !== "string" || !/^[[{"]/.test(value)) return value;
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}

const LOGGER = "airflow_provider_jobapi.triggers";

/**
 * Read the end of a log as a stream, since it may be longer than a browser should hold.
 * Returns the job's last lines, and the last error that Airflow logged.
 */
export async function tail(place, attempt, most, signal) {
  const path = `${place.instance}/logs/${attempt}`;
  const answer = await ask(path, { map_index: place.mapIndex }, "application/x-ndjson", signal);
  const ends = { job: [], all: [], error: null, count: 0 };
  let rest = "";
  const decoder = new TextDecoder();
  const reader = answer.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    const lines = (rest + (done ? "" : decoder.decode(value, { stream: true }))).split("\n");
    rest = done ? "" : lines.pop();
    for (const line of lines) keep(ends, line, most);
    if (done) break;
  }
  const lines = (ends.job.length ? ends.job : ends.all).map(parsed).filter(Boolean).map(record);
  return { lines, ofJob: ends.job.length > 0, count: ends.count, error: errorOf(parsed(ends.error)) };
}

function keep(ends, line, most) {
  if (!line.startsWith("{")) return;
  const ofJob = line.includes(`"${LOGGER}`);
  const list = ofJob ? ends.job : ends.all;
  if (ofJob) ends.count += 1;
  else if (line.includes('"error_detail":[{')) ends.error = line;
  // Notes of Airflow's log reader, such as the names of files, have no time; group markers are not lines.
  if (!ofJob && (!line.includes('"timestamp":"') || /"event":"::(end)?group::/.test(line))) return;
  list.push(line);
  if (list.length > most) list.shift();
}

function parsed(line) {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}

// ANSI colour sequences.
const COLOURS = /\u001b\[[\d;]*m/g;

const record = ({ event, timestamp, level }) => ({
  text: (typeof event === "string" ? event : JSON.stringify(event) ?? "").replace(COLOURS, ""),
  time: Date.parse(timestamp ?? ""),
  level: String(level ?? "info"),
});

function errorOf(line) {
  const last = Array.isArray(line?.error_detail) ? line.error_detail.at(-1) : null;
  return last ? { type: String(last.exc_type ?? "Error"), text: String(last.exc_value ?? "") } : null;
}
