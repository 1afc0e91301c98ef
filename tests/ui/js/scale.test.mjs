// SPDX-License-Identifier: Apache-2.0
// Places on a chart: extents, ticks, axes and paths.

import assert from "node:assert/strict";
import { test } from "node:test";

import { axis, drawable, extent, logTicks, nearest, path, ticks } from "../../../airflow_provider_jobapi/ui/static/scale.js";

const close = (given, expected) => assert.ok(Math.abs(given - expected) < 1e-9, `${given} is not ${expected}`);

test("what has no place is not drawn", () => {
  assert.deepEqual([1, 0, -1, Number.NaN, "NaN", null].map((value) => drawable(value, false)), [true, true, true, false, false, false]);
  assert.deepEqual([1, 0, -1].map((value) => drawable(value, true)), [true, false, false]);
});

test("an extent leaves out what is not drawn", () => {
  assert.deepEqual(extent([[3, "NaN", 1], [7]]), [1, 7]);
  assert.deepEqual(extent([[-3, 0, 5, 2]], true), [2, 5]);
  assert.equal(extent([["Infinity"], []]), null);
  assert.deepEqual(extent([[4]]), [4, 4]);
});

test("ticks are round and inside", () => {
  assert.deepEqual(ticks(0, 10, 5).at.map((value) => value + 0), [0, 2, 4, 6, 8, 10]);
  assert.deepEqual(ticks(-1, 1, 4).at.map((value) => value + 0), [-1, -0.5, 0, 0.5, 1]);
  assert.equal(ticks(1, 2, 5, true).step, 1);
  assert.deepEqual(ticks(3, 3), { step: 1, at: [3] });
  assert.deepEqual(ticks(0, Number.POSITIVE_INFINITY), { step: 1, at: [0] });
});

test("a logarithmic axis has powers of ten", () => {
  assert.deepEqual(logTicks(1, 1000), [1, 10, 100, 1000]);
  assert.deepEqual(logTicks(1, 100).map((value) => Number(value.toPrecision(6))), [1, 2, 5, 10, 20, 50, 100]);
  assert.deepEqual(logTicks(1, 5), ticks(1, 5).at);
  assert.ok(logTicks(1e-300, 1e300).length < 12);
});

test("an axis places its ends a little inside, or exactly without padding", () => {
  const exact = axis([0, 10], 100, 200, { pad: false });
  close(exact.place(0), 100);
  close(exact.place(10), 200);
  const padded = axis([0, 10], 100, 200);
  assert.ok(padded.place(0) > 100 && padded.place(10) < 200);
  close(axis([5, 5], 0, 100).place(5), 50);
  close(axis([0, 0], 0, 100).place(0), 50);
  close(axis(null, 0, 100, { pad: false }).place(0.5), 50);
});

test("values at both ends of the doubles have finite places", () => {
  const huge = axis([-1.7e308, 1.7e308], 0, 100);
  for (const value of [-1.7e308, 0, 1.7e308]) assert.ok(Number.isFinite(huge.place(value)), String(value));
});

test("a logarithmic axis is even in factors", () => {
  const { place } = axis([1, 100], 0, 100, { log: true });
  close(place(10) - place(1), place(100) - place(10));
  assert.ok(Number.isFinite(axis([3, 3], 0, 100, { log: true }).place(3)));
});

test("a path has a gap where a value cannot be drawn, and a dot for a point that stands alone", () => {
  const same = (value) => value;
  assert.deepEqual(path([1, 2, 3, 4], [1, "NaN", 3, 4], same, same, false), { line: "M1.0 1.0M3.0 3.0L4.0 4.0", alone: [["1.0", "1.0"]] });
  assert.deepEqual(path([1], [0], same, same, true), { line: "", alone: [] });
});

test("the nearest step is found by bisection, the lower one of two equally near", () => {
  const steps = [1, 3, 5, 100];
  assert.deepEqual([-9, 1, 2, 2.1, 4, 52, 53, 1e9].map((at) => nearest(steps, at)), [0, 0, 0, 1, 1, 2, 3, 3]);
  assert.equal(nearest([7], 0), 0);
});
