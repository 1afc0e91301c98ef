# SPDX-License-Identifier: Apache-2.0
"""Follows a tutorial word by word: writes the files that it shows, types its commands, compares what they print.

A ``{code-block}`` with a ``:caption:`` is a file of that name. In a ``console`` block a line after ``$ `` is typed, and
the lines after it must be printed, with ``…`` for anything. What a reader does by hand stands in a comment that readers
do not see: ``<!-- by hand: NAME ARGUMENT … -->``.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil

from tests.harness.airflow import START_WAIT
from tests.harness.waiting import wait_for

_FENCE = re.compile(
    r"^```(?:\{code-block\} )?(?P<language>\w+)\n(?::caption: (?P<caption>\S+)\n\n?)?(?P<body>.*?)^```$"
    r"|^<!-- by hand: (?P<hand>.*?) -->$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a reader does: a file to write, commands to type, or something by hand."""

    kind: str
    text: str
    caption: str = ""


def steps(page: str) -> Iterator[Step]:
    """The steps of a page, in its order."""
    for found in _FENCE.finditer(page):
        if found["hand"]:
            yield Step("hand", found["hand"])
        elif found["caption"]:
            yield Step("file", found["body"], found["caption"])
        else:
            yield Step(found["language"], found["body"])


def typed(block: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with what it should print."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        length = 1
        while lines[length - 1].endswith("\\"):
            length += 1
        yield "\n".join(lines[:length]), "\n".join(lines[length:]).strip("\n")


def matches(expected: str, printed: str) -> bool:
    """Whether the expected lines are printed in this order, others between them or not."""
    lines = iter(printed.splitlines())
    wanted = (".*".join(map(re.escape, line.strip().split("…"))) for line in expected.splitlines() if line.strip("… "))
    return all(any(re.fullmatch(want, line.strip()) for line in lines) for want in wanted)


@dataclass
class Reader:
    """Somebody who follows a tutorial in a folder.

    :ivar folder: Where the terminal stands.
    :ivar environment: The variables of the terminal.
    :ivar by_hand: What is done by hand, by its name.
    :ivar long: Commands that go on while the next ones are typed, and the words that they print when they are ready.
    :ivar done: Commands that the test has done already, such as the installation.
    """

    folder: Path
    environment: dict[str, str]
    by_hand: Mapping[str, Callable[..., None]]
    long: Mapping[str, str]
    done: tuple[str, ...] = ()
    _running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            for end in (psutil.Process.terminate, psutil.Process.kill):
                for each in tree:
                    with suppress(psutil.NoSuchProcess):
                        end(each)
                _, tree = psutil.wait_procs(tree, 10)
            process.wait()

    def follow(self, page: str) -> int:
        """Do every step; answers how many there were."""
        count = 0
        for step in steps(page):
            count += 1
            if step.kind == "file":
                self._write(step)
            elif step.kind == "hand":
                name, *arguments = shlex.split(step.text)
                self.by_hand[name](*arguments)
            elif step.kind == "console":
                for command, expected in typed(step.text):
                    self._type(command, expected)
        return count

    def printed(self, command: str) -> str:
        """What a command that goes on has printed so far."""
        return (self.folder / f".{command.replace(' ', '-')}.out").read_text()

    def _write(self, step: Step) -> None:
        path = self.folder / step.caption
        path.write_text(step.text)

    def _type(self, command: str, expected: str) -> None:
        if command in self.long:
            self._begin(command)
            return
        if command.startswith(self.done):
            return
        # The terminal keeps its variables, those too that are not exported.
        kept = self.folder.parent / ".variables"
        done = subprocess.run(
            ["bash", "-c", f"set -ea\n{command}\nenv -0 > {kept}"],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        printed = done.stdout + done.stderr
        assert done.returncode == 0, f"{command}\n{printed}"
        assert matches(expected, printed), f"{command}\nshould print\n{expected}\nand printed\n{printed}"
        self.environment = dict(each.split("=", 1) for each in kept.read_text().split("\0") if "=" in each)

    def _begin(self, command: str) -> None:
        output = self.folder / f".{command.replace(' ', '-')}.out"
        with output.open("wb") as file:
            process = subprocess.Popen(
                shlex.split(command), cwd=self.folder, env=self.environment, stdout=file, stderr=subprocess.STDOUT
            )
        self._running.append(process)
        wait_for(
            f"{command} is ready",
            lambda: self.long[command] in output.read_text() or process.poll() is not None,
            START_WAIT,
        )
        assert process.poll() is None, output.read_text()
