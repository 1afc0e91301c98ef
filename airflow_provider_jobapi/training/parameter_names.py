# SPDX-License-Identifier: Apache-2.0
"""How messages spell the parameters of a job: as those of the operator, or as options of the command line.

============================================  ==============================  =============================
in the code                                   for a DAG                       on the command line
============================================  ==============================  =============================
``named("data")``                             ``data_input``                  ``--data``
``entry("data", "a.csv")``                    ``data_input['a.csv']``         ``--data a.csv``
``entry("entry_point", "-m net")``            ``entry_point '-m net'``        ``-m net``
``setting("env_vars", "PYTHONPATH", "src")``  ``env_vars={"PYTHONPATH": …}``  ``--env-var PYTHONPATH=src``
============================================  ==============================  =============================
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Spelling:
    """How one face of the product spells the parameters.

    :ivar names: By the field of a training job, where they are called otherwise.
    :ivar entries: How an entry of a parameter is written, by the field; ``""`` is that of all others.
    :ivar settings: How a parameter is given with a value.
    """

    names: Mapping[str, str]
    entries: Mapping[str, str]
    settings: Mapping[str, str] = field(default_factory=dict)


OPERATOR = Spelling(
    {"name": "job_name", "data": "data_input", "resources": "job_resources"},
    {"": "{name}[{key!r}]", "entry_point": "{name} {key!r}"},
    {"env_vars": 'env_vars={{"{}": "{}"}}', "entry_point": "entry_point={!r}", "requirements": "Path({!r})"},
)
COMMAND_LINE = Spelling(
    {
        "name": "--name",
        "script": "--script",
        "source": "--source",
        "entry_point": "--entry-point",
        "data": "--data",
        "requirements": "--requirements",
        "env_vars": "--env-var",
        "arguments": "the arguments after --",
        "image": "--image",
        "completion_time": "--completion-time",
        "resume_from": "--resume-from",
        "keep_checkpoints": "--keep-checkpoints",
    },
    {"": "{name} {key}", "entry_point": "{key}"},
    {"env_vars": "--env-var {}={}", "entry_point": "{}", "requirements": "-r {}"},
)

_current: ContextVar[Spelling] = ContextVar("spelling", default=OPERATOR)


@contextmanager
def spelling(used: Spelling) -> Iterator[None]:
    """Spell the parameters in this way within the context."""
    token = _current.set(used)
    try:
        yield
    finally:
        _current.reset(token)


def named(parameter: str) -> str:
    """A parameter, by the field of a training job."""
    return _current.get().names.get(parameter, parameter)


def entry(parameter: str, key: str) -> str:
    """An entry of a parameter."""
    entries = _current.get().entries
    return entries.get(parameter, entries[""]).format(name=named(parameter), key=key)


def setting(parameter: str, *values: str) -> str:
    """A parameter with a value, as the user is to give it."""
    return _current.get().settings[parameter].format(*values)


def spelled(message: str) -> str:
    """A message that begins with a field of a training job, such as ``data['a.csv']`` or ``arguments[0]``."""
    found = re.match(r"(\w+)(?!\w|\.txt)(?:\[(?:(\d+)|'([^']*)')\](?:\.\w+)?)?", message)
    if found is None or _current.get() is OPERATOR:
        head, end = (named(found[1]), found.end(1)) if found else ("", 0)
    elif found[2]:
        head, end = f"{named(found[1])} (number {int(found[2]) + 1})", found.end()
    else:
        head, end = named(found[1]) if found[3] is None else entry(found[1], found[3]), found.end()
    return head + message[end:]
