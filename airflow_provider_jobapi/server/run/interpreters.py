# SPDX-License-Identifier: Apache-2.0
"""The Pythons of the jobs: which there are, and which one a job gets."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_jobapi.server.config import SettingsError
from airflow_provider_jobapi.server.store.requirement_lines import satisfies
from airflow_provider_jobapi.training.job_limits import python_2_word
from airflow_provider_jobapi.training.requirement_text import Directions

COMMAND_TIMEOUT_SECONDS = 120
"""The time that a Python or uv gets to print its version."""

_PRINT_VERSION = (
    "import json, sys; print(json.dumps([getattr(sys, '_base_executable', sys.executable), sys.version.split()[0]]))"
)
_OLDEST = (3, 6)
_BUILDS = (3, 8)
"""The oldest Python that can run ``build_environment.py``."""

_IN_COMMAND = re.compile(r"(?:^|[\s;&|(/])(?:python|pip)(3\.\d{1,2})(?=\s|$)")
_IN_TAG = re.compile(r"(?:^|[^a-z0-9])(?:py|cp|python)[-_]?3\.?(\d{1,2})(?![0-9])")
_TENSORFLOW_PIN = re.compile(
    r"^[^\S\n]*tensorflow(?:[-_](?:gpu|cpu))?\s*===?\s*(\d+)\.(\d+)", re.MULTILINE | re.IGNORECASE
)

_TENSORFLOW = (
    ((1, 0), (3, 3), (3, 6)),
    ((1, 13), (3, 3), (3, 7)),
    ((2, 0), (3, 5), (3, 7)),
    ((2, 2), (3, 5), (3, 8)),
    ((2, 5), (3, 6), (3, 9)),
    ((2, 8), (3, 7), (3, 10)),
    ((2, 12), (3, 8), (3, 11)),
    ((2, 14), (3, 9), (3, 11)),
    ((2, 16), (3, 9), (3, 12)),
    ((2, 20), (3, 9), (3, 13)),
)
"""From which TensorFlow on there are wheels for which Pythons, the oldest and the newest."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python of the jobs."""

    path: str
    version: str

    @property
    def minor(self) -> tuple[int, int]:
        """The version's first two numbers."""
        major, minor = self.version.split(".")[:2]
        return int(major), int(minor)

    @classmethod
    def find(cls, python: Path) -> Interpreter:
        """Find the interpreter of a path; for a virtual environment, the interpreter that it was made with.

        :raises SettingsError: when it does not run or is too old.
        """
        try:
            answer = subprocess.run(
                [str(python), "-E", "-s", "-S", "-c", _PRINT_VERSION],  # what Python 2.7 has of -I
                capture_output=True,
                check=True,
                cwd="/",
                timeout=COMMAND_TIMEOUT_SECONDS,
                # Not the server's variables, which jobs of its user could read there.
                env={name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ},
            )
            path, version = json.loads(answer.stdout)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise SettingsError(
                f"--python {python} does not run as Python ({_why(error)}); name another interpreter by its path, its "
                "name or its version."
            ) from None
        found = cls(path, version)
        if found.minor < _OLDEST and found.minor != (2, 7):
            raise SettingsError(f"--python {python} is Python {version}; jobs need Python 2.7, or 3.6 or newer.")
        return found


def _why(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = (error.stderr or b"").decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else f"it ends with exit code {error.returncode}"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error) if isinstance(error, subprocess.SubprocessError) else "it prints something else than its version"


class Interpreters:
    """All Pythons of the jobs of a server; the first Python 3 is the one of jobs that name none.

    :raises SettingsError: when one does not run, or none is Python 3.
    """

    def __init__(self, pythons: tuple[Path, ...]) -> None:
        self.all = [Interpreter.find(python) for python in pythons]
        with_three = [each for each in self.all if each.minor >= _OLDEST]
        if not with_three:
            raise SettingsError("--python names no Python 3, which most jobs need: add one, such as 3.11,2.7.")
        self.default = with_three[0]
        able = [each for each in self.all if each.minor >= _BUILDS]
        self.builder = able[0] if able else None
        """The one that makes the environments."""

    @property
    def python_2(self) -> Interpreter | None:
        """The Python 2.7, if there is one."""
        return next((each for each in self.all if each.minor == (2, 7)), None)

    def choose(self, command: str, image: str, requirements: str) -> Interpreter:
        """Choose the Python of a job.

        A command that calls ``python`` or ``pip`` gets Python 2.7, one that calls ``python3.6`` that version. Otherwise
        the tag of the image names a version of Python, or one of TensorFlow, as a pin in the requirements does, and the
        newest Python is taken that has wheels of it. Where the server has no such Python, the job gets the default. All
        of it holds among the Pythons that ``requires-python`` allows; the newest of them stands for the default where
        that is not among them.
        """
        if self.python_2 and python_2_word(command):
            return self.python_2
        able = self._required(requirements)
        default = self.default if self.default in able else max(able, key=lambda each: each.minor)
        for minor in (_in_command(command), _in_image(image)):
            if minor and (exact := [each for each in able if each.minor == minor]):
                return exact[0]
        bounds = _tensorflow(image, requirements)
        if bounds is None or bounds[0] <= default.minor <= bounds[1]:
            return default
        fitting = [each for each in able if bounds[0] <= each.minor <= bounds[1]]
        return max(fitting, key=lambda each: each.minor, default=default)

    def _required(self, requirements: str) -> list[Interpreter]:
        """The Pythons that the requirements allow; all where they allow none, which the submit has refused."""
        wanted = Directions.of(requirements).python
        return [each for each in self.all if satisfies(each.version, wanted)] or self.all


def _in_command(command: str) -> tuple[int, int] | None:
    matched = _IN_COMMAND.search(command)
    return (3, int(matched[1].partition(".")[2])) if matched else None


def _in_image(image: str) -> tuple[int, int] | None:
    """The version of Python that an image's tag names: ``python:3.6-slim``, ``…:2.1-py3.9``, ``…:1.13-py36``."""
    name, _, tag = image.partition("@")[0].rpartition("/")[2].partition(":")
    if name == "python" and (plain := re.match(r"(3)\.(\d{1,2})(?!\d)", tag)):
        return 3, int(plain[2])
    matched = _IN_TAG.search(tag.lower())
    return (3, int(matched[1])) if matched else None


def _tensorflow(image: str, requirements: str) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """The oldest and the newest Python for the version of TensorFlow that the image or the requirements name."""
    name, _, tag = image.partition("@")[0].rpartition("/")[2].partition(":")
    matched = re.match(r"v?(\d+)\.(\d+)", tag) if name in {"tensorflow", "tensorflow-gpu"} else None
    matched = _TENSORFLOW_PIN.search(requirements) or matched  # what is installed counts
    if matched is None:
        return None
    version = int(matched[1]), int(matched[2])
    return next(((oldest, newest) for since, oldest, newest in reversed(_TENSORFLOW) if version >= since), None)
