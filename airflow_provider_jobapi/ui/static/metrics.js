// SPDX-License-Identifier: Apache-2.0
// Reads the metrics XCom. Its content comes from what a job printed, so anything that does not fit is left out.

const WORDS = { NaN: "NaN", Infinity: "Infinity", "-Infinity": "-Infinity" };

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** A number, one of the words for what JSON has no number for, or null for anything else. */
const readValue = (value) => (isNumber(value) ? value : typeof value === "string" ? (WORDS[value] ?? null) : null);

/** Read one series, its points in the order of their steps; null where it has none. */
export function readSeries(given) {
  const values = Array.isArray(given?.values) ? given.values.slice(0, 5000) : [];
  const points = [];
  values.forEach((each, index) => {
    const value = readValue(each);
    if (value === null) return;
    const step = isNumber(given.steps?.[index]) ? given.steps[index] : index + 1;
    points.push({ step, value, time: isNumber(given.times?.[index]) ? given.times[index] : null, index });
  });
  if (!points.length) return null;
  points.sort((one, other) => one.step - other.step || one.index - other.index);
  return {
    steps: points.map((point) => point.step),
    values: points.map((point) => point.value),
    times: points.map((point) => point.time),
    count: isNumber(given.count) ? given.count : points.length,
    last: readValue(given.last) ?? points.at(-1).value,
    min: readValue(given.min),
    max: readValue(given.max),
  };
}

/** Read all series of an XCom by name; into a Map, since a metric may be called __proto__. */
export function readMetrics(content) {
  const found = new Map();
  const given = content?.metrics;
  if (given === null || typeof given !== "object" || Array.isArray(given)) return found;
  for (const [name, each] of Object.entries(given)) {
    const series = readSeries(each);
    if (series) found.set(name, series);
  }
  return found;
}

const PART = /^(?:train|training|val|valid|validation|eval|test)(?:[_./ -])(?=.)/i;

/** The name of a metric without the part of the data it was measured on: loss for loss and val_loss. */
export const base = (name) => name.replace(PART, "");

/** Group metrics into charts: those that measure the same share one, in the order in which they first came. */
export function charts(current, earlier = []) {
  const groups = new Map();
  for (const name of current.keys()) {
    const key = base(name);
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(name);
  }
  return [...groups].map(([key, names]) => {
    const lines = names.map((name, index) => ({ name, label: name, hue: index, series: current.get(name), try: null }));
    for (const [age, one] of earlier.entries()) {
      names.forEach((name, index) => {
        const series = one.metrics.get(name);
        const label = `${name}, try ${one.number}`;
        if (series) lines.push({ name, label, hue: index, series, try: one.number, age });
      });
    }
    return { title: names.length > 1 ? key : names[0], names, lines };
  });
}

const MOST_TRIES = 4;

/** Read the curves of earlier tries from the state store, the latest first. */
export function readTries(entries, jobId) {
  const tries = [];
  for (const entry of Array.isArray(entries) ? entries : []) {
    if (!/^training_metrics_\d+$/.test(entry?.key ?? "")) continue;
    const { value } = entry;
    if (!isNumber(value?.try) || value.job_id === jobId) continue;
    const metrics = readMetrics(value);
    if (metrics.size) tries.push({ number: value.try, jobId: value.job_id, status: String(value.status ?? ""), metrics });
  }
  return tries.toSorted((one, other) => other.number - one.number).slice(0, MOST_TRIES);
}

/** Sentences about the values that a chart cannot show. */
export function omissions(lines, log) {
  const sentences = [];
  for (const { label, series } of lines) {
    for (const word of Object.values(WORDS)) {
      const at = series.steps.filter((_, index) => series.values[index] === word);
      if (at.length) sentences.push(`${label} is ${word.replace("-", "−")} at step ${at[0]}${at.length > 1 ? " and later" : ""}.`);
    }
    const below = log ? series.values.filter((value) => isNumber(value) && value <= 0).length : 0;
    if (below) sentences.push(`${label}: ${below} of ${series.values.length} values are not above 0 and have no place on a log scale.`);
  }
  return sentences;
}
