# SPDX-License-Identifier: Apache-2.0
"""The bounded series: what survives of a metric, whatever its length."""

from __future__ import annotations

import itertools
import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_jobapi.training.metrics.series import FEWEST_POINTS, MOST_POINTS, Series, written

VALUES = st.lists(st.one_of(st.floats(), st.integers(-3, 3).map(float)), max_size=3_000)


def series_of(values, steps=None) -> Series:
    series = Series()
    for number, value in enumerate(values):
        series.add(value, number / 10, None if steps is None else steps[number])
    return series


def same(left: float, right: float) -> bool:
    return left == right or (math.isnan(left) and math.isnan(right))


@given(VALUES, st.integers(FEWEST_POINTS, MOST_POINTS))
@example([0.0] * 700 + [math.nan] * 700 + [math.inf, -math.inf, 1.0], FEWEST_POINTS)
def test_extremes_the_first_and_the_last_survive_in_few_points(values, most):
    points = series_of(values).points(most)
    assert len(points) <= most
    assert all(same(values[int(point.number)], point.value) for point in points)
    assert [point.number for point in points] == sorted({point.number for point in points})
    if not values:
        return
    assert (points[0].number, points[-1].number) == (0, len(values) - 1)
    finite = [value for value in values if math.isfinite(value)]
    shown = [point.value for point in points if math.isfinite(point.value)]
    if finite:
        assert (min(shown), max(shown)) == (min(finite), max(finite)) == series_of(values).extremes()
    for strange in (math.nan, math.inf, -math.inf):
        first = next((number for number, value in enumerate(values) if same(value, strange)), None)
        assert first is None or first in {point.number for point in points}


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=MOST_POINTS - 5))
def test_a_short_series_is_kept_whole(values):
    assert [point.value for point in series_of(values).points()] == values


@given(VALUES, st.lists(st.integers(0, 3_000), max_size=5))
def test_who_looks_in_between_gets_nothing_else_in_the_end(values, looks):
    watched = Series()
    for number, value in enumerate(values):
        watched.add(value, number / 10)
        if number in looks:
            watched.points(50)
    assert str(watched.points()) == str(series_of(values).points())


@pytest.mark.parametrize("length", [496, 1_000, 12_345, 100_000])
def test_the_shape_survives(length):
    values = [math.sin(number / length * 20) for number in range(length)]
    values[length // 3] = 40.0  # one peak, one value wide
    points = series_of(values).points()
    assert 150 <= len(points) <= MOST_POINTS
    assert length // 3 in {point.number for point in points}
    gaps = [after.number - before.number for before, after in itertools.pairwise(points)]
    assert max(gaps) <= length / 30, "no part of the curve is left empty"


def test_memory_does_not_grow_with_the_length():
    series = series_of(float(number % 1_000) for number in range(50_000))
    assert len(series._kept) <= 4 * MOST_POINTS


def test_steps_that_go_back_are_put_in_order_and_the_last_value_is_the_one_that_came_last():
    series = series_of([3.0, 1.0, 2.0], steps=[3, 1, 2])
    assert written(series.points())["steps"] == [1, 2, 3]
    assert written(series.points())["values"] == [1, 2, 3]
    assert series.last == 2.0


@pytest.mark.parametrize("length", [1, 2, 400, 5_000])
@pytest.mark.parametrize("old", [7.0, math.nan, math.inf])
def test_the_last_value_may_be_replaced(length, old):
    series, straight = series_of([*range(length - 1), old]), series_of([*range(length - 1), 3.5])
    series.replace(3.5, (length - 1) / 10)
    assert (series.count, series.last) == (length, 3.5)
    assert series.points()[-1] == straight.points()[-1]
    assert not [point for point in series.points() if not math.isfinite(point.value)]


def test_points_travel_as_strict_json():
    series = series_of([math.nan, math.inf, -math.inf, 1e308, 1 / 3, 5e-324])
    text = json.dumps(written(series.points()), allow_nan=False)
    assert json.loads(text)["values"] == ["NaN", "Infinity", "-Infinity", 1e308, 0.33333333, 5e-324]


def test_whole_steps_are_exact_and_others_have_eight_digits():
    steps = [3, 123456789, 12345678.25, 2.0**53, 1e300]
    assert json.dumps(written(series_of([1.0] * 5, steps).points())["steps"]) == (
        "[3, 12345678, 123456789, 9007199254740992, 1e+300]"
    )


def test_a_series_without_values_has_no_points():
    assert Series().points() == []
    assert math.isnan(Series().extremes()[0])
