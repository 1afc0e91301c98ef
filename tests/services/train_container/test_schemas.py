# SPDX-License-Identifier: Apache-2.0
"""The published schemas are those of the models, and accept and refuse what the models do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from airflow_provider_jobapi.services.train_container.schemas import MODELS, file_name, schema, text
from airflow_provider_jobapi.services.train_container.targets import read_targets
from tests.services.train_container.dialect_vectors import RUN_JANUARY_2019, SEED, listed, variable

FOLDER = Path(__file__).parents[3] / "docs" / "train_container"


def published(name: str) -> dict[str, Any]:
    return dict(json.loads((FOLDER / file_name(name)).read_text()))


@pytest.mark.parametrize("name", MODELS)
def test_the_published_schemas_are_those_of_the_code(name: str) -> None:
    said = "run: python -m airflow_provider_jobapi.services.train_container.schemas docs/train_container"
    assert (FOLDER / file_name(name)).read_text() == text(name), said
    jsonschema.Draft202012Validator.check_schema(published(name))
    assert published(name)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_published_schema_has_a_model() -> None:
    assert {path.name for path in FOLDER.glob("*.schema.json")} == set(map(file_name, MODELS))


def test_the_example_of_the_specification() -> None:
    jsonschema.validate(SEED, published("list_requirements"))
    jsonschema.validate(SEED["requirements"][0]["requirement"], published("environmentVariable"))


def test_a_target_that_is_added() -> None:
    needs = {"requirements": [{"id": 0, "requirement": variable("A", "FHIR")}]}
    assert not accepts(published("list_requirements"), needs)
    assert accepts(schema("list_requirements", read_targets({"FHIR": ""})), needs)


def accepts(rules: dict[str, Any], content: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(rules).is_valid(content))


CASES: list[tuple[str, Any, bool]] = [
    ("list_requirements", SEED, True),
    ("list_requirements", listed("A_B"), True),
    ("list_requirements", {"requirements": []}, True),
    ("list_requirements", {}, False),
    ("list_requirements", listed("A", relations=[{"type": "none", "requirements": [0]}]), False),
    ("list_requirements", {"requirements": [{"id": -1, "requirement": variable("A")}]}, False),
    ("list_requirements", {"requirements": [{"id": True, "requirement": variable("A")}]}, False),
    *((("environmentVariable", variable(name), name in {"FOO", "A_B"})) for name in (
        "FOO", "A_B", "FOO\n", "FOO1", "foo", "A__B", "_A", "A_", "", " FOO", "FOO BAR", "\u00c4")),
    ("environmentVariable", variable("A", ""), False),
    ("environmentVariable", {**variable("A"), "type": "gpu"}, False),
    ("environmentVariable", {**variable("A"), "description": "more"}, True),
    ("check_requirements", {"unmet": []}, True),
    ("check_requirements", {"unmet": [0, "FOO"], **SEED}, True),
    ("check_requirements", {"unmet": [-1]}, False),
    ("check_requirements", {"unmet": [" "]}, False),
    ("check_requirements", {"message": "m"}, False),
    *((("print_model_summary", {"content": content}, content is not None and content != 1)) for content in (
        "text", "", {"a": 1}, [1], None, 1)),
    ("print_model_summary", {}, False),
    ("run_algorithm", RUN_JANUARY_2019, True),
    ("run_algorithm", {"state": "Application"}, True),
    ("run_algorithm", {"state": "success", "next_train_tag": ["a", "b.1"]}, True),
    ("run_algorithm", {"state": "done"}, False),
    ("run_algorithm", {"state": "success", "rebase": {"type": "oci"}}, False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "valid"), CASES)
def test_schema_and_model_agree(name: str, content: Any, valid: bool) -> None:
    assert accepts(published(name), content) is valid
    try:
        MODELS[name].model_validate(content)
        read = True
    except ValidationError:
        read = False
    assert read is valid


def test_the_schema_has_the_rules_of_tags_and_files() -> None:
    rules = published("run_algorithm")
    for tag in ("B", "-a", ".a", "a_b", "a\n", "", "a" * 129):
        assert not accepts(rules, {"state": "success", "next_train_tag": tag})
    assert not accepts(rules, {"state": "success", "export_files": ["model"]})
