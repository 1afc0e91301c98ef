// SPDX-License-Identifier: Apache-2.0
// The job's status: the headline, which screen readers announce when it changes, and the phases with their durations.

import { clock, moment, span, timeLeft } from "./format.js";
import { React, h } from "./react.js";

const MARKS = { done: "✓", good: "✓", bad: "✕", cut: "■", active: "", todo: "", skipped: "" };
const SPOKEN = { done: "over", good: "reached", bad: "failed", cut: "cut short", active: "now", todo: "to come", skipped: "not reached" };

/** The page's headline. */
export function Headline({ view }) {
  const name = [view.facts?.name, view.status?.name].find((each) => each && typeof each === "string");
  return h(
    "header",
    { className: "jt-head" },
    h("div", { className: `jt-badge jt-${view.tone}` }, h("span", { className: "jt-dot", "aria-hidden": true }), view.title),
    h("p", { className: "jt-sentence", role: "status" }, h("span", { className: "jt-hidden" }, `${view.title}: `), view.sentence),
    name && h("p", { className: "jt-name" }, name, view.ti?.try_number > 1 && h("span", null, `try ${view.ti.try_number}`)),
  );
}

/** How far the training is, where that is known. */
export function Progress({ progress: { done, left } }) {
  const percent = Math.floor(done * 100 + 1e-9);
  const words = [`${percent} %`, left !== null && (done < 1 ? timeLeft(left) : "finishing")].filter(Boolean);
  return h(
    "div",
    { className: "jt-progress" },
    h(
      "div",
      { className: "jt-track", role: "progressbar", "aria-label": "Progress of the training", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": percent, "aria-valuetext": words.join(", ") },
      h("div", { style: { width: `${done * 100}%` } }),
    ),
    h("p", { "aria-hidden": true }, h("b", null, words[0]), words.length > 1 && ` · ${words[1]}`),
  );
}

/** The phases, each with its duration; the active one counts its seconds. */
export function Timeline({ view }) {
  const ahead = view.now - Date.now();
  const running = view.phases.some((phase) => phase.look === "active");
  const now = useNow(running) + ahead;
  return h(
    "ol",
    { className: "jt-timeline", "aria-label": "Timeline" },
    view.phases.map((phase) => h(Phase, { key: phase.key, phase, now })),
  );
}

function Phase({ phase, now }) {
  const { look, label, begin, end } = phase;
  const began = !Number.isNaN(begin);
  const lasted = began ? span(((Number.isNaN(end) ? now : end) - begin) / 1000) : "";
  return h(
    "li",
    { className: `jt-phase jt-${look}`, "aria-current": look === "active" ? "step" : undefined },
    h("span", { className: "jt-mark", "aria-hidden": true }, MARKS[look]),
    h("span", { className: "jt-label" }, label, h("span", { className: "jt-hidden" }, `, ${SPOKEN[look]}`)),
    h("span", { className: "jt-span" }, ...(phase.key === "end" ? whole(phase) : [lasted])),
    h("span", { className: "jt-clock", title: began ? moment(begin) : undefined }, began ? clock(begin) : ""),
  );
}

const whole = ({ begin, first }) =>
  Number.isNaN(begin) || Number.isNaN(first) ? [] : [span((begin - first) / 1000), h("span", { className: "jt-wide" }, " in all")];

/** The current time, updated every second while a phase is active. */
function useNow(running) {
  const [now, setNow] = React.useState(Date.now);
  React.useEffect(() => {
    if (!running) return undefined;
    const timer = setInterval(() => document.hidden || setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, [running]);
  return running ? Math.max(now, Date.now() - 1000) : now;
}

/** Why the training failed. */
export function Failure({ failure }) {
  const { message, reason, exitCode, detail, lastLine } = failure;
  const facts = [reason, exitCode !== null && `exit code ${exitCode}`].filter(Boolean).join(" · ");
  return h(
    "section",
    { className: "jt-failure", "aria-labelledby": "jt-failure" },
    h("h2", { id: "jt-failure" }, "Why it failed"),
    h("p", { className: "jt-reason" }, message || "No reason was given; see the log below."),
    lastLine && h("p", { className: "jt-quote" }, h("span", { className: "jt-hidden" }, "The job's last line: "), lastLine),
    facts && h("p", { className: "jt-muted" }, facts),
    detail && h("details", null, h("summary", null, "What Airflow says"), h("pre", { tabIndex: 0 }, detail)),
  );
}
