# SPDX-License-Identifier: Apache-2.0
"""What training programs of many frameworks print, and the curves that come of it; and lines of which none may come."""

from __future__ import annotations

import itertools
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airflow_provider_jobapi.training.logs import LogLine
from airflow_provider_jobapi.training.metrics.definitions import Metrics
from airflow_provider_jobapi.training.metrics.patterns import ALL_RULES, LinePatterns, documented

DATA = Path(__file__).parent / "data"
NOW = datetime(2026, 11, 30, 8, tzinfo=UTC)
BLOCKS = DATA.joinpath("no_metrics.txt").read_text().split("\n---\n")


def formats(path: Path) -> list:
    read = json.loads(path.read_text())["formats"]
    return [pytest.param(each, id=each["printed_by"]) for each in read]


OWN = formats(DATA / "log_formats.json")
GIVEN = formats(Path(os.environ["JOBAPI_TEST_DATA"]) / "log_lines.json") if "JOBAPI_TEST_DATA" in os.environ else []


def content_of(lines: list[str]) -> dict:
    metrics = Metrics(None, time.thread_time, list)
    for number, text in enumerate(lines):
        metrics.read(LogLine(NOW, text), NOW.timestamp() + number)
    return metrics.content("j")


def as_kept(value: float | str) -> float | str:
    return value if isinstance(value, str) else float(f"{value:.8g}")


@pytest.mark.parametrize("given", OWN + GIVEN)
def test_the_curves_of_a_program_are_read_and_no_others(given):
    curves = content_of(given["lines"])["metrics"]
    assert {name: curve["values"] for name, curve in curves.items()} == {
        name: [as_kept(value) for value in values] for name, values in given["curves"].items()
    }
    for name, steps in given.get("steps", {}).items():
        assert curves[name]["steps"] == pytest.approx(steps), name
    for name, curve in curves.items():
        assert all(before < after for before, after in itertools.pairwise(curve["steps"])), name


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("\n")[0][:40])
def test_settings_ids_times_and_quoted_text_are_no_metrics(block):
    patterns = LinePatterns()
    assert [(line, found) for line in block.split("\n") if (found := dict(patterns.read(line).values))] == []


@pytest.mark.parametrize(("rule", "measured"), documented(), ids=lambda each: getattr(each, "name", ""))
def test_each_rule_reads_its_example(rule, measured):
    assert measured.values
    assert measured.rule == rule.name


def test_no_two_rules_share_a_name():
    assert len({rule.name for rule in ALL_RULES}) == len(ALL_RULES)


def test_the_rules_that_matched_are_kept():
    content = content_of(["epoch 1 | loss 0.5", "[2]\teval-rmse:0.5", "epoch 3 | loss 0.4", "nothing"])
    assert content["rules"] == ["name number", "boosting"]
    again = Metrics(None, time.thread_time, list)
    again.restore(content)
    assert again.content("j")["rules"] == content["rules"]
    again.restore({name: each for name, each in content.items() if name != "rules"})
    assert again.content("j")["rules"] == []
