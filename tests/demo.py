# SPDX-License-Identifier: Apache-2.0
"""The main job, to look at: ``tox run -e demo``.

Starts a jobAPI server and an Airflow on free ports of this machine, runs ``dags/train_and_fetch.py``, and prints what
happens: the training's lines as they come, where the model is, how good it is on held-out rows, where the UI is. On a
terminal it stays until Ctrl-C; otherwise it ends with 0 or 1. Nothing is left running, whenever and however it is
ended, unless by SIGKILL.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

from tests.harness.airflow import Airflow
from tests.harness.ending import Ending
from tests.harness.server import AS_ROOT, running

DAG = "train_and_fetch"
TASKS = {
    "prepare": "makes the rows, in a virtual environment with scikit-learn",
    "train": "submits the job, which installs TensorFlow and trains",
    "fetch": "brings the model",
    "evaluate": "checks the model on held-out rows, in a virtual environment with TensorFlow",
}
OVER = {"success", "failed", "upstream_failed", "skipped", "removed"}
TRIGGER = "airflow_provider_jobapi.triggers"
PATIENCE = 1_800.0
"""Seconds for everything: on a slow line TensorFlow alone takes minutes to arrive."""

INTERRUPTED = 130
"""The exit code of a program that Ctrl-C ended."""

SLOW_MACHINE = {"AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60"}
"""The first answer of Airflow's API server to a task takes longer than its 5 seconds where other programs are busy."""

SILENCE = 10.0
"""Seconds after which the demo prints what it waits for, when nothing else is to be printed."""

INSTALLER = re.compile(
    r" [+~-] \S+==|Using Python \S+ |(Resolved|Prepared|Installed|Uninstalled) \d+ packages? "
    r"| *(Downloading|Downloaded|Building|Built) \S+( \(\S+\)| @ .*)?$"
)
"""The lines of uv, of which there are dozens: they would hide those of the training."""


class Screen:
    """What a person sees: lines, and a sign of life where nothing else is printed for some time.

    :param silence: The seconds after which the sign comes.
    """

    def __init__(self, silence: float = SILENCE) -> None:
        self._silence = silence
        self._lock = threading.Lock()
        self._doing, self._since = "", time.monotonic()
        self._printed = self._since
        threading.Thread(target=self._show_life, daemon=True).start()

    def say(self, text: str) -> None:
        """Print a line of the demo's own."""
        self.line(f"▸ {text}")

    def line(self, text: str) -> None:
        """Print a line; where nobody can read it any more, the demo ends."""
        with self._lock:
            self._printed = time.monotonic()
            try:
                print(text, flush=True)
            except OSError:  # a closed terminal, or the end of a pipe
                sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 -- for the rest of the program
                os.kill(os.getpid(), signal.SIGHUP)

    def doing(self, text: str) -> None:
        """Remember what is waited for."""
        if text != self._doing:
            self._doing, self._since = text, time.monotonic()

    def _show_life(self) -> None:
        while True:
            time.sleep(self._silence / 10)
            now = time.monotonic()
            if self._doing and now - self._printed >= self._silence:
                self.say(f"{self._doing} … ({now - self._since:.0f} s)")


def main() -> int:
    """Run the demo; answers its exit code."""
    ending = Ending()
    ending.listen()
    if "TOX_ENV_NAME" in os.environ:
        ending.follow_parent()
    screen = Screen()
    with ExitStack() as stack:
        try:
            code = _show(screen, ending, stack)
        except KeyboardInterrupt:
            code = INTERRUPTED
        finally:
            ending.ignore()
            screen.say("Ending Airflow, the server and its jobs, which takes some seconds.")
            screen.doing("Airflow and the server end")
    screen.doing("")
    if code == INTERRUPTED:
        screen.say("Ended by hand; nothing is left running.")
    return code


def _show(screen: Screen, ending: Ending, stack: ExitStack) -> int:
    with ending.held():
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="jobapi-demo-", ignore_cleanup_errors=True))
        )
        home = Path(os.environ.get("TOX_ENV_DIR") or tempfile.mkdtemp(prefix="jobapi-demo-models-"))
        stack.callback(_remove_empty, home)
    screen.say("Starting a jobAPI server.")
    screen.doing("The jobAPI server starts")
    with ending.held():
        server = stack.enter_context(running(folder / "jobapi", "--grace", "5s", *AS_ROOT))
    screen.say(f"It answers at {server.url}. Starting Airflow, which takes half a minute, on a busy machine more.")
    with ending.held():
        airflow = Airflow(folder / "airflow", Path(__file__).parents[1] / "dags", environment=SLOW_MACHINE)
        stack.callback(airflow.stop)
        airflow.start()
    airflow.wait_until_healthy(told=lambda missing: screen.doing(_starting(missing)))
    airflow.connect("jobapi_default", server.connection)
    screen.say(f"Airflow's UI is at {airflow.url}, no login needed. Running {DAG}.")
    screen.doing(f"Airflow reads {DAG}.py")
    run_id = airflow.run(DAG, {"models": (home / "models").absolute().as_uri()})
    screen.say(f"Watch it at {airflow.url}/dags/{DAG}/runs/{run_id}/tasks/train")
    good = _Watch(screen, airflow, run_id).follow()
    screen.doing("")
    if sys.stdout.isatty() and sys.stdin.isatty():
        screen.say(f"Look around at {airflow.url}; Ctrl-C ends it all.")
        with suppress(KeyboardInterrupt):
            signal.pause()
    return 0 if good else 1


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _starting(missing: Iterable[str]) -> str:
    return f"Airflow starts; not yet up: {', '.join(missing)}"


class _Watch:
    """What is printed while the DAG runs."""

    def __init__(self, screen: Screen, airflow: Airflow, run_id: str) -> None:
        self._screen = screen
        self._airflow = airflow
        self._run_id = run_id
        self._states: dict[str, str | None] = {}
        self._shown = 0

    def follow(self) -> bool:
        """Print until every task is over; answers whether all is well."""
        deadline = time.monotonic() + PATIENCE
        while not all(self._states.get(task) in OVER for task in TASKS):
            if time.monotonic() > deadline:
                self._screen.say(f"Not over after {PATIENCE:g} s: giving up.")
                return False
            self._look()
            time.sleep(1)
        failed = [task for task in TASKS if self._states[task] != "success"]
        if failed:
            return self._explain(next(task for task in failed if self._states[task] == "failed"))
        return self._sum_up()

    def _look(self) -> None:
        for task, what in TASKS.items():
            state = self._airflow.task(DAG, self._run_id, task)["state"]
            if state != self._states.get(task):
                self._states[task] = state
                self._screen.say(f"{task}: {state}")
            if state not in {None, *OVER}:
                self._screen.doing(f"{task} is {state}: {what}")
        if self._states.get("train") not in {None, "scheduled", "queued"}:
            self._print_training()

    def _print_training(self) -> None:
        records = self._airflow.log(DAG, self._run_id, "train")
        lines = [record for record in records if str(record.get("logger", "")).startswith(TRIGGER)]
        for record in lines[self._shown :]:
            if not INSTALLER.match(str(record["event"])):
                self._screen.line(f"    {str(record['timestamp'])[11:19]}  {record['event']}")
        self._shown = max(self._shown, len(lines))

    def _explain(self, task: str) -> bool:
        self._screen.say(f"{task} failed; the end of its log:")
        self._screen.line("\n".join(self._airflow.lines(DAG, self._run_id, task)[-40:]))
        return False

    def _sum_up(self) -> bool:
        quality = self._airflow.xcom(DAG, self._run_id, "evaluate")
        self._screen.say(f"The model is in {self._airflow.xcom(DAG, self._run_id, 'fetch')}")
        self._screen.say(
            f"Its accuracy on held-out rows is {quality['accuracy']:.1%}; "
            f"always guessing the commonest digit would give {quality['majority']:.1%}."
        )
        return bool(quality["accuracy"] > quality["majority"])


if __name__ == "__main__":
    sys.exit(main())
