# SPDX-License-Identifier: Apache-2.0
"""Reading metrics stays as quick on the lines of Keras as when nothing else was recognised, and is quick on others."""

from __future__ import annotations

import pytest

from tests.benchmarks.metrics import KERAS, MEASURED, PLAIN, OnePattern, ratio


def test_lines_of_keras_take_no_longer_than_with_the_first_patterns():
    assert min(ratio(KERAS) for _ in range(3)) < 1.5


@pytest.mark.parametrize(
    ("lines", "most"), [*((lines, 30) for lines in MEASURED.values()), *((lines, 3) for lines in PLAIN.values())]
)
def test_a_line_takes_a_small_multiple_of_what_one_regular_expression_takes(lines, most):
    assert min(ratio(lines, OnePattern) for _ in range(3)) < most
