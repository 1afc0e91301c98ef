# SPDX-License-Identifier: Apache-2.0
"""The steps of a curve, which never go back."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.training.metrics.steps import Steps

PLACES = st.none() | st.integers(0, 50).map(float) | st.floats(0, 50)
LINES = st.lists(st.tuples(PLACES, st.integers(0, 3), st.booleans()), max_size=200)


def steps_of(*places: float | None, loops: tuple[int, ...] = ()) -> list[float]:
    steps = Steps()
    return [steps.next(place, loop) for place, loop in itertools.zip_longest(places, loops, fillvalue=0)]


@pytest.mark.parametrize(
    ("places", "loops", "expected"),
    [
        ((None, None), (), [1, 2]),
        ((500, 510), (), [500, 510]),
        ((1, 1, 1), (0, 1, 2), [1, 2, 3]),
        ((1, 1), (), [1, 2]),
        ((0, 1, 2, 0, 1), (), [0, 1, 2, 3, 4]),
        ((2000, 4000, 2000, 4000), (), [2000, 4000, 6000, 8000]),
        ((100, 110, 120, 110, 120), (), [100, 110, 120, 130, 140]),
        ((0.5, 1.0, 0.25, 1.0), (0, 0, 1, 1), [0.5, 1, 1.25, 2]),
        ((1, 2, 2, 3), (), [1, 2, 2.125, 3]),
        ((1, None, None, 4), (), [1, 2, 3, 4]),
    ],
)
def test_loops_are_counted_on(places, loops, expected):
    assert steps_of(*places, loops=loops or (0,) * len(places)) == expected


@given(LINES)
def test_no_log_makes_a_step_go_back(lines):
    steps = Steps()
    read = [steps.next(place, loop, counts=counts) for place, loop, counts in lines]
    assert all(before < after for before, after in itertools.pairwise(read))


def test_lines_below_one_title_are_numbered_on():
    steps = Steps()
    assert [steps.next(3, counts=True) for _ in range(3)] == [3, 4, 5]
    assert steps.next(4, counts=True) > 5


def test_a_line_without_a_place_does_not_move_the_next_ones():
    steps = Steps()
    assert [steps.next(3), steps.next(3, counts=True), steps.next(4), steps.next(5)] == [3, 3.125, 4, 5]


def test_after_a_restart_of_the_trigger_the_steps_go_on():
    steps = Steps(14_000.0)
    assert steps.next(15_000.0) == 15_000
    assert Steps(14_000.0).next(2_000.0) > 14_000
