// SPDX-License-Identifier: Apache-2.0
// Numbers, spans, sizes and times as the Training tab shows them.

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import { bytes, clock, many, moment, number, span, tick, timeLeft } from "../../../airflow_provider_jobapi/ui/static/format.js";

const table = (name, shown, rows) =>
  rows.forEach(([given, expected]) => test(`${name}: ${JSON.stringify(given) ?? "undefined"} is shown as ${expected}`, () => assert.equal(shown(given), expected)));

table("a metric", number, [
  [undefined, "–"],
  [null, "–"],
  [0, "0"],
  [-0, "0"],
  [0.25, "0.25"],
  [-0.25, "−0.25"],
  [0.123456789, "0.12346"],
  [12345.678, "12,346"],
  [999999, "1,000,000"],
  [1e6, "1e6"],
  [1234567, "1.235e6"],
  [0.00001234, "1.234e−5"],
  [-1e-7, "−1e−7"],
  ["NaN", "NaN"],
  ["-Infinity", "−Infinity"],
  [Number.POSITIVE_INFINITY, "Infinity"],
]);

table("a span of seconds", span, [
  [Number.NaN, "–"],
  [-1, "0.0 s"],
  [0, "0.0 s"],
  [4.24, "4.2 s"],
  [9.96, "10 s"],
  [59.4, "59 s"],
  [59.6, "1 min"],
  [60, "1 min"],
  [192, "3 min 12 s"],
  [3600, "1 h"],
  [7500, "2 h 5 min"],
  [86400, "1 d"],
  [273600, "3 d 4 h"],
]);

table("a size", bytes, [
  [undefined, ""],
  ["5", ""],
  [0, "0 B"],
  [999, "999 B"],
  [1000, "1.0 KB"],
  [9949, "9.9 KB"],
  [9950, "10 KB"],
  [999_499, "999 KB"],
  [999_500, "1.0 MB"],
  [5e12, "5.0 TB"],
  [5e15, "5000 TB"],
]);

test("one of a thing has no plural", () => {
  assert.equal(many(1, "GPU"), "1 GPU");
  assert.equal(many(0, "GPU"), "0 GPUs");
  assert.equal(many(1200, "entry", "entries"), "1,200 entries");
});

test("a tick has the digits that its step needs", () => {
  assert.equal(tick(0.30000000000000004, 0.1), "0.3");
  assert.equal(tick(-2, 1), "−2");
  assert.equal(tick(-1e-12, 0.5), "0");
  assert.equal(tick(5000, 1000), "5000");
  assert.equal(tick(20000, 10000), "20,000");
  assert.equal(tick(200000, 100000), "2e5");
  assert.equal(tick(0.00025, 0.00005), "2.5e−4");
});

const keep = (zone) => {
  globalThis.localStorage = { getItem: () => zone };
};

afterEach(() => {
  delete globalThis.localStorage;
});

const NOON = Date.UTC(2026, 0, 5, 12, 30, 15);

test("a time is shown in the zone that was chosen in Airflow", () => {
  keep('"Asia/Tokyo"');
  assert.equal(clock(NOON), "21:30:15");
  assert.match(moment(NOON), /^5 Jan 2026,? (at )?21:30:15 /);
  keep('"UTC"');
  assert.equal(clock(NOON), "12:30:15");
});

test("a zone that no browser knows falls back to the browser's own", () => {
  keep('"Nowhere/Land"');
  const own = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" }).format(NOON);
  assert.equal(clock(NOON), own);
  keep("not JSON");
  assert.equal(clock(NOON), own);
});

test("what is no time is shown as nothing", () => assert.equal(clock(Number.NaN), ""));

test("a time that is left is as exact as it can be known", () => {
  const texts = { 0: "less than a minute", 49: "less than a minute", 50: "about 1 min", 740: "about 12 min", 3576: "about 1 h", 7860: "about 2 h 10 min", 93600: "about 1 d 2 h", 172800: "about 2 d" };
  for (const [seconds, text] of Object.entries(texts)) assert.equal(timeLeft(Number(seconds)), `${text} left`);
});
