# SPDX-License-Identifier: Apache-2.0
"""The four commands of Train API V1, and how an image spells them. Pure.

The commands, and which of them get an environment, are those of the table in the specification
(PersonalHealthTrain/WIP-train-api-spec, README). Its author's later library ``pht`` has two others, ``describe`` and
``run``, behind options of the station.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from airflow_provider_jobapi.exceptions import InvalidJob


class Command(StrEnum):
    """The commands of Train API V1."""

    LIST_REQUIREMENTS = "list_requirements"
    CHECK_REQUIREMENTS = "check_requirements"
    PRINT_MODEL_SUMMARY = "print_model_summary"
    RUN_ALGORITHM = "run_algorithm"

    @classmethod
    def of(cls, name: object) -> Command:
        """Read the name of a command.

        :raises InvalidJob: when there is no such command.
        """
        try:
            return cls(str(name))
        except ValueError:
            raise InvalidJob(
                f"command cannot be {_shown(name)}: Train API V1 has the commands {', '.join(cls)}.", field="command"
            ) from None

    @classmethod
    def to_check(cls, *, algorithm: bool) -> list[Command]:
        """Return the commands by which an image is checked.

        :param algorithm: Whether the algorithm is run as well.
        """
        return [command for command in cls if algorithm or command is not cls.RUN_ALGORITHM]


@dataclass(frozen=True, slots=True)
class CommandRule:
    """What the specification says of a command.

    :ivar environment: Whether its container gets the station's environment (``config.Env``).
    :ivar kept: Whether its container is kept after its end, until the successor image is made of it.
    :ivar meaning: What the command does, for the documentation.
    """

    environment: bool
    kept: bool
    meaning: str


RULES: Mapping[Command, CommandRule] = MappingProxyType(
    {
        Command.LIST_REQUIREMENTS: CommandRule(
            environment=False, kept=False, meaning="lists what the train needs of a station"
        ),
        Command.CHECK_REQUIREMENTS: CommandRule(
            environment=True, kept=False, meaning="checks whether the station has all that the train needs"
        ),
        Command.PRINT_MODEL_SUMMARY: CommandRule(
            environment=False, kept=False, meaning="prints a summary of the model in the train"
        ),
        Command.RUN_ALGORITHM: CommandRule(
            environment=True, kept=True, meaning="runs the algorithm, which leaves the files of the successor image"
        ),
    }
)


def environment_for(command: Command, environment: Mapping[str, str]) -> dict[str, str]:
    """Return what of a station's environment the container of a command gets: all of it, or nothing."""
    return dict(environment) if RULES[command].environment else {}


@dataclass(frozen=True, slots=True)
class Spelling:
    """How an image spells the commands on its command line.

    :ivar names: The words for a command; a command that is not there has its own name.
    :ivar prefix: Arguments before each command.
    """

    names: Mapping[Command, tuple[str, ...]] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()

    def arguments(self, command: Command, more: Sequence[str] = ()) -> list[str]:
        """Return the arguments of a container, which follow the image's entry point.

        :param more: Arguments after the command.
        """
        return [*self.prefix, *self.names.get(command, (command.value,)), *more]


SPELLINGS: Mapping[str, Spelling] = MappingProxyType(
    {
        "train_api_v1": Spelling(),
        "describe_run": Spelling(
            {command: ("run",) if command is Command.RUN_ALGORITHM else ("describe",) for command in Command},
            ("--station-id", "1"),
        ),
    }
)
"""By name. ``describe_run`` is that of ``pht`` 1.0, whose ``--station-id`` is an integer."""


def read_spelling(names: Any = None, prefix: Any = None) -> Spelling:
    """Read how an image spells the commands.

    :param names: The name of one of :data:`SPELLINGS`; or an object of commands and their words, such as
        ``{"run_algorithm": "algorithm run"}``, as a text that a shell would split or as a list.
    :param prefix: Arguments before each command, as a text or a list, such as ``--station-id 1``; by default those of
        the named spelling.
    :raises InvalidJob: saying what is wrong.
    """
    if names is None or isinstance(names, str):
        spelling = SPELLINGS.get(names or "train_api_v1")
        if spelling is None:
            raise InvalidJob(
                f"command_names cannot be {_shown(names)}: it is {' or '.join(SPELLINGS)}, or an object of commands "
                "and their words.",
                field="command_names",
            )
    elif isinstance(names, Mapping):
        spelling = Spelling(
            {Command.of(name): _words(f"command_names[{name!r}]", words, some=True) for name, words in names.items()}
        )
    else:
        raise InvalidJob(
            f"command_names is a {type(names).__name__}: it is an object of commands and their words, such as "
            '{"run_algorithm": "run"}.',
            field="command_names",
        )
    return spelling if prefix is None else Spelling(spelling.names, read_arguments("command_prefix", prefix))


def read_arguments(name: str, value: Any) -> tuple[str, ...]:
    """Read arguments of a command, as a text that a shell would split or as a list.

    :param name: The parameter, for the errors.
    :raises InvalidJob: saying what is wrong.
    """
    return () if value is None else _words(name, value, some=False)


def _words(name: str, value: Any, *, some: bool) -> tuple[str, ...]:
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError as error:
            raise InvalidJob(
                f"{name} cannot be split into words ({error}): close the quotes, or give a list.", field=name
            ) from None
    usable = isinstance(value, list | tuple) and all(isinstance(each, str | int) for each in value)
    words = tuple(str(each) for each in value) if usable else ()
    if not usable or (some and not any(words)) or any("\0" in each for each in words):
        raise InvalidJob(
            f"{name} cannot be {_shown(value)}: it is a text such as '--station-id 1', or a list of texts without NUL.",
            field=name,
        )
    return words


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
