// SPDX-License-Identifier: Apache-2.0
// The metrics XCom is written by a job's trigger from what the job printed, so the page trusts nothing in it.

import assert from "node:assert/strict";
import { test } from "node:test";

import { base, charts, omissions, readMetrics, readSeries, readTries } from "../../../airflow_provider_jobapi/ui/static/metrics.js";

const series = (values, steps) => ({ values, steps });

test("a series is read in the order of its steps", () => {
  const read = readSeries({ values: [0.3, 0.1, 0.2], steps: [3, 1, 2], times: [30, 10, 20], count: 9, last: 0.3, min: 0.1, max: 0.3 });
  assert.deepEqual(read, { steps: [1, 2, 3], values: [0.1, 0.2, 0.3], times: [10, 20, 30], count: 9, last: 0.3, min: 0.1, max: 0.3 });
});

test("what a series lacks has a default", () => {
  assert.deepEqual(readSeries({ values: [5, 6] }), { steps: [1, 2], values: [5, 6], times: [null, null], count: 2, last: 6, min: null, max: null });
});

test("values that are neither numbers nor the three words are left out", () => {
  const read = readSeries({ values: [1, "NaN", "<b>", null, {}, "-Infinity", Number.NaN], steps: [1, 2, 3, 4, 5, 6, 7] });
  assert.deepEqual(read.values, [1, "NaN", "-Infinity"]);
  assert.deepEqual(read.steps, [1, 2, 6]);
});

test("hostile shapes give no series", () => {
  for (const given of [null, undefined, 7, "text", [], {}, { values: "text" }, { values: [] }, { values: [{}] }]) assert.equal(readSeries(given), null);
});

test("at most 5,000 points of a series are read", () => assert.equal(readSeries({ values: Array(9000).fill(1) }).values.length, 5000));

test("a metric may have the name of a property that every object has", () => {
  const given = JSON.parse('{"metrics": {"__proto__": {"values": [1]}, "constructor": {"values": [2]}, "bad": 3}}');
  assert.deepEqual([...readMetrics(given).keys()], ["__proto__", "constructor"]);
});

test("content that holds no metrics gives none", () => {
  for (const given of [null, 5, {}, { metrics: [] }, { metrics: "x" }]) assert.equal(readMetrics(given).size, 0);
});

test("the part of the data is cut off a metric's name", () => {
  assert.deepEqual(["val_loss", "train/loss", "Eval.f1", "test-acc", "loss", "value", "val_"].map(base), ["loss", "loss", "f1", "acc", "loss", "value", "val_"]);
});

const metrics = (names) => readMetrics({ metrics: Object.fromEntries(names.map((name) => [name, series([1, 2])])) });

test("metrics that measure the same share a chart", () => {
  const made = charts(metrics(["loss", "lr", "val_loss"]));
  assert.deepEqual(made.map(({ title, names }) => [title, names]), [["loss", ["loss", "val_loss"]], ["lr", ["lr"]]]);
  assert.deepEqual(made[0].lines.map(({ label, hue, try: number }) => [label, hue, number]), [["loss", 0, null], ["val_loss", 1, null]]);
});

test("the curves of earlier tries lie beneath those of this one", () => {
  const [chart] = charts(metrics(["loss"]), [{ number: 2, metrics: metrics(["loss"]) }, { number: 1, metrics: metrics(["other"]) }]);
  assert.deepEqual(chart.lines.map(({ label, try: number, age }) => [label, number, age]), [["loss", null, undefined], ["loss, try 2", 2, 0]]);
});

test("earlier tries are read from the state store, latest first, four at the most", () => {
  const entry = (number, job = `j${number}`) => ({ key: `training_metrics_${number}`, value: { try: number, job_id: job, status: "FAILED", metrics: { loss: series([number]) } } });
  const entries = [...[1, 2, 3, 4, 5].map((number) => entry(number)), entry(6, "now"), { key: "other", value: entry(7).value }, { key: "training_metrics_8" }, null];
  assert.deepEqual(readTries(entries, "now").map(({ number }) => number), [5, 4, 3, 2]);
  assert.deepEqual(readTries("not a list", "now"), []);
});

test("what a chart cannot show is said in sentences", () => {
  const lines = [{ label: "loss", series: readSeries({ values: [1, "NaN", "NaN", -1, 0], steps: [1, 2, 3, 4, 5] }) }];
  assert.deepEqual(omissions(lines, false), ["loss is NaN at step 2 and later."]);
  assert.deepEqual(omissions(lines, true), ["loss is NaN at step 2 and later.", "loss: 2 of 5 values are not above 0 and have no place on a log scale."]);
});
