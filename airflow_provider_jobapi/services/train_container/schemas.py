# SPDX-License-Identifier: Apache-2.0
"""The JSON Schemas (2020-12) of the responses and of each type of requirement. Pure.

They are published in ``docs/train_container``; ``python -m airflow_provider_jobapi.services.train_container.schemas
docs/train_container`` writes them there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from airflow_provider_jobapi.services.train_container.commands import Command
from airflow_provider_jobapi.services.train_container.targets import TARGETS, Target
from airflow_provider_jobapi.services.train_container.vocabulary import (
    CheckResult,
    EnvironmentVariable,
    Requirements,
    RunResult,
    Summary,
)

MODELS: Mapping[str, type[BaseModel]] = {
    Command.LIST_REQUIREMENTS.value: Requirements,
    Command.CHECK_REQUIREMENTS.value: CheckResult,
    Command.PRINT_MODEL_SUMMARY.value: Summary,
    Command.RUN_ALGORITHM.value: RunResult,
    "environmentVariable": EnvironmentVariable,
}
"""By the command, or by the type of the requirement."""


class _WithoutTitles(GenerateJsonSchema):
    """Leaves out the titles that pydantic makes of the names of fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 -- pydantic's signature
        return False


def schema(name: str, targets: Mapping[str, Target] = TARGETS) -> dict[str, Any]:
    """Return the schema of a response or of a type of requirement.

    :param name: One of :data:`MODELS`.
    :param targets: The vocabulary of targets.
    """
    made: JsonSchemaValue = MODELS[name].model_json_schema(schema_generator=_WithoutTitles)
    for part in (made, *made.get("$defs", {}).values()):
        if part.get("title") == EnvironmentVariable.__name__:
            part["properties"]["target"]["enum"] = list(targets)
    return {"$schema": GenerateJsonSchema.schema_dialect, "$id": file_name(name), **made}


def file_name(name: str) -> str:
    """The file of a schema."""
    return f"{name}.schema.json"


def text(name: str) -> str:
    """The text of a schema's file."""
    return json.dumps(schema(name), indent=2) + "\n"


if __name__ == "__main__":
    for each in MODELS:
        (Path(sys.argv[1]) / file_name(each)).write_text(text(each))
