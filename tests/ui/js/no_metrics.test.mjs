// SPDX-License-Identifier: Apache-2.0
// What the page says where a job has no curve.

import assert from "node:assert/strict";
import { test } from "node:test";

import { RECOGNISED, sentences } from "../../../airflow_provider_jobapi/ui/static/no_metrics.js";

test("it says what to do, and whether the job may still write one", () => {
  assert.deepEqual(sentences(true), [
    "No metric was found in the lines of this job.",
    "A line such as epoch=3 loss=0.25 makes a curve. For lines of another form, set metric_definitions on the task, or write with the helper jobapi_metrics.py.",
  ]);
  assert.match(sentences(false)[0], / yet\.$/);
});

test("the link leads to the page beside the files of the tab", () => {
  assert.match(RECOGNISED, /\/ui\/static\/metrics\.html$/);
});
