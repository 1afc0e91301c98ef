# SPDX-License-Identifier: Apache-2.0
"""What is printed and what is in event files become the metrics of one job, whichever was read first."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.training.logs import LogLine
from airflow_provider_jobapi.training.metrics.definitions import MOST_NAMES, read_definitions
from airflow_provider_jobapi.training.metrics.job_metrics import JobMetrics

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def scalar(name: str, value: object, step: int | None = 1) -> str:
    return json.dumps({"jobapi_metrics": 1, "step": step, "metrics": {name: value}})


def metrics(*read: tuple[str, str], definitions: object = None, warned: list[str] | None = None) -> JobMetrics:
    """Read lines of the log and of the scalars, in this order."""
    made = JobMetrics(read_definitions(definitions), lambda: 0.0, [].append if warned is None else warned.append)
    for kind, text in read:
        (made.read if kind == "log" else made.read_scalars)(LogLine(NOON, text), 1.0)
    return made


def test_both_have_their_curves():
    made = metrics(
        ("log", "step=3 loss=0.5"), ("file", scalar("train/acc", 0.9, 7)), ("file", scalar("train/acc", "NaN", 8))
    )
    assert made.last() == {"loss": 0.5, "train/acc": "NaN"}
    assert made.count == 3
    content = made.snapshot().content("j")
    assert content["metrics"]["train/acc"]["steps"] == [7, 8]
    assert content["left_out"] == 0
    assert content["rules"][-1] == "tensorboard"


@pytest.mark.parametrize("order", [1, -1])
def test_a_printed_metric_keeps_its_name(order):
    read = [("log", "step=3 loss=0.5"), ("file", scalar("loss", 9.0)), ("file", scalar("Loss", 8.0))]
    made = metrics(*read[::order])
    assert made.last() == {"loss": 0.5, "Loss": 8.0}
    assert made.snapshot().content("j")["metrics"]["loss"]["values"] == [0.5]


def test_definitions_do_not_concern_event_files():
    definitions = [{"name": "quality", "regex": "Q(.*)"}]
    made = metrics(("log", "loss=1 Q2.5"), ("file", scalar("loss", 9.0)), definitions=definitions)
    assert made.last() == {"quality": 2.5, "loss": 9.0}


@pytest.mark.parametrize(
    "name", ["epoch", "train/epoch", "global_step", "a/b/step", "Iteration", "iter", "eval/runtime", "train/total_flos"]
)
def test_positions_and_speeds_are_no_metrics(name):
    assert metrics(("file", scalar(name, 3.0))).last() == {}


def test_the_placeholder_of_lightning_is_no_metric():
    assert metrics(("file", scalar("hp_metric", -1.0))).last() == {}
    assert metrics(("file", scalar("hp_metric", 0.5))).last() == {"hp_metric": 0.5}
    assert metrics(("file", scalar("epoch_loss", 0.5)), ("file", scalar("step/loss", 1))).last() == {
        "epoch_loss": 0.5,
        "step/loss": 1.0,
    }


def test_printed_metrics_come_first_where_there_are_too_many():
    warned: list[str] = []
    files = [("file", scalar(f"f{number}", 1.0)) for number in range(MOST_NAMES + 3)]
    prints = [("log", f"step={step} loss={step} acc=0.5 val_loss={step}") for step in (1, 2)]
    made = metrics(*files, *prints, warned=warned)
    assert list(made.last()) == ["loss", "acc", "val_loss", *(f"f{number}" for number in range(MOST_NAMES - 3))]
    assert made.snapshot().content("j")["left_out"] == 6
    assert warned == [f"This job writes more than {MOST_NAMES} metrics; only {MOST_NAMES} are kept."]


def test_lines_that_are_none_of_the_helper_are_nothing():
    assert metrics(("file", "loss=1"), ("file", "***"), ("file", "")).last() == {}


LINES = st.lists(
    st.one_of(
        st.tuples(st.just("log"), st.sampled_from(["loss=1", "loss=2 acc=3", "a=1", "Epoch 1/2", "b=2"])),
        st.tuples(
            st.just("file"),
            st.sampled_from([scalar(name, value) for name in ("loss", "t/acc", "b") for value in (1, 2)]),
        ),
    ),
    max_size=40,
)


@given(LINES)
def test_the_order_between_the_two_does_not_matter(lines):
    ways = [lines, sorted(lines, key=lambda line: line[0]), sorted(lines, key=lambda line: line[0], reverse=True)]
    contents = [metrics(*way).snapshot().content("j") for way in ways]
    assert contents[0] == contents[1] == contents[2]


def test_a_snapshot_does_not_change():
    made = metrics(("file", scalar("loss", 1.0)))
    taken = made.snapshot()
    made.read_scalars(LogLine(NOON, scalar("loss", 2.0, 2)), 1.0)
    made.read(LogLine(NOON, "acc=1"), 1.0)
    assert taken.content("j")["metrics"]["loss"]["values"] == [1]
    assert made.last() == {"acc": 1.0, "loss": 2.0}
