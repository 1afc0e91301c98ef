# SPDX-License-Identifier: Apache-2.0
"""Parsing of log pages in all formats of the API's documents."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.modelarts import page_format
from tests.harness.modelarts.caller import document

LINE = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5)


def answer(body: Any) -> Answer:
    return Answer(200, {}, json.dumps(body).encode(), datetime.now(UTC))


def test_the_requests_of_the_documents() -> None:
    call = page_format.v1_page("567524", "1108482", "job-jobtest-tf.0", page_format.PageRequest(None, "desc", 8))
    assert call.path == "/training-jobs/567524/versions/1108482/aom-log"
    assert call.params == {"log_file": "job-jobtest-tf.0", "lines": "8", "order": "desc"}
    call = page_format.v2_page("a/b", "worker-0", page_format.PageRequest(1609121900042593083, "asc", 500))
    assert call.path == "/training-jobs/a%2Fb/logs/worker-0"
    assert call.params == {"base_line": "1609121900042593083", "lines": "500", "order": "asc"}


def test_the_page_of_the_documents() -> None:
    page = page_format.read_page(answer(document("log")))
    assert (page.start, page.end, page.ended) == (1609121886518240330, 1609121900042593083, True)
    assert len(page.texts) == 8
    assert page.texts[:2] == ("Done exporting!", "[Modelarts Service Log]Training completed.")
    assert page.texts[7] == "[ModelArts Service Log]modelarts-pipe: total length: 23303"


def test_numbers_as_strings() -> None:
    body = document("log") | {"lines": "8", "start_line": 1609121886518240330}
    assert page_format.read_page(answer(body)) == page_format.read_page(answer(document("log")))


@given(st.lists(LINE, min_size=1, max_size=6), st.sampled_from(["\n\n", "\n"]))
def test_separator_from_the_number_of_lines(lines: list[str], separator: str) -> None:
    assert page_format.split_lines(separator.join(lines) + "\n", len(lines)) == (tuple(lines), True)
    assert page_format.split_lines(separator.join(lines), len(lines))[0] == tuple(lines)


def test_without_a_number_the_separator_is_guessed() -> None:
    assert page_format.split_lines("a\n\nb\n", None) == (("a", "b"), True)
    assert page_format.split_lines("a\nb\n", None) == (("a", "b"), True)
    assert page_format.split_lines("a\nb\nc\n\nd\n", 9) == (("a\nb\nc", "d"), True)
    assert page_format.split_lines("a", None) == (("a",), False)


def test_a_page_from_new_to_old_is_reversed() -> None:
    page = page_format.read_page(answer({"start_line": "9", "end_line": "7", "lines": 2, "content": "new\nold\n"}))
    assert page == page_format.Page(7, 9, ("old", "new"), count=2)
    assert not page_format.read_page(answer({"start_line": 1, "end_line": 1, "lines": 1, "content": "3%"})).ended


def test_empty_lines_are_lines() -> None:
    page = page_format.read_page(answer({"start_line": 5, "end_line": 5, "lines": 1, "content": ""}))
    assert page == page_format.Page(5, 5, ("",), ended=False, count=1)
    page = page_format.read_page(answer({"start_line": 5, "end_line": 6, "lines": 2, "content": "a\n"}))
    assert (page.texts, page.ended) == (("a", ""), False)
    page = page_format.read_page(answer({"start_line": 5, "end_line": 6, "lines": 2, "content": "a\n\n"}))
    assert (page.texts, page.ended) == (("a", ""), True)


def test_empty_and_invalid_pages() -> None:
    assert (
        page_format.read_page(answer({"start_line": "", "end_line": "", "lines": "0", "content": ""}))
        == page_format.EMPTY
    )
    with pytest.raises(BrokenContract, match="start_line"):
        page_format.read_page(answer({"start_line": "soon", "end_line": 1, "lines": 1, "content": "x\n"}))
