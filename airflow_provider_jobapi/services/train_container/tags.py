# SPDX-License-Identifier: Apache-2.0
r"""The rules of tags, and the names of images. Pure.

A train's next tag is as the reference implementation has it, and as Docker can store it: its ``tag`` is
``[\w][\w.-]{0,127}`` (distribution/reference). Names of repositories follow the same grammar.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.train_container.errors import registry_of
from airflow_provider_jobapi.services.train_container.responses import ResponseProblem

NEXT_TAG = r"[-.a-z0-9]+"
"""As train-api-python and library-jvm have it, the whole tag."""

LONGEST_TAG = 128
LONGEST_REPOSITORY = 255
"""Characters; the limits of Docker."""

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = rf"(?:{_DOMAIN}/)?{_PART}(?:/{_PART})*"
_IMAGE = re.compile(
    rf"(?P<repository>{_REPOSITORY})(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}))?(?P<digest>@sha256:[0-9a-f]{{64}})?"
)


@dataclass(frozen=True, slots=True)
class ImageName:
    """The name of an image.

    :ivar repository: With the registry, such as ``registry.example.com:5000/trains/bmi``.
    :ivar tag: Empty where it has none.
    :ivar digest: Such as ``sha256:…``; empty where it has none.
    """

    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def registry(self) -> str:
        """The registry, as Docker reads it: the first part, where it can be a host."""
        return registry_of(self.repository)

    def __str__(self) -> str:
        """Return the whole name."""
        return self.repository + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def read_image(name: str, field: str = "image") -> ImageName:
    """Read the name of an image.

    :param field: The parameter, for the error.
    :raises InvalidJob: when Docker knows no such names.
    """
    found = _IMAGE.fullmatch(name)
    if found is None or len(found["repository"]) > LONGEST_REPOSITORY:
        raise InvalidJob(
            f"{field} cannot be {name[:80]!r}: it is the name of an image in small letters, such as "
            "registry.example.com/trains/bmi:station.1.",
            field=field,
        )
    return ImageName(found["repository"], found["tag"] or "", (found["digest"] or "").removeprefix("@"))


def check_next_tag(tag: str, what: str = "The train's next tag") -> str:
    """Return a tag of a successor image that is allowed.

    :param what: What it is, for the error.
    :raises ResponseProblem: saying what is allowed.
    """
    if not re.fullmatch(NEXT_TAG, tag) or len(tag) > LONGEST_TAG or tag[0] in "-.":
        raise ResponseProblem(
            f"{what} cannot be {tag[:140]!r}: it is 1 to {LONGEST_TAG} small letters, digits, '-' and "
            "'.', and begins with a letter or digit."
        )
    return tag
