# SPDX-License-Identifier: Apache-2.0
"""The page about fetching models names every kind."""

from __future__ import annotations

import re
from pathlib import Path

from airflow_provider_jobapi.training.model import ModelKind

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "fetch_model.md"


def test_every_kind_is_in_the_table():
    rows = re.findall(
        r"^\| (`.*?) \|", PAGE.read_text().partition("## Kinds")[2].partition("\n**A pickle")[0], re.MULTILINE
    )
    assert {kind for row in rows for kind in re.findall(r"`(\w+)`", row)} == set(ModelKind)


def test_the_readme_names_all_kinds_and_no_other():
    readme = (PAGE.parents[2] / "README.md").read_text()
    table = readme.partition("| framework |")[2].partition("\n\n")[0]
    rows = [line.split(" | ")[2] for line in table.splitlines()[2:]]
    assert {kind for row in rows for kind in re.findall(r"`(\w+)`", row)} == set(ModelKind)
