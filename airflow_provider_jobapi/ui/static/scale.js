// SPDX-License-Identifier: Apache-2.0
// Maps values to positions on a chart: extents, ticks, axes, and paths with gaps where a value cannot be drawn.

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** Whether a value has a position on the chart. */
export const drawable = (value, log) => isNumber(value) && (!log || value > 0);

/** The lowest and the highest value of some lists; null where nothing can be drawn. */
export function extent(lists, log = false) {
  let [low, high] = [Infinity, -Infinity];
  for (const values of lists) {
    for (const value of values) {
      if (!drawable(value, log)) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  return low <= high ? [low, high] : null;
}

/** Round ticks between two values, about `count` of them; `whole` for axes of whole numbers. */
export function ticks(low, high, count = 5, whole = false) {
  const raw = (high - low) / Math.max(1, count);
  if (!(raw > 0) || !Number.isFinite(raw)) return { step: 1, at: [low] };
  const power = 10 ** Math.floor(Math.log10(raw));
  const round = power * [1, 2, 5, 10].find((each) => each * power >= raw * 0.999);
  const step = whole ? Math.max(1, round) : round;
  const at = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index += 1) at.push(index * step);
  return { step, at: at.length ? at : [low] };
}

/** Ticks of a logarithmic axis: powers of ten, and 2 and 5 between them where there is room; round ones below a decade. */
export function logTicks(low, high, count = 5) {
  if (high / low < 10) return ticks(low, high, count).at;
  const [from, to] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const every = Math.max(1, Math.ceil((to - from) / count));
  const parts = to - from <= 2 ? [1, 2, 5] : [1];
  const at = [];
  for (let power = from; power <= to; power += every) for (const part of parts) at.push(part * 10 ** power);
  const inside = at.filter((value) => value >= low * 0.999 && value <= high * 1.001);
  return inside.length >= 2 ? inside : [low, high];
}

/** An axis: `place` maps a value to its position, `at` are its ticks. */
export function axis(range, from, to, { log = false, count = 5, pad = true, whole = false } = {}) {
  const [lowest, highest] = range ?? [0, 1];
  if (log) {
    const spread = lowest === highest ? 2 : (highest / lowest) ** 0.04;
    const [low, high] = [lowest / spread, highest * spread];
    const scale = (to - from) / Math.log(high / low);
    return { place: (value) => from + Math.log(value / low) * scale, at: logTicks(low, high, count), step: 0 };
  }
  const room = lowest === highest ? Math.abs(lowest) * 0.1 || 1 : (highest - lowest) * (pad ? 0.04 : 0);
  const [low, high] = [lowest - room, highest + room];
  const wide = high - low;
  // The difference of two huge numbers may be infinite.
  const place = (value) => from + (Number.isFinite(wide) ? (value - low) / wide : value / high / 2 + 0.5) * (to - from);
  const { step, at } = ticks(low, high, count, whole);
  return { place, at, step };
}

/** The SVG path of a series, and the points between two gaps, which need a dot since a path would not show them. */
export function path(steps, values, x, y, log) {
  const [parts, alone] = [[], []];
  let run = 0;
  for (let index = 0; index < values.length; index += 1) {
    if (!drawable(values[index], log)) {
      run = 0;
      continue;
    }
    const [left, top] = [x(steps[index]).toFixed(1), y(values[index]).toFixed(1)];
    parts.push(`${run ? "L" : "M"}${left} ${top}`);
    if (!run && !drawable(values[index + 1], log)) alone.push([left, top]);
    run += 1;
  }
  return { line: parts.join(""), alone };
}

/** The index of the step nearest to a value; steps are ascending. */
export function nearest(steps, wanted) {
  let [low, high] = [0, steps.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps[middle] < wanted) low = middle + 1;
    else high = middle;
  }
  return low > 0 && wanted - steps[low - 1] <= steps[low] - wanted ? low - 1 : low;
}
