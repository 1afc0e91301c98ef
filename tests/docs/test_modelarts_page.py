# SPDX-License-Identifier: Apache-2.0
"""What the page about ModelArts says of the connection, of the requests and of the limits is so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_jobapi.services.modelarts import follower, log_pages, page_format, plan
from airflow_provider_jobapi.services.modelarts.catalogue import LIST_LIFETIME, CustomImage, ModelArtsEngine
from airflow_provider_jobapi.services.modelarts.connection import ModelArtsConnection
from airflow_provider_jobapi.services.modelarts.dialects import dialect_of
from airflow_provider_jobapi.services.modelarts.plan import Options, Plan
from airflow_provider_jobapi.services.polling import ReadLimits
from tests.harness.pages import rows, section

PAGE = (Path(__file__).parents[2] / "docs" / "modelarts.md").read_text()


def connection() -> ModelArtsConnection:
    """The one that the page shows."""
    shown = re.search(r"AIRFLOW_CONN_MODELARTS_DEFAULT='(.*?)'$", PAGE, re.DOTALL | re.MULTILINE)
    assert shown
    given = json.loads(shown[1])
    assert given.pop("conn_type") == "modelarts"
    return ModelArtsConnection.of(**given)


def test_the_connection_of_the_page_is_one() -> None:
    assert connection().region == "eu-de"


@pytest.mark.parametrize("dialect", ["v1", "v2"])
@pytest.mark.parametrize("image", [ModelArtsEngine(4, "TensorFlow", "TF"), CustomImage("swr.example.com/a/b")])
def test_every_field_of_the_table_is_in_the_request(dialect: str, image: ModelArtsEngine | CustomImage) -> None:
    plan = Plan("n", "d", "0", "/b/c/", "boot.py", "/b/d/", "/b/o/", image, "f", 1, (("A", "b"),))
    body = dict(dialect_of(dialect).create(plan)[0].body or {})
    own = isinstance(image, CustomImage)
    cells = [row[int(dialect[1])] for row in rows(section(PAGE, "How a job is mapped")) if _is_of(row[0], own)]
    told = [name for cell in cells for name in re.findall(r"`([a-z_.]+)`", cell)]
    assert len(told) >= 10
    places = [name for name in told if "." in name]
    missing = [place for place in places if not _has(body, place.split("."))]
    assert missing == []


def _is_of(row: str, own: bool) -> bool:
    elsewhere = ("the status", "the reason", "the log", "`timeout`", "`completion", "`requirements", "of the job")
    if row.startswith(elsewhere):
        return False
    return "one of your own" in row if own and row.startswith("`image`") else "one of your own" not in row


def _has(body: Any, path: list[str]) -> bool:
    return not path or (isinstance(body, dict) and path[0] in body and _has(body[path[0]], path[1:]))


def test_the_options() -> None:
    assert set(re.findall(r"`(\w+)`", " ".join(row[0] for row in rows(section(PAGE, "`service_options`"))))) == set(
        plan.SHORTCUTS
    )
    shown = re.findall(r"^service_options = (.*?)  # (v\d)$", PAGE, re.MULTILINE)
    assert [dialect for _, dialect in shown] == ["v1", "v2"]
    for written, dialect in shown:
        dialect_of(dialect).overrides(Options.of(json.loads(written)).more)
    ids = section(PAGE, "`service_options`").partition("Flavours and engines")[2].partition("\n\n")[0]
    for place in re.findall(r"`([a-z_.]+)`", ids):
        first, *rest = place.split(".")
        body: Any = "1"
        for name in reversed(rest):
            body = {name: body}
        dialect = "v1" if first == "config" else "v2"
        named = dialect_of(dialect).overrides({first: body})
        assert named.flavor or named.engine, place


def test_the_numbers() -> None:
    said = " ".join(PAGE.split())
    for sentence in (
        f"its first {plan.LONGEST_SLUG} letters",
        f"share {follower.THREADS} threads",
        f"when two reads, {follower.QUIET_SECONDS:g} seconds apart",
        f"takes up to {ReadLimits().pages} pages",
        f"blocks grow to {log_pages.block_end(10**6) - 10**6} lines, a page has at most {page_format.PAGE_LINES}",
        f"at most {log_pages.SPAN // 10**9} seconds before",
        f"the latest {page_format.PAGE_LINES} lines",
    ):
        assert sentence in said
    assert LIST_LIFETIME == 600
    assert "cached for ten minutes" in said
    assert follower.JITTER == 0.1
    assert "a tenth more or less" in ModelArtsConnection.conn_fields()["poll_interval"]["description"]
