# SPDX-License-Identifier: Apache-2.0
"""Logs by preview: the end of a log that grows, each line once."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.modelarts import log_previews
from airflow_provider_jobapi.services.modelarts.log_previews import PreviewPart


def answer(body: Any) -> Answer:
    return Answer(200, {}, json.dumps(body).encode(), datetime.now(UTC))


def test_the_calls() -> None:
    assert log_previews.preview("j", "worker-0").path == "/training-jobs/j/tasks/worker-0/logs/preview"
    assert log_previews.link("j", "worker-0").path == "/training-jobs/j/tasks/worker-0/logs/url"


def test_where_a_preview_begins() -> None:
    assert log_previews.read_preview(answer({"content": "ü\n", "current_size": "3", "full_size": "10"})) == PreviewPart(
        7, b"\xc3\xbc\n"
    )
    # A byte that is no UTF-8 came as three, so where the others are is not known.
    assert log_previews.read_preview(answer({"content": "\ufffd\n", "current_size": 2, "full_size": 9})) == PreviewPart(
        9, b""
    )
    assert log_previews.read_preview(answer({"content": "x"})) == PreviewPart(0, b"x")
    assert log_previews.read_preview(answer({})) == PreviewPart(0, b"")


def test_link() -> None:
    assert log_previews.read_link(answer({"obs_url": "https://obs/x?Signature=y"})) == "https://obs/x?Signature=y"
    with pytest.raises(BrokenContract, match="no link"):
        log_previews.read_link(answer({"obs_url": "file:///etc/passwd"}))


def test_a_line_is_returned_when_it_has_a_line_end() -> None:
    part = PreviewPart(10, b"one\ntwo")
    assert part.lines_after(9, 9, final=False) is None
    assert part.lines_after(10, 9, final=False) == (("one",), 14)
    assert part.lines_after(14, 9, final=False) == ((), 14)
    assert part.lines_after(14, 9, final=True) == (("two",), 17)
    assert part.lines_after(17, 9, final=True) == ((), 17)
    assert part.lines_after(99, 9, final=True) == ((), 99)


@given(st.lists(st.text("ab ü", max_size=4), max_size=20), st.lists(st.integers(0, 60), max_size=9), st.integers(1, 9))
def test_every_line_once(lines: list[str], cuts: list[int], most: int) -> None:
    log = "".join(f"{line}\n" for line in lines).encode()
    found, offset = list[str](), 0
    for cut in [*sorted(cuts), *[len(log)] * 20]:
        read = PreviewPart(0, log[:cut]).lines_after(offset, most, final=cut >= len(log))
        assert read is not None
        assert len(read[0]) <= most
        found, offset = found + list(read[0]), read[1]
    assert found == lines
