# SPDX-License-Identifier: Apache-2.0
"""What the page about metrics shows is so: its lines, its snippets, its limits."""

from __future__ import annotations

import importlib
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
from airflow_provider_jobapi.training.metrics.helper import readable
from airflow_provider_jobapi.training.metrics.patterns import LinePatterns, documented
from airflow_provider_jobapi.training.metrics.progress import Progress

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "metrics.md").read_text()
SNIPPETS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_table_shows_each_rule_with_its_line_metrics_and_step(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    rows = importlib.import_module("metric_table").table().splitlines()[2:]
    assert "```{metric-rules}" in PAGE
    for row, (rule, measured) in zip(rows, documented(), strict=True):
        assert row.startswith(f"| {rule.name} |")
        assert all(f"`{name}`" in row for name in measured.values)
        assert row.endswith(f" {measured.step:.4g} |" if measured.step is not None else " |  |")


def test_what_the_rules_exclude_is_none():
    sentences = re.split(r"[.;]\s", PAGE[PAGE.index("rules:\n\n- A name") : PAGE.index("## Definitions")])
    excluded = [line for said in sentences if said.endswith(" none") for line in re.findall("`(.*?)`", said)]
    assert {"--learning_rate=0.1", "loss=1,234.5", "account_id: 33", "seed=42,", "losses: 1, 2"} <= set(excluded)
    assert [line for line in excluded if LinePatterns().read(line).values] == []


SECTION = PAGE[PAGE.index("## Progress and time left") : PAGE.index("## What is kept")]
ROWS = re.findall(r"^\| (`.*) \| ([^`|]*) \|$", SECTION, re.MULTILINE)


@pytest.mark.parametrize(("lines", "expected"), ROWS)
def test_the_lines_that_tell_the_progress_do_so(lines, expected):
    first, *others = re.findall("`(.*?)`", lines.replace("\\|", "|"))
    texts = [first, others[0]] if ", then `" in lines else [others[0], first] if " after `" in lines else [first]
    progress = Progress()
    for now, text in enumerate(texts):
        progress.read(text, now)
    told = progress.estimate(1.0)
    number = re.match(r"[\d.]+", expected)
    assert (None if told is None else told.progress) == (number and pytest.approx(float(number[0]), abs=0.01))


def test_the_table_about_the_progress_was_found():
    assert len(ROWS) == 12


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
    if "progress(" in code:  # at most one line a second, and the last one
        assert written
        assert readable(written[-1]) == "progress: 1000 of 1000"
    else:
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
