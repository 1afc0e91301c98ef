# SPDX-License-Identifier: Apache-2.0
"""What the responses of a train say, in the words of Train API V1. Pure.

The specification has a literal example of ``ListRequirementsResponse``, and a schema of the summary's ``content``. The
other responses are in the words of the library ``pht`` of January 2019, which its author wrote beside it. The JSON
Schemas in the documentation are made from these models; :mod:`.dialects` turns the responses of other versions into
them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema

VARIABLE_NAME = r"[A-Z]+(_[A-Z]+)*"
"""The name of an environment variable, whole, as the specification has it for compatibility: no digits."""


class Part(BaseModel):
    """Base of the models. Fields that the vocabulary does not have are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def _variable_name(name: str) -> str:
    if not re.fullmatch(VARIABLE_NAME, name):
        raise ValueError("name")
    return name


def _identifier(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("id")
    return value


def _identifier_or_name(value: object) -> int | str:
    return value if isinstance(value, str) and value.strip() else _identifier(value)


def _tags(value: object) -> object:
    return [value] if isinstance(value, str) else [] if value is None else value


def _summary(value: object) -> object:
    if not isinstance(value, str | dict | list):
        raise ValueError("content")  # noqa: TRY004 -- pydantic takes a ValueError
    return value


Identifier = Annotated[int, PlainValidator(_identifier), WithJsonSchema({"type": "integer", "minimum": 0})]
"""The id of a requirement."""

IdentifierOrName = Annotated[
    int | str,
    PlainValidator(_identifier_or_name),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"\S"}]}),
]


class EnvironmentVariable(Part):
    """A requirement of the type ``environmentVariable``: a variable that must be set in the container."""

    type: Literal["environmentVariable"] = Field(
        description="environmentVariable, the only type of requirement that Train API V1 has"
    )
    target: str = Field(min_length=1, description="what the value is, such as URL")
    name: Annotated[
        str,
        AfterValidator(_variable_name),
        Field(
            description="words of the letters A to Z, separated by single '_' and without digits, such as DATA_URL",
            # Python's "$" also matches before a line feed at the end, which the lookahead refuses.
            json_schema_extra={"pattern": rf"^{VARIABLE_NAME}$(?!\n)"},
        ),
    ]
    choices: tuple[str, ...] = Field(default=(), description="the values that are allowed, for the target enum")


class NumberedRequirement(Part):
    """A requirement and its id."""

    id: Identifier = Field(description="a whole number from 0, each once")
    requirement: EnvironmentVariable = Field(description="an object of type, target and name")


class RelationType(StrEnum):
    """How the requirements of a relation belong together. No other type ever existed."""

    ALL = "all"
    ANY = "any"


class Relation(Part):
    """Which requirements must be met: all of them, or any one."""

    type: RelationType = Field(description="all or any")
    requirements: tuple[Identifier, ...] = Field(description="a list of ids of requirements")
    forbidden: tuple[Identifier, ...] = Field(
        default=(), description="a list of ids of requirements that must not be met, as formulas of pht 1.0 have them"
    )


class Requirements(Part):
    """The response to ``list_requirements``: what the train needs of a station."""

    model_config = ConfigDict(title="ListRequirementsResponse")

    requirements: tuple[NumberedRequirement, ...] = Field(description='a list of {"id": …, "requirement": …} objects')
    relations: tuple[Relation, ...] = Field(
        default=(),
        description='a list of {"type": "all" or "any", "requirements": [ids]} objects, all of which must hold',
    )
    """Without any, all requirements must be met."""

    def by_id(self) -> dict[int, EnvironmentVariable]:
        """The requirements by their ids."""
        return {each.id: each.requirement for each in self.requirements}

    def in_force(self) -> tuple[Relation, ...]:
        """The relations, or the one that wants all requirements where there is none."""
        return self.relations or (Relation(type=RelationType.ALL, requirements=tuple(self.by_id())),)


class CheckResult(Part):
    """The response to ``check_requirements``: which requirements the station does not meet."""

    model_config = ConfigDict(title="CheckRequirementsResponse")

    unmet: tuple[IdentifierOrName, ...] = Field(description="a list of ids or names of requirements that are not met")
    message: str = Field(default="", description="a sentence for people")
    requirements: tuple[NumberedRequirement, ...] | None = Field(
        default=None, description='a list of {"id": …, "requirement": …} objects, which the ids of unmet refer to'
    )
    relations: tuple[Relation, ...] = Field(default=(), description="as in the response to list_requirements")

    def checked(self) -> Requirements | None:
        """The requirements that were checked, where the response has them."""
        if self.requirements is None:
            return None
        return Requirements(requirements=self.requirements, relations=self.relations)


class Summary(Part):
    """The response to ``print_model_summary``."""

    model_config = ConfigDict(title="PrintModelSummaryResponse")

    content: Annotated[
        Any,
        BeforeValidator(_summary),
        WithJsonSchema({"type": ["string", "object", "array"]}),
        Field(description="a text; an object or a list is accepted"),
    ]


class RunState(StrEnum):
    """How an algorithm ended, in its own words."""

    SUCCESS = "success"
    FAILURE = "failure"
    APPLICATION = "application"
    """A state whose meaning is the application's own."""


_ANY_CASE = "^({})$".format(
    "|".join("".join(f"[{letter}{letter.upper()}]" for letter in state.value) for state in RunState)
)


_TAG_SCHEMA = {"type": "string", "pattern": r"^[a-z0-9][-.a-z0-9]{0,127}$(?!\n)"}


class Rebase(Part):
    """What the successor image is made of, beside the export files."""

    type: Literal["docker"] = Field(default="docker", description="docker")
    from_: str | None = Field(
        default=None, alias="from", min_length=1, description="the image that the export files are put onto"
    )


class RunResult(Part):
    """The response to ``run_algorithm``."""

    model_config = ConfigDict(title="RunAlgorithmResponse")

    state: Annotated[
        RunState,
        BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value),
        WithJsonSchema({"type": "string", "pattern": _ANY_CASE}),
        Field(description="success, failure or application, in any case"),
    ]
    message: str = Field(default="", description="a sentence for people")
    next_train_tag: Annotated[
        tuple[str, ...],
        BeforeValidator(_tags),
        WithJsonSchema({"anyOf": [_TAG_SCHEMA, {"type": "array", "items": _TAG_SCHEMA}]}),
        Field(
            default=(),
            description="the tag of the successor image, or a list of tags: small letters, digits, '-' and '.'",
        ),
    ]
    rebase: Rebase | None = Field(default=None, description='an object such as {"type": "docker", "from": "base:1"}')
    export_files: tuple[Annotated[str, WithJsonSchema({"type": "string", "pattern": "^/"})], ...] = Field(
        default=(), description="a list of absolute paths of regular files for the successor image"
    )

    @property
    def base(self) -> str | None:
        """The image that the successor is put onto, where the train names one."""
        return None if self.rebase is None else self.rebase.from_


Answer = Requirements | CheckResult | Summary | RunResult
"""What a response is read as."""


def joined(sentences: Sequence[str]) -> str:
    """Join sentences, leaving out the empty ones."""
    return " ".join(filter(None, (each.strip() for each in sentences)))
