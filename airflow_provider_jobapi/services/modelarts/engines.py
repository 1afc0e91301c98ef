# SPDX-License-Identifier: Apache-2.0
"""Which engine a job runs on: ModelArts' own images, named by name and version, or an image of the user's.

A DAG names an image as other services know them, such as ``tensorflow/tensorflow:2.1.0``, and the same DAG shall run
here. So the image's name is looked for among the engines' names and its tag among their versions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.modelarts.wire import text

_BENEATH = re.compile(r"(?:python|py|cp|cuda|cudnn|cann|ubuntu|euler(?:os)?)[-_]?\d[\d.]*")
"""What an engine's version tells of that on which it stands; no tag of an image is meant by it."""


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine of ModelArts.

    :ivar id: A number in v1, a text in v2; kept as the service sent it.
    """

    id: Any
    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"


@dataclass(frozen=True, slots=True)
class CustomImage:
    """An image of the user's own, in the registry of the cloud."""

    url: str


def read(entries: Iterable[dict[str, Any]]) -> list[Engine]:
    """Read the engines of either dialect."""
    return [
        Engine(each["engine_id"], text(each.get("engine_name")), text(each.get("engine_version")))
        for each in entries
        if each.get("engine_id") is not None
    ]


def custom(image: str) -> CustomImage | None:
    """The image where it is one of a registry, whose first part has a dot; no engine is named so."""
    wanted = image.strip()
    return CustomImage(wanted) if "/" in wanted and "." in wanted.partition("/")[0] else None


def choose(
    engines: Sequence[Engine], image: str, *, named: object = None, default: str | None = None, python: int = 3
) -> Engine | CustomImage:
    """The engine for a job.

    :param image: What the DAG names as its image: an engine as ``name:version``, an engine's version or id, an image
        of a registry (whose first part has a dot), or an image that other services would pull.
    :param named: The engine that ``service_options`` name.
    :param default: The engine that the connection names, for images that name no exact one.
    :param python: The major version of Python, where several engines fit.
    :raises InvalidJob: when none fits; it lists those that there are.
    """
    if named is not None:
        return _exact(engines, str(named)) or _none(engines, f"service_options name the engine {str(named)!r}")
    wanted = image.strip()
    name, _, tag = wanted.rpartition("/")[2].partition(":")
    if found := _exact(engines, wanted):
        return found
    if (own := custom(wanted)) is not None:
        return own
    fitting = [each for each in engines if each.name.lower() == name.lower() and _has(each, tag)]
    if default and (not fitting or not re.match(r"\d", tag)):
        return _exact(engines, default) or _none(engines, f"the connection names the engine {default!r}")
    if not fitting:
        return _none(engines, f"the job names the image {wanted!r}")
    return max([each for each in fitting if _python(each) in {python, None}] or fitting, key=_age)


def _exact(engines: Sequence[Engine], wanted: str) -> Engine | None:
    spelled = wanted.strip().lower()
    if not spelled:
        return None
    return next(
        (each for each in engines if spelled in {str(each).lower(), each.version.lower(), str(each.id).lower()}), None
    )


def _has(engine: Engine, tag: str) -> bool:
    found = re.match(r"\d+(\.\d+)*", tag)
    if not found:
        return True
    own = _BENEATH.sub("", engine.version.lower())
    return re.search(rf"(?<![\d.]){re.escape(found[0])}(?![\d])", own) is not None


def _python(engine: Engine) -> int | None:
    found = re.search(r"(?:python|py_?|cp)(\d)", engine.version.lower())
    return int(found[1]) if found else None


def _age(engine: Engine) -> tuple[list[int], str]:
    return [int(part) for part in re.findall(r"\d+", engine.version)], engine.version


def _none(engines: Sequence[Engine], why: str) -> Engine:
    listed = ", ".join(sorted(str(each) for each in engines)[:40]) or "none"
    raise InvalidJob(f"ModelArts has no such engine: {why}; name one of these: {listed}.", field="image")
