// SPDX-License-Identifier: Apache-2.0
// What was submitted, where the model is, and the end of the log.

import { bytes, clock, many, moment, number, span } from "./format.js";
import { React, h } from "./react.js";
import { modelOf } from "./status.js";

const isObject = (value) => value !== null && typeof value === "object";
const list = (value) => (Array.isArray(value) ? value : []);
const isGiven = (value) => value !== null && value !== undefined && value !== "";
const code = (value) => h("code", null, String(value));

/** The location of the model, or what is known of it so far, its kind, and whether it is unsafe to load. */
export function Model({ view }) {
  const { place, note, kind, unsafe } = modelOf(view);
  if (!place && !note && !kind) return null;
  return h(
    "section",
    { className: "jt-card jt-model", "aria-labelledby": "jt-model" },
    h("h2", { id: "jt-model" }, "Model"),
    place && h("p", null, /^https?:\/\//i.test(place) ? h("a", { href: place, rel: "noopener noreferrer", target: "_blank" }, place) : code(place)),
    note && h("p", { className: "jt-muted" }, note),
    kind && h("p", null, "Kind: ", code(kind)),
    unsafe && h("p", { className: "jt-note" }, unsafe),
  );
}

/** What was submitted. */
export function Facts({ view }) {
  const rows = rowsOf(view).filter(([, value]) => isGiven(value));
  return h(
    "section",
    { className: "jt-card", "aria-labelledby": "jt-facts" },
    h("h2", { id: "jt-facts" }, "Job"),
    h(
      "dl",
      { className: "jt-facts" },
      rows.map(([name, value]) => h(React.Fragment, { key: name }, h("dt", null, name), h("dd", null, value))),
    ),
  );
}

function rowsOf({ jobId, facts, status, rules }) {
  const given = facts ?? {};
  const requirements = list(given.requirements);
  return [
    ["Job id", jobId && code(jobId)],
    ["Entry point", given.entry_point && code(given.entry_point)],
    ["Code version", versionOf(given.code_version)],
    ["Image", given.image && code(given.image)],
    ["Resources", resourcesOf(given.resources, given.nodes)],
    ["Requirements", requirements.length > 0 && h("ul", null, requirements.map((line, index) => h("li", { key: index }, code(line))))],
    ["Data", dataOf(list(given.data))],
    ["Data version", versionOf(given.data_version ?? status?.dataVersion)],
    ["Time limit", typeof given.completion_time === "number" ? span(given.completion_time) : null],
    ["Submitted", isGiven(given.submitted) && moment(Date.parse(given.submitted))],
    ["Connection", given.conn_id && code(given.conn_id)],
    ["Metrics read as", list(rules).length > 0 && rules.join(", ")],
    ["Runs in", status?.containerID && code(status.containerID)],
    ["Continues the checkpoints of", typeof status?.resumedFrom === "string" && status.resumedFrom !== "" && code(status.resumedFrom)],
    ["Jobs before it", given.generation > 0 ? `${number(given.generation)} that failed since the task was last cleared` : null],
  ].map(([name, value]) => [name, value === false ? null : value]);
}

/** The first digits of a SHA-256; the XCom holds all of them. */
const versionOf = (given) => typeof given === "string" && given !== "" && h("code", { title: given }, given.length > 16 ? `${given.slice(0, 12)}…` : given);

function resourcesOf(given, nodes) {
  if (!isObject(given)) return null;
  const parts = [
    typeof given.cpus === "number" && many(given.cpus, "CPU"),
    given.gpus > 0 && many(given.gpus, "GPU"),
    typeof given.memory === "number" && `${number(given.memory)} MB of memory`,
  ];
  if (nodes > 1) parts.push(`on each of ${number(nodes)} nodes`);
  return parts.filter(Boolean).join(", ");
}

function dataOf(files) {
  if (!files.length) return null;
  const lines = files.filter(isObject).map((file, index) => {
    if (file.more > 0) return h("li", { key: index }, `and ${number(file.more)} more`);
    return h("li", { key: index, title: file.sha256 ? `SHA-256 ${file.sha256}` : undefined }, code(file.name), ` ${bytes(file.size)}`);
  });
  return h("ul", null, lines);
}

const SHOWN = 14;

/** The last lines of the log. */
export function LastLines({ log, href }) {
  const lines = log.lines.slice(-SHOWN);
  return h(
    "section",
    { className: "jt-card", "aria-labelledby": "jt-log" },
    h("div", { className: "jt-bar" }, h("h2", { id: "jt-log" }, log.ofJob || !lines.length ? "Last lines of the job" : "Last lines of the log"), h("a", { href }, "Whole log")),
    log.refused && h("p", { className: "jt-note" }, refusal(log.refused)),
    !log.refused && !lines.length && h("p", { className: "jt-muted" }, "No line yet."),
    lines.length > 0 &&
      h(
        "pre",
        { className: "jt-log", tabIndex: 0, role: "group", "aria-labelledby": "jt-log" },
        lines.map((line, index) => h("span", { key: index, className: `jt-${line.level}` }, h("time", null, clock(line.time)), line.text, "\n")),
      ),
  );
}

const refusal = ({ status, message }) =>
  status === 403 || status === 401 ? "You may not read the logs of this DAG." : `The log cannot be read now: ${message}`;
