# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.training.units import read_span


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20h", 72_000),
        ("1h30m", 5_400),
        ("1 hour 30 minutes", 5_400),
        ("2d", 172_800),
        ("90 s", 90),
        ("0.5h", 1_800),
        ("PT4H", 14_400),
        ("P1DT2H3M4S", 93_784),
        ("10000", 10_000),
        (10000, 10_000),
        (2.5, 2.5),
        ("  24H ", 86_400),
    ],
)
def test_every_common_spelling_of_a_span_is_read(text, seconds):
    assert read_span(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", None, "soon", "0", "0h", "-5", "h", "5 fortnights", "1h-", "PT", "P", "1:30", "nan", "1e9", "999999d"]
)
def test_what_is_no_span_is_told_apart(text):
    assert read_span(text) is None


@given(st.text(max_size=40))
def test_no_text_breaks_the_reader(text):
    span = read_span(text)
    assert span is None or span > timedelta(0)


@given(st.integers(0, 99), st.integers(0, 59), st.integers(1, 59))
def test_parts_add_up(hours, minutes, seconds):
    assert read_span(f"{hours}h{minutes}m{seconds}s") == timedelta(hours=hours, minutes=minutes, seconds=seconds)
