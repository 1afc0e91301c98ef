# SPDX-License-Identifier: Apache-2.0
"""What the page about train containers says of commands, responses, requirements and isolation is so."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from airflow_provider_jobapi.services.train_container import export_files, judge, responses, schemas, tags
from airflow_provider_jobapi.services.train_container.commands import RULES, SPELLINGS, Command
from airflow_provider_jobapi.services.train_container.dialects import read_requirements
from airflow_provider_jobapi.services.train_container.isolation import SETTINGS, read_isolation
from airflow_provider_jobapi.services.train_container.requirements import evaluate
from airflow_provider_jobapi.services.train_container.targets import TARGETS, read_targets
from airflow_provider_jobapi.services.train_container.vocabulary import RunState
from airflow_provider_jobapi.training.status import Reason
from tests.harness.pages import rows, section

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "train_container.md").read_text()
SAID = " ".join(PAGE.split())


def table(title: str) -> list[list[str]]:
    return [list(row) for row in rows(section(PAGE, title))][1:]


def test_the_commands() -> None:
    assert table("The commands") == [
        [
            f"`{command}`",
            RULES[command].meaning,
            "yes" if RULES[command].environment else "no",
            "kept until its successor is made" if RULES[command].kept else "removed at its end",
        ]
        for command in Command
    ]


def test_the_spellings() -> None:
    for name, spelling in SPELLINGS.items():
        assert f"`{name}`" in PAGE
        assert not spelling.prefix or f"it is `{' '.join(spelling.prefix)}` unless set" in SAID


def test_the_schemas_are_linked() -> None:
    assert [row[0].strip("`") for row in table("Schemas")] == list(schemas.MODELS)
    for row in table("Schemas"):
        name = schemas.file_name(row[0].strip("`"))
        assert row[1] == f"[{name}](path:train_container/{name})"
        assert (DOCS / "train_container" / name).exists()


def test_the_targets() -> None:
    assert table("Requirements") == [[f"`{name}`", target.allowed] for name, target in TARGETS.items()]
    shown = re.search(r"such as `(\{\"FHIR\".*?\})`", SAID)
    assert shown
    assert read_targets(json.loads(shown[1]))["FHIR"].accepts("https://x/fhir", ())


def test_the_isolation() -> None:
    assert table("Isolation") == [[f"`{name}`", meaning] for name, meaning in SETTINGS.items()]
    shown = re.search(r"has to allow: `(\{.*?\})`", SAID)
    assert shown
    made = read_isolation(json.loads(shown[1]))
    assert (made.read_only_root, made.writable) == (False, ())


def test_the_reasons() -> None:
    said = {word for row in table("The response") for word in re.findall(r"`([A-Z]\w+)`", row[1])}
    assert said == {
        responses.NO_RESPONSE,
        responses.INVALID_RESPONSE,
        judge.TRAIN_FAILED,
        judge.REQUIREMENTS_UNMET,
        Reason.NON_ZERO_EXIT,
        Reason.OUT_OF_MEMORY,
    }
    assert all(f"`{state}`" in section(PAGE, "The response") for state in RunState if state is not RunState.SUCCESS)


def test_the_example_of_requirements_and_its_sentence() -> None:
    shown = re.search(r"```json\n(.*?)```", section(PAGE, "Requirements"), re.DOTALL)
    assert shown
    found = evaluate(read_requirements(json.loads(shown[1])), {})
    assert f"*{found.sentences[0]}*" in SAID


@pytest.mark.parametrize(
    "sentence",
    [
        f"in the last {responses.LARGEST_RESPONSE:,} bytes of the stdout",
        f"at most {responses.DEEPEST} objects and lists",
        f"1 to {tags.LONGEST_TAG} small letters",
        f"at most {export_files.MOST_FILES:,}",
        "`^[A-Z]+(_[A-Z]+)*$`",
    ],
)
def test_the_numbers(sentence: str) -> None:
    assert sentence in SAID


def test_a_containerfile_of_ten_lines_at_most() -> None:
    assert len((DOCS / "train_container" / "example" / "Containerfile").read_text().splitlines()) <= 10
