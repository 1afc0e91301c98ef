// SPDX-License-Identifier: Apache-2.0
// The section with all charts, and its switches.

import { Chart } from "./chart.js";
import { many, number } from "./format.js";
import { charts } from "./metrics.js";
import { React, h } from "./react.js";

const FIRST = 24;
const SEARCH_FROM = 9;

/** The charts of all metrics, with the curves of earlier tries beneath those of this one. */
export function Curves({ view }) {
  const [log, setLog] = React.useState(false);
  const [overlay, setOverlay] = React.useState(true);
  const [search, setSearch] = React.useState("");
  const [all, setAll] = React.useState(false);
  const tries = overlay ? view.tries : [];
  const source = view.metrics.size || !view.tries.length ? view.metrics : view.tries[0].metrics;
  const every = React.useMemo(() => charts(source, tries), [source, overlay, view.tries]);
  const wanted = every.filter(({ names }) => names.some((name) => name.toLowerCase().includes(search.trim().toLowerCase())));
  const shown = all ? wanted : wanted.slice(0, FIRST);
  return h(
    "section",
    { "aria-labelledby": "jt-curves" },
    h(
      "div",
      { className: "jt-bar" },
      h("h2", { id: "jt-curves" }, "Metrics"),
      h(Switch, { label: "Log scale", on: log, set: setLog }),
      view.tries.length > 0 && h(Switch, { label: view.tries.length > 1 ? "Earlier tries" : "Earlier try", on: overlay, set: setOverlay }),
      every.length >= SEARCH_FROM && h("input", { type: "search", "aria-label": "Find a metric", placeholder: "Find a metric", value: search, onChange: (event) => setSearch(event.target.value) }),
    ),
    view.leftOut > 0 && h("p", { className: "jt-note" }, `The job wrote ${many(view.leftOut, "more metric")}, of which nothing is kept.`),
    h(
      "div",
      { className: "jt-charts" },
      shown.map((chart) => h(Chart, { key: chart.names[0], chart, log, mark: markOf(chart) })),
    ),
    !shown.length && h("p", { className: "jt-muted" }, `No metric's name holds “${search.trim()}”.`),
    shown.length < wanted.length && h("button", { type: "button", onClick: () => setAll(true) }, `Show all ${number(wanted.length)} charts`),
  );
}

/** A text that changes whenever the chart must be drawn again. */
const markOf = ({ lines }) => lines.map(({ label, series }) => `${label}:${series.count}:${series.values.length}:${series.last}:${series.steps.at(-1)}`).join("|");

function Switch({ label, on, set }) {
  return h("label", { className: "jt-switch" }, h("input", { type: "checkbox", role: "switch", checked: on, onChange: (event) => set(event.target.checked) }), label);
}
