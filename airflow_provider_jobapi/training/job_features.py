# SPDX-License-Identifier: Apache-2.0
"""The features by which a client knows what a server understands, and the fields of the job file that belong to them.

A field that the first version of the job file does not have is declared with its feature::

    resume_from: Annotated[str, Feature("resume-from", "resume_from"), Field(default="", alias="resumeFrom", …)]

It is part of the canonical form only where its value is not the default, so that every other job keeps its digest. A
server names its features in the header ``Job-Features``, and a client refuses a job that needs another one before it
uploads the job's files.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.parameter_names import spelled

OBJECT_STREAMS = "object-streams"
"""The feature of a server that takes and sends many objects by one request."""

SERVER_FEATURES: tuple[str, ...] = (
    OBJECT_STREAMS,
    "package-indexes",
    "requirement-directions",
    "requirement-wheels",
)
"""The features of a server that belong to no field of the job file."""

_WORD = r"[a-z0-9][a-z0-9-]{0,39}"


@dataclass(frozen=True, slots=True)
class Feature:
    """Marks a field of the job file as part of a feature.

    :ivar name: The feature's name in ``Job-Features``: small letters, digits and ``-``.
    :ivar parameter: What the user calls it, for the sentence that refuses it.
    """

    name: str
    parameter: str


def features_of(model: type[BaseModel]) -> tuple[str, ...]:
    """The features of a server whose job file is this model, sorted."""
    fields = {feature.name for feature in _features(model).values()}
    return tuple(sorted(fields.union(SERVER_FEATURES, *(features_of(inner) for _, inner in _nested(model)))))


def to_header(features: Collection[str]) -> str:
    """Write features as the header ``Job-Features``."""
    return ", ".join(sorted(features))


def of_header(text: str) -> frozenset[str]:
    """Read the header ``Job-Features``; what is no word is ignored."""
    return frozenset(part for part in re.split(r"[,\s]+", text[:4000]) if re.fullmatch(_WORD, part))


def used_features(document: BaseModel) -> dict[str, Feature]:
    """The features that a job file needs, by the path of a field that is used."""
    return dict(_used(document, ""))


def check_features(document: BaseModel, known: Collection[str]) -> None:
    """Refuse a job file with a field that the server does not know.

    :param known: The features of the server.
    :raises InvalidJob: naming the field and what to do.
    """
    for path, feature in used_features(document).items():
        if feature.name not in known:
            raise InvalidJob(
                f"The server of this connection does not know {spelled(feature.parameter)}: leave it out, or have the "
                "server updated.",
                field=path,
            )


def without_unused(document: BaseModel, content: dict[str, Any]) -> dict[str, Any]:
    """Remove from a dumped job file the fields of features that are not used.

    :param content: What pydantic has dumped, by alias; it is changed.
    """
    for name, info in type(document).model_fields.items():
        value, key = getattr(document, name), info.alias or name
        if name in _features(type(document)) and value == info.get_default(call_default_factory=True):
            del content[key]
        else:
            for inner, dumped in _pairs(value, content[key]):
                without_unused(inner, dumped)
    return content


def _used(document: BaseModel, at: str) -> Iterator[tuple[str, Feature]]:
    features = _features(type(document))
    for name, info in type(document).model_fields.items():
        value, path = getattr(document, name), f"{at}{info.alias or name}"
        if name in features and value != info.get_default(call_default_factory=True):
            yield path, features[name]
        for inner, _ in _pairs(value, value):
            yield from _used(inner, f"{path}.")


def _pairs(value: Any, dumped: Any) -> Iterator[tuple[BaseModel, Any]]:
    """The models in a field that may have such fields, each with what was dumped of it."""
    values, all_dumped = (value, dumped) if isinstance(value, tuple) else ((value,), (dumped,))
    if values and isinstance(values[0], BaseModel) and _has_features(type(values[0])):
        yield from zip(values, all_dumped, strict=True)


@cache
def _features(model: type[BaseModel]) -> dict[str, Feature]:
    marked = ((name, each) for name, info in model.model_fields.items() for each in info.metadata)
    return {name: each for name, each in marked if isinstance(each, Feature)}


@cache
def _nested(model: type[BaseModel]) -> tuple[tuple[str, type[BaseModel]], ...]:
    return tuple((name, inner) for name, info in model.model_fields.items() for inner in _models(info.annotation))


@cache
def _has_features(model: type[BaseModel]) -> bool:
    return bool(_features(model)) or any(_has_features(inner) for _, inner in _nested(model))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
