# SPDX-License-Identifier: Apache-2.0
"""What the page about metrics shows is so: its lines, its snippets, its limits."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import pytest
from airflow.sdk import DAG

from airflow_provider_jobapi.operators.training import SubmitTrainingOperator
from airflow_provider_jobapi.training import jobapi_metrics
from airflow_provider_jobapi.training.metrics.definitions import read_definitions
from airflow_provider_jobapi.training.metrics.patterns import LinePatterns, readable

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "metrics.md").read_text()
SNIPPETS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
LINES = re.findall(
    r"^\| `(.*?)`(?:, after a line `(.*?)`)?[^|`]* \| (`.*?|both|all three) \| ([\d.]*)", PAGE, re.MULTILINE
)


@pytest.mark.parametrize(("line", "before", "metrics", "step"), LINES)
def test_the_lines_of_the_table_are_recognised(line, before, metrics, step):
    patterns = LinePatterns()
    patterns.read(before)
    read = patterns.read(line.replace("\\|", "|"))
    assert read.step == (pytest.approx(float(step)) if step else None)
    names = re.findall("`(.*?)`", metrics)
    assert list(read.values) == names or (not names and len(read.values) == {"both": 2, "all three": 3}[metrics])


def test_what_the_rules_exclude_is_none():
    sentences = re.split(r"[.;]\s", PAGE[PAGE.index("The rules:") : PAGE.index("## Definitions")])
    excluded = [line for said in sentences if said.endswith(" none") for line in re.findall("`(.*?)`", said)]
    assert {"--learning_rate=0.1", "loss=1,234.5", "pid: 33", "pid: 33, port: 80", "losses: 1, 2"} <= set(excluded)
    assert [line for line in excluded if LinePatterns().read(line).values] == []


def test_the_table_was_found():
    assert len(LINES) == 7


class Keras:
    """As much of it as the page needs."""

    callbacks = SimpleNamespace(LambdaCallback=lambda on_epoch_end: on_epoch_end)

    @staticmethod
    def fit(*_, callbacks, **__):
        callbacks[0](2, {"loss": 0.25})


@pytest.mark.parametrize("code", [code for language, code in SNIPPETS if language == "python"])
def test_the_snippets_run(code, monkeypatch, capsys):
    monkeypatch.setenv("JOB_ID", "j")
    monkeypatch.setitem(sys.modules, "jobapi_metrics", jobapi_metrics)
    monkeypatch.setitem(sys.modules, "keras", Keras)
    known = {"SubmitTrainingOperator": SubmitTrainingOperator, "jobapi_metrics": jobapi_metrics}
    with DAG("page", schedule=None):
        exec(code, {**known, "model": Keras, "x": None, "y": None})  # noqa: S102 -- our own page
    written = capsys.readouterr().out.splitlines()
    assert len(written) == (100 if "for step" in code else "model.fit" in code)
    for line in written:
        jsonschema.validate(json.loads(line), json.loads((DOCS / "metrics.schema.json").read_text()))


def test_the_helpers_line_is_shown_as_the_page_says():
    line = next(code for language, code in SNIPPETS if "jobapi_metrics" in code and language == "json").strip()
    jsonschema.validate(json.loads(line), json.loads((DOCS / "metrics.schema.json").read_text()))
    assert f"`{readable(line)}`" in PAGE


def test_the_largest_expression_that_the_page_shows_is_taken():
    assert "`(?:a{100}){100}`" in PAGE
    assert read_definitions([{"name": "a", "regex": "(?:a{100}){99}(a)"}])
