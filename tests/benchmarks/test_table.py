# SPDX-License-Identifier: Apache-2.0
"""The table of the benchmarks says which ratio is worse than its bound, and the command ends with 1 for it."""

from __future__ import annotations

import pytest

from tests.benchmarks import __main__ as command
from tests.benchmarks import metrics
from tests.benchmarks.table import Row, printed


def test_a_ratio_keeps_its_bound_from_the_right_side():
    assert Row("time", 2.0, 4.0, "s", 0.5).good
    assert not Row("time", 2.1, 4.0, "s", 0.5).good
    assert Row("rate", 900, 1_000, "1/s", 0.9, higher=True).good
    assert not Row("rate", 899, 1_000, "1/s", 0.9, higher=True).good
    assert not Row("time", 1.0, 0.0, "s", 2.0).good


def test_the_table_names_the_anchor_and_what_is_worse():
    text = printed([Row("a", 1234.5, 2.0, "ms", 1.0, anchor_is="curl"), Row("b", 0.5, 1.0, "s", 1.0)])
    first, second = text.splitlines()[2:]
    assert "| 1,234 | 2 (curl) | ms   | 617.25 | ≤ 1   | worse than its bound |" in first
    assert "worse" not in second


@pytest.mark.parametrize(("bound", "code"), [(2.0, 0), (0.5, 1)])
def test_the_command_ends_with_1_where_a_ratio_is_worse(monkeypatch, capsys, bound, code):
    monkeypatch.setattr(metrics, "measure", lambda: [Row("lines", 1.0, 1.0, "us", bound)])
    assert command.main(["metrics"]) == code
    assert "| lines" in capsys.readouterr().out


def test_an_unknown_part_is_refused_with_the_names_of_all(capsys):
    with pytest.raises(SystemExit):
        command.main(["speed"])
    assert f"unknown part speed; the parts are {', '.join(command.PARTS)}" in capsys.readouterr().err
