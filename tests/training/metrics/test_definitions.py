# SPDX-License-Identifier: Apache-2.0
"""Metric definitions, and the metrics of a whole log."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.logs import LogLine
from airflow_provider_jobapi.training.metrics.definitions import (
    MOST_BYTES,
    MOST_NAMES,
    Metrics,
    read_definitions,
    shrunk,
)
from airflow_provider_jobapi.training.metrics.series import MOST_POINTS
from tests.harness.work import seconds_of

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LOSS = {"name": "train:loss", "regex": r"Loss = ([0-9.]+);"}
SLOW = {"name": "slow", "regex": r"(x+x+)+y"}


def metrics_of(*texts: str, definitions=None) -> tuple[Metrics, list[str]]:
    said: list[str] = []
    metrics = Metrics(read_definitions(definitions), time.thread_time, said.append)
    for number, text in enumerate(texts):
        metrics.read(LogLine(NOW, text), NOW.timestamp() + number)
    return metrics, said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("loss: (.*)", "metric_definitions is a str; it must be a list of"),
        ({"name": "a", "regex": "(a)"}, "metric_definitions is a dict; it must be a list of"),
        (["loss"], 'metric_definitions[0] is \'loss\'; it must be an object of "name" and "regex"'),
        ([{"regex": "(a)"}], "{'regex': '(a)'}; it must be an object of \"name\" and \"regex\" and nothing else"),
        ([{"name": "a", "regex": "(a)", "unit": "s"}], "and nothing else"),
        ([{"name": " ", "regex": "(a)"}], "has the name ' '; a name is 1 to 100 printable characters"),
        ([{"name": "a\nb", "regex": "(a)"}], r"has the name 'a\nb'"),
        ([{"name": "a" * 101, "regex": "(a)"}], "a name is 1 to 100 printable characters"),
        ([{"name": 3, "regex": "(a)"}], "has the name 3"),
        ([LOSS, {"name": "b", "regex": None}], "[1] (b) has no regex"),
        ([{"name": "b", "regex": "a" * 501}], "of 1 to 500 characters"),
        ([{"name": "b", "regex": "(a"}], "[0] (b): Invalid regular expression '(a': missing )"),
        ([{"name": "b", "regex": "(" * 499}], "Invalid regular expression "),
        ([{"name": "b", "regex": "loss: [0-9.]+"}], "with no groups; it needs exactly one, around the value"),
        ([{"name": "b", "regex": "(a)(b)"}], "with 2 groups; it needs exactly one"),
        ([{"name": "b", "regex": "(?P<step>a)(b)(c)"}], "with 3 groups; it needs exactly one"),
        (
            [{"name": "b", "regex": "(?P<step>a)"}, LOSS, {"name": "c", "regex": "(a)", "step": "n"}],
            "[2] (c) has the step 'n'",
        ),
        (
            [{"name": "b", "regex": "(?P<n>a)(b)", "step": 1}],
            "has the step 1; it must be the name of one of two groups",
        ),
        (
            [{"name": "b", "regex": "(?:(?:(?:xyz){1000}){1000}){8}(a)"}],
            "whose repeats come to 24,000,001 parts; 10,000 are the most",
        ),
        ([{"name": "b", "regex": r"(?:[[:alpha:](\](]x{200}){1,100}(a)"}], "come to 20,101 parts"),
        ([{"name": "b", "regex": "(?:(?#)(?:xyz)(?#((){50}(?i){e<=1}){100}(a)"}], "come to 15,001 parts"),
        ([{"name": "b", "regex": "(?x)(?:x{1 000}#)\n){1000}(a)"}], "whose size cannot be judged with (?x) in it"),
        ([{"name": "b", "regex": "(?i:(?V1:(a)))"}], "whose size cannot be judged with (?V1: in it"),
        ([{"name": "b", "regex": "(?:(a)){e<=1:[{]}"}], "cannot be judged with {e<=1:[ in it"),
        ([{"name": "b", "regex": "(a))"}], "Invalid regular expression '(a))': unbalanced parenthesis"),
        ([LOSS] * 33, "metric_definitions has 33 entries; 32 metrics are the most that are kept."),
    ],
)
def test_a_wrong_definition_is_refused_in_one_sentence(given, said):
    with pytest.raises(InvalidJob) as caught:
        read_definitions(given)
    assert said in str(caught.value)
    assert str(caught.value).startswith("metric_definitions")
    assert caught.value.field == "metric_definitions"
    assert "\n" not in str(caught.value)


PARTS = [
    "(",
    "(?:",
    "(?i:",
    "(?P<a>",
    ")",
    "a",
    ".",
    "[^;]",
    "[(]",
    r"\(",
    "|",
    "*",
    "+?",
    "{2}",
    "{,900}",
    "{90,}",
    "\u0130",
]
EXPRESSIONS = st.lists(st.sampled_from(PARTS), max_size=60).map("".join) | st.text()
THINGS = st.none() | st.text() | st.integers() | EXPRESSIONS
ENTRIES = st.dictionaries(st.sampled_from(["name", "regex"]), THINGS, min_size=1) | st.fixed_dictionaries(
    {"name": st.text(min_size=1, max_size=4) | THINGS, "regex": EXPRESSIONS}
)


@given(st.lists(ENTRIES | THINGS, max_size=4) | st.dictionaries(st.text(), THINGS) | THINGS)
@example([{"name": "a", "regex": "([^;])"}])
def test_whatever_is_given_is_taken_or_refused(given):
    def reading():
        try:
            return read_definitions(given)
        except InvalidJob as error:
            assert "\n" not in str(error)  # noqa: PT017 -- both ends are right

    assert seconds_of(reading) < 1
    read = reading()
    assert read is None or [(each.name, each.pattern.pattern) for each in read] == [
        (each["name"], each["regex"]) for each in given
    ]


@pytest.mark.parametrize(
    "expression",
    [r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2} loss=(\d{1,9}\.\d{1,9})", "(?:.{0,90};){100}(a)", r"[{(9999999}]\{(a)"],
)
def test_repeats_as_people_write_them_are_taken(expression):
    assert read_definitions([{"name": "a", "regex": expression}])


def test_definitions_say_what_a_metric_is_and_nothing_else_is_one():
    metrics, said = metrics_of("Loss = 0.5; acc=3", "Loss = 0.25;", "Loss = none;", "Loss = 0.1.2;", definitions=[LOSS])
    content = metrics.content("j")["metrics"]
    assert list(content) == ["train:loss"]
    assert content["train:loss"]["values"] == [0.5, 0.25]
    assert content["train:loss"]["steps"] == [1, 2]
    assert said == []


def test_two_definitions_may_give_one_metric_and_a_group_may_be_left_out():
    definitions = [{"name": "loss", "regex": "train (?:loss|error): (.*)"}, {"name": "loss", "regex": "(?:a|L=(.*))"}]
    metrics, _ = metrics_of("train error: 1e-3", "L=7", "a", definitions=definitions)
    assert metrics.content("j")["metrics"]["loss"]["values"] == [0.001, 7]


def test_the_step_of_a_definitions_value_is_the_lines():
    metrics, _ = metrics_of("Epoch 4/9", "5/10 - Loss = 0.5;", "step=70 Loss = 0.5;", definitions=[LOSS])
    assert metrics.content("j")["metrics"]["train:loss"]["steps"] == [3.5, 70]


def test_a_definition_may_find_the_step_itself():
    definitions = [
        {"name": "loss", "regex": r"#(?P<step>\d+): L=([0-9.]+)"},
        {"name": "error", "regex": r"E=([0-9.]+) after (?P<trees>.*) trees", "step": "trees"},
    ]
    lines = ["#10: L=0.5", "#20: L=0.4", "E=0.3 after 50 trees", "E=0.2 after many trees"]
    content = metrics_of(*lines, definitions=definitions)[0].content("j")
    assert (content["metrics"]["loss"]["values"], content["metrics"]["loss"]["steps"]) == ([0.5, 0.4], [10, 20])
    assert (content["metrics"]["error"]["values"], content["metrics"]["error"]["steps"]) == ([0.3, 0.2], [50, 51])
    assert content["rules"] == ["metric_definitions"]


def test_a_definition_without_a_step_has_that_of_its_line_or_of_the_epoch_before():
    lines = ["Loss = 3;", "Epoch 4/9", "5/10 - Loss = 0.25;", "x Loss = 0.5;"]
    metrics, _ = metrics_of(*lines, definitions=[LOSS])
    assert metrics.content("j")["metrics"]["train:loss"]["steps"] == [1, 3.5, 4]


def test_the_helpers_lines_are_read_whatever_is_defined():
    line = '{"jobapi_metrics": 1, "step": 5, "metrics": {"loss": 0.25}}'
    metrics, _ = metrics_of(line, f"Loss = 3; {line}", definitions=[LOSS])
    assert metrics.last() == {"loss": 0.25, "train:loss": 3.0}


def test_a_regex_that_explodes_is_given_up_and_the_others_go_on():
    begin = time.monotonic()
    metrics, said = metrics_of(*["x" * 5_000, "Loss = 0.5;"] * 200, definitions=[SLOW, LOSS])
    assert time.monotonic() - begin < 5
    assert len(said) == 1
    assert said[0].startswith("The regex of the metric slow takes too long and is given up")
    loss = metrics.content("j")["metrics"]["train:loss"]
    assert (loss["count"], "gave_up" in loss) == (200, False)


def test_a_curve_that_ends_since_its_regex_was_given_up_says_so():
    metrics, _ = metrics_of("xxy1", "x" * 5_000, "xxy2", definitions=[{"name": "slow", "regex": r"(?:x+x+)+y(\d)"}])
    content = metrics.content("j")["metrics"]
    assert (content["slow"]["values"], content["slow"]["gave_up"]) == ([1], True)
    assert shrunk(content, 100, 16 * 1024)["slow"]["gave_up"] is True


def test_a_regex_that_is_a_little_slow_on_every_line_is_given_up_too():
    quadratic = {"name": "slow", "regex": r"(?:x*x*y|(z))"}
    metrics, said = metrics_of(*["x" * 700 + "Loss = 0.5;"] * 600, definitions=[LOSS, quadratic])
    assert [line for line in said if "metric slow" in line] == said != []
    assert metrics.content("j")["metrics"]["train:loss"]["count"] == 600


def test_a_million_names_are_counted_and_told_once():
    metrics, said = metrics_of(*(f"step=1 m{number}=1.5" for number in range(20_000)))
    content = metrics.content("j")
    assert len(content["metrics"]) == MOST_NAMES
    assert content["left_out"] == 10_000
    assert said == ["This job writes more than 32 metrics; only 32 are kept."]


def test_forty_metrics_in_turn_do_not_drive_each_other_out():
    content = metrics_of(*(f"step={number} m{number % 40}=1.5" for number in range(400)))[0].content("j")
    assert len(content["metrics"]) == MOST_NAMES
    assert {metric["count"] for metric in content["metrics"].values()} <= {9, 10}
    assert content["left_out"] == 8


def test_a_configuration_that_is_printed_first_does_not_cost_the_curves():
    config = ", ".join(f"loss{number}={number}" for number in range(40))
    lines = (f"step={step} loss={step} acc={step}" for step in range(1, 4))
    metrics, said = metrics_of(config, *lines, "test_acc=0.5")
    content = metrics.content("j")
    assert content["metrics"]["loss"]["values"] == content["metrics"]["acc"]["values"] == [1, 2, 3]
    assert (len(content["metrics"]), content["left_out"], len(said)) == (MOST_NAMES, 11, 1)
    assert metrics.last()["test_acc"] == 0.5


def test_what_the_helper_or_a_definition_names_gives_no_place_up():
    names = [f"m{number}" for number in range(MOST_NAMES)]
    line = json.dumps({"jobapi_metrics": 1, "metrics": dict.fromkeys(names, 1)})
    metrics, _ = metrics_of(line, "loss=1", "loss=2")
    assert list(metrics.content("j")["metrics"]) == names
    after, _ = metrics_of(*(f"a{number}=1" for number in range(40)), line, "loss=1")
    assert list(after.content("j")["metrics"]) == names
    defined, _ = metrics_of(" ".join(names), "x", definitions=[{"name": n, "regex": f"{n[0]}({n[1:]})"} for n in names])
    assert len(defined.content("j")["metrics"]) == MOST_NAMES


def test_what_is_no_number_travels_as_a_word():
    metrics, _ = metrics_of("loss=nan", "loss=0.5", "loss=-inf", "only_loss=nan")
    content = metrics.content("j")
    loss = content["metrics"]["loss"]
    assert (loss["values"], loss["last"], loss["min"], loss["max"]) == (
        ["NaN", 0.5, "-Infinity"],
        "-Infinity",
        0.5,
        0.5,
    )
    assert (content["metrics"]["only_loss"]["min"], metrics.last()["only_loss"]) == ("NaN", "NaN")
    json.dumps([content, metrics.last()], allow_nan=False)


@pytest.mark.parametrize("names", [1, 4, MOST_NAMES])
def test_a_hundred_thousand_steps_cost_at_most_64_kib(names):
    def line(step: int) -> str:
        values = (f"{'m' * 60}{name}={step * -1.23456789e-101 * (name + 1)}" for name in range(names))
        return f"step={step} " + " ".join(values)

    metrics, said = metrics_of(*map(line, range(100_000 // names)))
    content = metrics.content("6f2d9b0e-53b5-5c8e-9d0f-6a1f2f6f0c1a")
    assert len(json.dumps(content)) <= MOST_BYTES
    counts = [len(metric["values"]) for metric in content["metrics"].values()]
    assert len(counts) == names
    assert min(counts) >= (190 if names < 5 else 15)
    assert max(counts) <= MOST_POINTS
    assert said == []


def test_names_of_any_script_do_not_break_the_bound():
    names = [chr(0x10400 + number) * 100 for number in range(MOST_NAMES)]
    lines = (f"step={step} {name}={step / 7}" for step in range(1_000) for name in names)
    metrics, _ = metrics_of(*lines)
    assert len(metrics.content("j")["metrics"]) == MOST_NAMES
    assert len(json.dumps(metrics.content("j"))) <= MOST_BYTES


def test_a_copy_is_smaller_and_keeps_the_extremes():
    metrics, _ = metrics_of(*(f"loss={(number * 7919) % 1_009}" for number in range(2_000)), "loss=nan")
    content = metrics.content("j")["metrics"]
    copy = shrunk(content, 100, 16 * 1024)["loss"]
    assert len(copy["values"]) == len(copy["steps"]) == len(copy["times"]) <= 100
    assert {0, 1_008, "NaN"} < set(copy["values"])
    assert {name: copy[name] for name in ("count", "last", "min", "max")} == {
        "count": 2_001, "last": "NaN", "min": 0.0, "max": 1_008.0,
    }  # fmt: skip


def epochs(order: int) -> list[str]:
    """A log of Keras, whose epochs have losses that another order changes."""
    texts = []
    for epoch in range(1, 61):
        texts.append(f"Epoch {epoch}/60")
        texts += [f"{batch}/50 - loss: {(epoch * 50 + batch * order) % 13} - L{batch};" for batch in range(1, 51)]
    return texts


@pytest.mark.parametrize("definitions", [None, [LOSS, {"name": "L", "regex": "L(.*);"}]])
def test_metrics_are_a_function_of_the_log(definitions):
    """Whoever looks in between, on whichever machine, has the same in the end; and every line is in it."""
    watched = Metrics(read_definitions(definitions), time.thread_time, list)
    for number, text in enumerate(epochs(1)):
        watched.read(LogLine(NOW, text), NOW.timestamp() + number)
        if number % 700 == 0:
            watched.snapshot().content("j", 50)
    told = watched.content("j")
    assert told == metrics_of(*epochs(1), definitions=definitions)[0].content("j")
    (metric,) = told["metrics"].values()
    assert (metric["count"], metric["steps"][0], metric["steps"][-1]) == (3_000, 0.02, 60)
    assert definitions or told != metrics_of(*epochs(2))[0].content("j")


def test_a_snapshot_stays_as_it_is():
    metrics, _ = metrics_of(*(f"loss={number % 9}" for number in range(2_000)), "loss=nan")
    snapshot = metrics.snapshot()
    before = metrics.content("j")
    for number in range(2_000):
        metrics.read(LogLine(NOW, f"loss=-{number} other{number}=inf"), 0.0)
    assert snapshot.content("j") == before != metrics.content("j")


def test_a_snapshot_costs_the_event_loop_next_to_nothing():
    names = " ".join(f"m{name}=0.123456{{0}}" for name in range(MOST_NAMES))
    metrics, _ = metrics_of(*(names.format(number) for number in range(1_000)))
    assert seconds_of(metrics.snapshot, 5) < 0.002
