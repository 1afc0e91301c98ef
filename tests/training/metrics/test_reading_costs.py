# SPDX-License-Identifier: Apache-2.0
"""The quick ways of reading a line find what the slow ones find, and no line costs much, whatever is in it."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.training.metrics import dicts, patterns
from airflow_provider_jobapi.training.metrics import name_value_pairs as pairs
from airflow_provider_jobapi.training.metrics.helper import read_helper
from airflow_provider_jobapi.training.metrics.idle_lines import is_idle
from airflow_provider_jobapi.training.metrics.names import LIKELY_METRICS, METRICS
from airflow_provider_jobapi.training.metrics.patterns import LinePatterns
from airflow_provider_jobapi.training.metrics.progress import Progress
from airflow_provider_jobapi.training.metrics.progress_lines import LINE_LIMIT, STATES_LIMIT, states_of
from tests.harness.work import seconds_of
from tests.training.metrics.test_log_formats import BLOCKS, OWN

LINES = [line for each in OWN for line in each.values[0]["lines"]] + "\n".join(BLOCKS).split("\n")

PARTS = [
    *("a", "a=", "1", "a: ", " - ", "=1", "%|", "45%|", "\x1b[", "0/", "[", ", ", "a: 1, ", " - a: 1, ", ", Step ["),
    *("a ", "loss 0.5 ", "loss=1 x ", "'", "`", "“", "(", "a(", "{'a': {", "{'a': '1', ", "np.float64(", "a\t", "| "),
    *("\r", "\ra", "a\b", "1/ ", "epoch ", "Epoch: [0][ ", "step: [1/", "[CV 1/5] END ", "INFO:a:", "[a] ", "train: "),
    *("a at ", "a b c", "1%|a|[] ", "a=1 ", "a=1,", "step=1 ", "at step 1 ", "loss (b) ", "tensor(0.5, ", "a@0.5 "),
    *("{'a': 1, ", "train_", "train ", "a" * 99 + " ", "loss's ", "- - ", "1|2|", "12 of ", "a: b: ", "1%|a"),
    *('{"jobapi_metrics"', '{"jobapi_metrics": ', '{"jobapi_metrics": 1, "a": [', '{"jobapi_metrics": 1}'),
]
LONG = 65_536


def steps_of(text: str) -> int:
    """How many functions are called to read a line."""
    calls = 0

    def count(_frame: object, _event: str, _arg: object) -> None:
        nonlocal calls
        calls += 1

    reader = LinePatterns()
    sys.setprofile(count)
    try:
        reader.read(text)
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("part", PARTS)
def test_no_line_takes_long(part):
    for before in ("", "epoch 1 ", "x "):
        text = (before + part * LONG)[:LONG]
        assert steps_of(text) < 10_000
        assert seconds_of(lambda text=text: (LinePatterns().read(text), read_helper(text))) < 0.02
        assert seconds_of(lambda text=text: Progress("--epochs 10").read(text, 1.0)) < 0.02


def test_a_long_line_is_read_up_to_its_last_whole_word():
    read = LinePatterns().read("epoch=1 " + " ".join(f"m{number}=0.25" for number in range(1_000)))
    assert len(read.values) == 128
    assert set(read.values.values()) == {0.25}
    assert LinePatterns().read("step=1,loss=0.25," * 300).values == {}


def test_a_long_dictionary_takes_no_lines_after_it():
    reader = LinePatterns()
    assert reader.read("{'loss': 0.5, 'text': '" + "x" * 5_000 + "', 'acc': 0.25}").values == {"loss": 0.5}
    assert reader.read("{'loss': 0.25, 'epoch': 2}").values == {"loss": 0.25}


def test_only_the_last_states_of_a_long_line_are_looked_for():
    assert states_of("1%|\r" * 50_000) == ["1%|"] * STATES_LIMIT
    assert states_of("a\r" + "x" * (STATES_LIMIT * LINE_LIMIT)) == ["x" * (STATES_LIMIT * LINE_LIMIT)]
    cut = states_of("y" * 5_000 + "\r" + "x" * 15_000)
    assert cut == ["x" * 15_000]


NUMBER = st.sampled_from(
    ["0", "12", "0.25", "1.", ".5", "-1.5", "+2", "1e-05", "nan", "inf", "-Infinity", "1,234", "3/4"]
)
NAME = st.sampled_from(
    ["loss", "val_loss", "acc", "m0", "top5", "f1", "time", "seed", "lr", "step", "epoch", "x/y", "a.b", "error", "dB"]
)
PAIR = st.tuples(
    NAME, st.sampled_from(["=", ": ", ":", " = ", " "]), NUMBER, st.sampled_from(["", "", "", "%", " s", "."])
)
PAIRS = st.tuples(
    st.sampled_from(["", "", "\t", ", ", "x ", "step=3 ", "epoch 1 - "]),
    st.lists(PAIR.map("".join), min_size=1, max_size=6),
    st.sampled_from([" ", ", ", " - ", " | ", "; ", "\t", ",", "  "]),
    st.sampled_from(["", "", " ", ",", ", ", "|", ")"]),
).map(lambda parts: f"{parts[0]}{parts[2].join(parts[1])}{parts[3]}")
KEYED = st.lists(st.tuples(NAME, NUMBER).map(lambda pair: f"'{pair[0]}': {pair[1]}"), min_size=1, max_size=4)
DICTS = KEYED.map(lambda inner: f"{{{', '.join(inner)}}}")
WORDS = st.lists(st.sampled_from([*" ".join(LINES).split(), "loss", "train", "of", "12", "3/4"]), max_size=8).map(
    " ".join
)


def slowly(monkeypatch) -> None:
    """Take the quick ways away."""
    monkeypatch.setattr(patterns, "is_idle", lambda _line: False)
    monkeypatch.setattr(pairs, "_tidy", lambda _line: [])
    monkeypatch.setattr(dicts, "_tidy", lambda _line: [])


def told(lines: list[str]) -> str:
    reader = LinePatterns()
    return repr([reader.read(line) for line in lines])


@given(st.lists(st.one_of(PAIRS, DICTS, WORDS, st.sampled_from(LINES)), min_size=1, max_size=4))
def test_a_line_is_read_quickly_as_it_is_read_slowly(lines):
    quick = told(lines)
    with pytest.MonkeyPatch.context() as monkeypatch:
        slowly(monkeypatch)
        assert told(lines) == quick


def test_all_known_lines_are_read_quickly_as_they_are_read_slowly(monkeypatch):
    quick = [told([line]) for line in LINES]
    slowly(monkeypatch)
    assert [told([line]) for line in LINES] == quick


def test_the_quick_ways_are_taken():
    assert sum(map(is_idle, LINES)) > 50
    assert pairs._tidy("\tm0=0.5 loss: 3, x/y=nan ,")
    assert dicts._tidy("{'loss': 0.5, 'epoch': 1}")
    assert not is_idle("a of 3: Loss5")


def test_no_word_of_a_metric_has_a_digit_within():
    """Lines are told to be idle by the letters of their words alone."""
    assert [word for word in METRICS | LIKELY_METRICS if not word.rstrip("0123456789").isalpha()] == []
