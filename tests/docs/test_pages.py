# SPDX-License-Identifier: Apache-2.0
"""What the pages say of the code is so: messages that they quote, tables that are to be whole, what they install."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path

import pytest

from airflow_provider_jobapi.operators.training import SubmitTrainingOperator
from airflow_provider_jobapi.training.status import Reason
from tests.harness.pages import rows, section

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_messages_that_are_quoted_exist():
    files = (ROOT / "airflow_provider_jobapi").rglob("*.py")
    code = re.sub(r'"\s+f?"', "", "\n".join(file.read_text() for file in files))  # one text on several lines
    quoted = re.findall(r'"([^"]+)"', (DOCS / "troubleshooting.md").read_text())
    assert len(quoted) > 3
    for part in [part for quote in quoted for part in quote.split("…")]:
        assert " ".join(part.split()) in code


def test_every_parameter_of_a_training_is_in_the_table():
    table = rows(section((DOCS / "howto" / "submit_training.md").read_text(), "Parameters"))
    told = [name for first, *_ in table for name in re.findall(r"`(\w+)`", first)]
    assert sorted(told) == sorted(
        set(inspect.signature(SubmitTrainingOperator.__init__).parameters) - {"self", "kwargs"}
    )


def test_every_reason_of_an_end_is_in_the_table():
    page = (DOCS / "server.md").read_text().partition("| end | reason |")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"`(\w+)` \|$", page, re.MULTILINE)) == sorted(Reason)


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))], ids=lambda page: page.stem)
def test_what_is_installed_has_these_extras(page):
    for extras in re.findall(rf"{PROJECT['name']}\[(.*?)\]|\"\.\[(.*?)\]\"", page.read_text()):
        assert set("".join(extras).split(",")) <= set(PROJECT["optional-dependencies"])
