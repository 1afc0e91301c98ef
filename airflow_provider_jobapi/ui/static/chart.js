// SPDX-License-Identifier: Apache-2.0
// One chart: the lines of a metric, a readout that follows the pointer or the arrow keys, and a table of the values.

import { clock, many, number, tick } from "./format.js";
import { omissions } from "./metrics.js";
import { React, h } from "./react.js";
import { axis, drawable, extent, nearest, path } from "./scale.js";

const HEIGHT = 190;
const EDGE = { left: 54, right: 14, top: 10, bottom: 24 };
const HUES = 6;
const DASHES = ["5 3", "2 3", "8 3 2 3", "1 4"];

const isNumber = (value) => typeof value === "number";
const look = (line) => `jt-hue-${line.hue % HUES}${line.try === null ? "" : " jt-earlier"}`;
const dash = (line) => (line.try === null ? undefined : DASHES[line.age % DASHES.length]);

/** One chart, redrawn only when its lines have changed. */
export const Chart = React.memo?.(ChartCard, (one, other) => one.log === other.log && one.mark === other.mark);

function ChartCard({ chart, log }) {
  const current = chart.lines.filter((line) => line.try === null);
  const sentences = omissions(chart.lines, log);
  return h(
    "article",
    { className: "jt-card jt-chart", "aria-label": chart.title },
    h("h3", null, chart.title),
    h(Legend, { lines: chart.lines }),
    h(Plot, { chart, log }),
    sentences.map((sentence) => h("p", { key: sentence, className: "jt-note" }, sentence)),
    h(Values, { chart, count: Math.max(...current.map((line) => line.series.count)) }),
  );
}

function Legend({ lines }) {
  const tries = [...new Set(lines.map((line) => line.try))].filter((each) => each !== null);
  return h(
    "ul",
    { className: "jt-legend" },
    lines
      .filter((line) => line.try === null)
      .map((line) => h("li", { key: line.label, className: look(line) }, h(Swatch, { line }), h("span", { className: "jt-label" }, line.label), h("b", null, number(line.series.last)), h(Range, line.series))),
    tries.map((each) => h(EarlierTry, { key: `try ${each}`, name: `try ${each}`, lines: lines.filter((line) => line.try === each) })),
  );
}

const Range = ({ min, max }) =>
  isNumber(min) && isNumber(max) && h("span", { className: "jt-muted jt-wide", title: "lowest … highest" }, `${number(min)} … ${number(max)}`);

/** The last values of an earlier try, in the order and colours of the lines above. */
const EarlierTry = ({ name, lines }) =>
  h(
    "li",
    null,
    h("span", { className: "jt-muted" }, name),
    lines.map((line) => h("span", { key: line.label, className: "jt-value" }, h(Swatch, { line }), h("span", { className: "jt-hidden" }, line.label), number(line.series.last))),
  );

const Swatch = ({ line }) =>
  h(
    "svg",
    { className: `jt-swatch ${look(line)}`, width: 18, height: 8, "aria-hidden": true },
    h("line", { x1: 0, x2: 18, y1: 4, y2: 4, strokeDasharray: dash(line) }),
  );

/** The positions of everything in a chart of a given width. */
export function layout(lines, width, log) {
  const right = Math.max(EDGE.left + 40, width - EDGE.right);
  const steps = [...new Set(lines.flatMap((line) => line.series.steps))].toSorted((one, other) => one - other);
  const whole = steps.every(Number.isInteger);
  const x = axis(extent([steps]), EDGE.left, right, { pad: false, count: Math.max(3, width / 90), whole });
  const values = extent(lines.map((line) => line.series.values), log);
  const y = axis(values, HEIGHT - EDGE.bottom, EDGE.top, { log, count: 4 });
  const drawn = lines.map((line) => path(line.series.steps, line.series.values, x.place, y.place, log));
  const marks = lines.flatMap((line) => marksOf(line, x, y, log));
  return { x, y, right, drawn, steps, marks, empty: values === null };
}

/** Marks at the edge for values without a position: NaN and −Infinity at the bottom, Infinity at the top. */
function marksOf(line, x, y, log) {
  return line.series.values.flatMap((value, index) => {
    if (drawable(value, log) || typeof value === "number") return [];
    const top = value === "Infinity" ? EDGE.top : HEIGHT - EDGE.bottom;
    return [{ key: `${line.label} ${index}`, left: x.place(line.series.steps[index]), top, look: look(line) }];
  });
}

function Plot({ chart, log }) {
  const [box, width] = useWidth();
  const [at, setAt] = React.useState(null);
  const drawn = React.useMemo(() => layout(chart.lines, width, log), [chart, width, log]);
  const { steps, x } = drawn;
  const index = at === null ? null : Math.min(at, steps.length - 1);
  const point = (event) => {
    const left = event.clientX - event.currentTarget.getBoundingClientRect().left;
    const places = steps.map(x.place);
    setAt(nearest(places, left));
  };
  const props = {
    ref: box,
    className: "jt-plot",
    role: "slider",
    tabIndex: 0,
    "aria-label": `${chart.title}: curve`,
    "aria-valuemin": 0,
    "aria-valuemax": steps.length - 1,
    "aria-valuenow": index ?? steps.length - 1,
    "aria-valuetext": spoken(chart.lines, steps[index ?? steps.length - 1]),
    onPointerMove: point,
    onPointerDown: point,
    onPointerLeave: () => setAt(null),
    onBlur: () => setAt(null),
    onKeyDown: (event) => move(event, index, steps.length, setAt),
  };
  return h(
    "div",
    props,
    h(Drawing, { lines: chart.lines, drawn, width }),
    index !== null && h(Pointed, { lines: chart.lines, step: steps[index], drawn, width, log }),
  );
}

const MOVES = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -Infinity, End: Infinity };

function move(event, index, count, setAt) {
  if (event.key === "Escape") setAt(null);
  if (!(event.key in MOVES)) return;
  event.preventDefault();
  const from = index ?? (MOVES[event.key] < 0 ? count : -1);
  setAt(Math.max(0, Math.min(count - 1, from + MOVES[event.key])));
}

const Drawing = React.memo?.(function Drawing({ lines, drawn, width }) {
  const { x, y, right, marks, empty } = drawn;
  const bottom = HEIGHT - EDGE.bottom;
  return h(
    "svg",
    { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, "aria-hidden": true },
    y.at.map((value) =>
      h(
        "g",
        { key: value, className: "jt-axis" },
        h("line", { x1: EDGE.left, x2: right, y1: y.place(value), y2: y.place(value) }),
        h("text", { x: EDGE.left - 8, y: y.place(value), dy: "0.32em", textAnchor: "end" }, y.step ? tick(value, y.step) : number(value)),
      ),
    ),
    x.at.map((value) => h("text", { key: value, className: "jt-axis", x: x.place(value), y: bottom + 17, textAnchor: "middle" }, tick(value, x.step))),
    h("line", { className: "jt-base", x1: EDGE.left, x2: right, y1: bottom, y2: bottom }),
    lines.map((line, index) => h(Line, { key: line.label, line, shape: drawn.drawn[index] })).toReversed(),
    marks.map(({ key, left, top, look: hue }) => h("path", { key, className: `jt-marks ${hue}`, d: `M${left - 3} ${top - 3}l6 6m0-6l-6 6` })),
    empty && h("text", { className: "jt-axis", x: (EDGE.left + right) / 2, y: HEIGHT / 2, textAnchor: "middle" }, "no value to draw"),
  );
});

function Line({ line, shape }) {
  const last = shape.line.lastIndexOf("L") < 0 ? null : shape.line.slice(shape.line.search(/[ML][^ML]*$/) + 1).split(" ");
  return h(
    "g",
    { className: `jt-line ${look(line)}` },
    h("path", { d: shape.line, strokeDasharray: dash(line) }),
    shape.alone.map(([left, top]) => h("circle", { key: left, cx: left, cy: top, r: 2.5 })),
    line.try === null && last && h("circle", { cx: last[0], cy: last[1], r: 3 }),
  );
}

/** The point of a line that is nearest to a step. */
const pointOf = ({ series }, step) => {
  const index = nearest(series.steps, step);
  return { step: series.steps[index], value: series.values[index], time: series.times[index] };
};

const spoken = (lines, step) =>
  [`step ${number(step)}`, ...lines.map((line) => [line, pointOf(line, step)]).filter(([, point]) => point.step === step).map(([line, point]) => `${line.label} ${number(point.value)}`)].join(", ");

function Pointed({ lines, step, drawn, width, log }) {
  const left = drawn.x.place(step);
  const points = lines.map((line) => ({ line, point: pointOf(line, step) }));
  const seen = points.filter(({ point }) => drawable(point.value, log));
  const time = points.find(({ line, point }) => line.try === null && point.step === step)?.point.time;
  const style = left > width / 2 ? { right: width - left + 10 } : { left: left + 10 };
  return h(
    React.Fragment,
    null,
    h(
      "svg",
      { className: "jt-pointed", width, height: HEIGHT, "aria-hidden": true },
      h("line", { x1: left, x2: left, y1: EDGE.top, y2: HEIGHT - EDGE.bottom }),
      seen.map(({ line, point }) => h("circle", { key: line.label, className: look(line), cx: drawn.x.place(point.step), cy: drawn.y.place(point.value), r: 4 })),
    ),
    h(
      "div",
      { className: "jt-tip", style, "aria-hidden": true },
      h("div", null, h("b", null, `step ${number(step)}`), time && h("span", { className: "jt-muted" }, clock(time * 1000))),
      points.map(({ line, point }) =>
        h("div", { key: line.label }, h(Swatch, { line }), h("span", null, line.label), h("b", null, number(point.value)), point.step !== step && h("span", { className: "jt-muted" }, `at ${number(point.step)}`)),
      ),
    ),
  );
}

/** The width of an element, kept up to date. */
function useWidth() {
  const box = React.useRef(null);
  const [width, setWidth] = React.useState(360);
  React.useLayoutEffect(() => {
    const measure = () => box.current && setWidth(Math.max(160, Math.floor(box.current.clientWidth)));
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);
  return [box, width];
}

/** The values of the curve as a table, made when it is opened. */
function Values({ chart, count }) {
  const [open, setOpen] = React.useState(false);
  const shown = Math.max(...chart.lines.filter((line) => line.try === null).map((line) => line.series.values.length));
  const label = count > shown ? `Values (${shown} of ${many(count, "point")})` : `Values (${many(shown, "point")})`;
  return h(
    "details",
    { onToggle: (event) => setOpen(event.currentTarget.open) },
    h("summary", null, label),
    open && h("div", { className: "jt-scroll", tabIndex: 0, role: "region", "aria-label": `${chart.title}: values` }, h(Table, { chart })),
  );
}

function Table({ chart }) {
  const rows = new Map();
  chart.lines.forEach(({ series }, column) => {
    series.steps.forEach((step, index) => {
      if (!rows.has(step)) rows.set(step, chart.lines.map(() => []));
      rows.get(step)[column].push(number(series.values[index]));
    });
  });
  const steps = [...rows.keys()].toSorted((one, other) => one - other);
  const head = h("tr", null, h("th", { scope: "col" }, "step"), chart.lines.map(({ label }) => h("th", { key: label, scope: "col" }, label)));
  return h(
    "table",
    null,
    h("caption", { className: "jt-hidden" }, `${chart.title} by step`),
    h("thead", null, head),
    h(
      "tbody",
      null,
      steps.map((step) => h("tr", { key: step }, h("th", { scope: "row" }, number(step)), rows.get(step).map((cell, index) => h("td", { key: index }, cell.join(", "))))),
    ),
  );
}
