# SPDX-License-Identifier: Apache-2.0
"""The limits of a server that a job is checked against: by a client before its upload, and by the server itself."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import NamedTuple, Self

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.job_file import JobFile, Resources

_PYTHON_2 = {
    "python": "python3",
    "python2": "python3",
    "python2.7": "python3",
    "pip": "pip3",
    "pip2": "pip3",
    "pip2.7": "pip3",
}
"""The commands that mean Python 2 in SAP's clients, and what to call instead."""

_OPERATORS = ";&|()\n"


class Excess(NamedTuple):
    """What a job asks for that a server does not have, in one sentence, and the field of the job file."""

    message: str
    field: str


@dataclass(frozen=True, slots=True)
class JobLimits:
    """The limits of a server; None where it does not name one.

    :ivar memory: Megabytes.
    :ivar python: The major version of Python, where the server runs no other.
    """

    cpus: int | None = None
    gpus: int | None = None
    memory: int | None = None
    python: int | None = None

    def excess(self, wanted: Resources) -> Excess | None:
        """Return what is more than the server has."""
        for field, unit in (("cpus", "CPUs"), ("gpus", "GPUs"), ("memory", "MB of memory")):
            asked, has = getattr(wanted, field), getattr(self, field)
            if has is not None and asked > has:
                return Excess(
                    f"The job asks for {asked} {unit} and this server has {has}: ask for at most {has}.",
                    f"job.execution.resources.{field}",
                )
        return None

    def check(self, job_file: JobFile) -> None:
        """Check a job before its files are uploaded.

        :raises InvalidJob: when the server would refuse it whatever files are uploaded.
        """
        if excess := self.excess(job_file.job.execution.resources):
            raise InvalidJob(excess.message, field=excess.field)
        if self.python == 3:
            check_python(job_file)

    def to_header(self) -> str:
        """Write the limits as the header ``Job-Limits``."""
        named = {name: getattr(self, name) for name in self.__slots__}
        return ", ".join(f"{name}={value}" for name, value in named.items() if value is not None)

    @classmethod
    def of_header(cls, text: str) -> Self:
        """Read the header ``Job-Limits``. What is not a limit that is known here is ignored."""
        found = dict(re.findall(r"(?:^|[,\s])([a-z]+)=(\d{1,12})(?=$|[,\s])", text[:1000]))
        return cls(**{name: int(value) for name, value in found.items() if name in cls.__slots__})


def check_python(job_file: JobFile) -> None:
    """Refuse a command that calls Python 2, on a server that runs Python 3 only.

    :raises InvalidJob: when it does.
    """
    if word := python_2_word(job_file.job.execution.command):
        raise InvalidJob(
            f"The command calls {word!r}, which means Python 2, and this server runs Python 3 only: "
            f"call {_PYTHON_2[word]!r} (python_major_version=3), or name a Python 2.7 in the server's --python.",
            field="job.execution.command",
        )


def python_2_word(command: str) -> str | None:
    """Return the word of a shell command that calls Python 2, if there is one."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=_OPERATORS)
    lexer.whitespace, lexer.commenters, lexer.whitespace_split = " \t\r", "", True
    first = True
    try:
        for word in lexer:
            if set(word) <= set(_OPERATORS):
                first = True
            elif first and "=" not in word:
                if word in _PYTHON_2:
                    return word
                first = False
    except ValueError:  # an open quote, which the shell reports itself
        return None
    return None
