// SPDX-License-Identifier: Apache-2.0
// What to do where no metric was found in the lines of a job.

import { h } from "./react.js";

/** The page of the lines that are recognised, by the installed version of the provider. */
export const RECOGNISED = new URL("metrics.html", import.meta.url).href;

/** What stands in place of the charts. */
export function sentences(over) {
  return [
    over ? "No metric was found in the lines of this job." : "No metric was found in the lines of this job yet.",
    "A line such as epoch=3 loss=0.25 makes a curve. For lines of another form, set metric_definitions on the task, or write with the helper jobapi_metrics.py.",
  ];
}

/** The section of the charts where there are none. */
export function NoMetrics({ over }) {
  const [fact, advice] = sentences(over);
  return h(
    "section",
    { "aria-labelledby": "jt-curves" },
    h("h2", { id: "jt-curves" }, "Metrics"),
    h("p", { className: "jt-muted" }, fact),
    h("p", { className: "jt-muted" }, advice, " ", h("a", { href: RECOGNISED, rel: "noopener", target: "_blank" }, "Which lines are recognised"), "."),
  );
}
