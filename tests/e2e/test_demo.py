# SPDX-License-Identifier: Apache-2.0
"""The demo ends as a whole, however it is ended, and shows a sign of life meanwhile."""

from __future__ import annotations

import configparser
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.demo import INSTALLER, Screen
from tests.harness.waiting import wait_for

ROOT = Path(__file__).parents[2]

ON_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
UNDER_A_PARENT = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-m', 'tests.demo']))"
"""What starts the demo and ends at a SIGTERM without passing it on, as tox does."""


class Demo:
    """The demo on a terminal of its own, in a folder by which all that it starts is found."""

    def __init__(self, folder: Path, *command: str) -> None:
        self.folder = folder
        self._terminal, slave = pty.openpty()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "TOX_"))}
        self.process = subprocess.Popen(
            [sys.executable, "-c", ON_A_TERMINAL, *command],
            cwd=ROOT,
            env=environment | {"TMPDIR": str(folder), "TOX_ENV_NAME": "demo"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self._printed = b""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with suppress(OSError):  # its end, or closed
            while more := os.read(self._terminal, 4096):
                self._printed += more

    @property
    def printed(self) -> str:
        return self._printed.decode(errors="replace").replace("\r\n", "\n")

    def wait_for(self, words: str, seconds: float = 900) -> None:
        def seen() -> bool:
            assert self.process.poll() is None or words in self.printed, self.printed
            return words in self.printed

        wait_for(f"the demo prints {words!r}", seen, seconds)

    def press(self, key: bytes) -> None:
        os.write(self._terminal, key)

    def close_terminal(self) -> None:
        os.close(self._terminal)

    def left(self) -> list[str]:
        """The processes that belong to the demo, and what is left in its folder."""
        return [" ".join(process.cmdline()) for process in _of(self.folder)] + [
            str(each) for each in self.folder.iterdir()
        ]


def _of(folder: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if str(folder) in str((process.cmdline(), process.environ(), process.cwd())):
                yield process


@pytest.fixture
def demo(tmp_path) -> Iterator[type[Demo]]:
    folder = tmp_path / "temporary"
    folder.mkdir()
    yield lambda *command: Demo(folder, *(command or ("-m", "tests.demo")))
    for process in _of(folder):
        with suppress(psutil.Error):
            process.kill()


def ctrl_c(demo: Demo) -> None:
    demo.press(b"\x03")


def ctrl_c_again_and_again(demo: Demo) -> None:
    demo.press(b"\x03")
    demo.press(b"\x03")
    demo.wait_for("Ending Airflow")
    demo.press(b"\x03")


def ctrl_backslash(demo: Demo) -> None:
    demo.press(b"\x1c")


def sigterm(demo: Demo) -> None:
    demo.process.send_signal(signal.SIGTERM)


def closed_terminal(demo: Demo) -> None:
    demo.close_terminal()


def test_ctrl_c_leaves_nothing(demo):
    """At the point at which an Airflow stayed behind: it starts, in a session of its own."""
    shown = demo()
    shown.wait_for("Starting Airflow")
    ctrl_c_again_and_again(shown)
    wait_for("the demo has ended", lambda: shown.process.poll() is not None, 120)
    assert shown.process.returncode == 130
    wait_for("nothing is left", lambda: not shown.left(), 20)
    assert "nothing is left running" in shown.printed
    assert "Traceback" not in shown.printed


ENDS = (ctrl_c, ctrl_backslash, sigterm, closed_terminal)
MOMENTS = ("Starting a jobAPI server", "Starting Airflow", "Airflow's UI is at", "train: deferred")


@pytest.mark.parametrize(
    ("end", "words"),
    [
        # Each way once and each moment once; a campaign tries all pairs.
        pytest.param(end, words, marks=pytest.mark.slow if row == column else pytest.mark.campaign)
        for row, end in enumerate(ENDS)
        for column, words in enumerate(MOMENTS)
    ],
)
def test_however_and_whenever_it_is_ended_nothing_is_left(demo, end, words):
    shown = demo()
    shown.wait_for(words)
    end(shown)
    wait_for("the demo has ended", lambda: shown.process.poll() is not None, 120)
    wait_for("nothing is left", lambda: not shown.left(), 20)


@pytest.mark.slow
def test_it_ends_with_the_program_that_started_it(demo):
    shown = demo("-c", UNDER_A_PARENT)
    shown.wait_for("Starting Airflow")
    sigterm(shown)
    wait_for("nothing is left", lambda: not shown.left(), 120)


def test_tox_gives_it_the_time_to_end():
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(ROOT / "tox.ini")
    for name in ("interrupt_timeout", "terminate_timeout"):
        assert settings.getint("testenv:demo", name) >= 60


def test_a_sign_of_life_comes_where_nothing_else_is_printed(capsys):
    screen = Screen(silence=0.05)
    screen.doing("Airflow starts")
    printed = ""

    def signs() -> bool:
        nonlocal printed
        printed += capsys.readouterr().out
        return printed.count("▸ Airflow starts … (0 s)") > 2

    wait_for("three signs of life", signs, 20, 0.05)
    screen.doing("")


UV = """\
Using Python 3.11.7 environment at: /x/venvs/1.part
Resolved 32 packages in 2.11s
Downloading keras (2.3MiB)
 Downloaded keras
   Building wheel @ file:///x
      Built wheel
Prepared 32 packages in 15.31s
Uninstalled 1 package in 3ms
Installed 32 packages in 695ms
 - six==1.16
 + absl-py==2.5.1
 ~ six==1.17
"""
TRAINING = """\
jobapi: Making the Python environment of requirements.txt.
jobapi: the packages of requirements.txt are installed.
1617 rows
Epoch 1/20
46/46 - 2s - 48ms/step - accuracy: 0.3485
Built with care: the model
- a==b
"""


def test_the_installers_lines_do_not_hide_the_trainings():
    assert [line for line in UV.splitlines() if not INSTALLER.match(line)] == []
    assert [line for line in TRAINING.splitlines() if INSTALLER.match(line)] == []


def test_the_demo_watches_every_task_of_its_dag(inline):
    from tests.demo import DAG, TASKS

    assert set(TASKS) == set(inline.dags[DAG].task_ids)
    assert re.search(rf'dag_id="{DAG}"|def {DAG}\(', (ROOT / "dags" / f"{DAG}.py").read_text())
