# SPDX-License-Identifier: Apache-2.0
"""Reading metrics stays as quick on the lines of Keras as it was when nothing else was recognised."""

from __future__ import annotations

from tests.benchmarks.metrics import KERAS, ratio


def test_lines_of_keras_take_no_longer_than_with_the_first_patterns():
    assert min(ratio(KERAS) for _ in range(3)) < 1.5
