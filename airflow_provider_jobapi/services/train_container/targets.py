# SPDX-License-Identifier: Apache-2.0
"""The targets of environment variables: the kinds of values that a train can require. Pure.

The specification's vocabulary of targets was never written down; its example has ``URL``. ``token``, ``enum`` and
``bindMount`` come from ``pht`` 1.0. A connection or a parameter may add others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_jobapi.exceptions import InvalidJob

_SCHEMES = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:)+//")


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of values.

    :ivar allowed: What a value is, in words.
    :ivar accepts: Whether a value, of which the second argument has the allowed choices, is of the kind. It is never
        blank.
    """

    allowed: str
    accepts: Callable[[str, Sequence[str]], bool]

    def words(self, choices: Sequence[str]) -> str:
        """What a value is, in words, where the requirement has these choices."""
        return f"one of {', '.join(map(repr, choices))}" if choices else self.allowed


def _any(_value: str, _choices: Sequence[str]) -> bool:
    return True


def is_url(value: str) -> bool:
    """Whether a text is a URL: a scheme, ``://``, and a host or a path (RFC 3986), such as ``jdbc:postgresql://db/x``."""
    found = _SCHEMES.match(value)
    if found is None or re.search(r"[\s\x00-\x1f\x7f\\<>\"]", value):
        return False
    scheme = found[0].rstrip(":/").rpartition(":")[2].lower()
    try:
        parts = urlsplit(f"{scheme}://{value[found.end() :]}")
        _ = parts.port
    except ValueError:
        return False
    return bool(parts.hostname) or (scheme == "file" and parts.path.startswith("/"))


TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        "URL": Target("a URL such as https://data.example.com/fhir", lambda value, _: is_url(value)),
        "text": Target("a text that is not blank", _any),
        "token": Target("a secret text", _any),
        "enum": Target("one of the choices that the train names", lambda value, choices: value in choices),
        "bindMount": Target("an absolute path in the container", lambda value, _: value.startswith("/")),
    }
)
"""By name. ``text`` is that of requirements that have no target, as those of ``pht`` 0.2."""

ALIASES: Mapping[str, str] = MappingProxyType({f"{scheme}://schema.org/URL": "URL" for scheme in ("http", "https")})
"""Other names for the same, as ``pht`` 1.0 writes them."""


def read_targets(more: Any = None) -> Mapping[str, Target]:
    """Return the vocabulary of targets with those that a connection or a parameter adds.

    :param more: An object of names and regular expressions that the whole value must match, such as
        ``{"FHIR": "https?://.+/fhir"}``; an empty expression allows any value.
    :raises InvalidJob: saying what is wrong.
    """
    if more is None:
        return TARGETS
    if not isinstance(more, Mapping):
        raise InvalidJob(
            f"targets is a {type(more).__name__}: it is an object of names and regular expressions, such as "
            '{"FHIR": "https?://.+/fhir"}.',
            field="targets",
        )
    return {**TARGETS, **{name: _target(name, pattern) for name, pattern in more.items()}}


def _target(name: Any, pattern: Any) -> Target:
    if not isinstance(name, str) or not name.strip() or name in {*TARGETS, *ALIASES}:
        raise InvalidJob(
            f"targets cannot have {name!r}: a name is a text that is not blank, and {', '.join(TARGETS)} are there "
            "already.",
            field="targets",
        )
    try:
        compiled = re.compile(pattern or "", re.DOTALL)
    except (re.error, TypeError) as error:
        raise InvalidJob(
            f"targets[{name!r}] is no regular expression ({error}): it is a text such as https?://.+/fhir.",
            field="targets",
        ) from None
    if not pattern:
        return Target("a text that is not blank", _any)
    return Target(f"a text that matches {pattern}", lambda value, _: compiled.fullmatch(value) is not None)
