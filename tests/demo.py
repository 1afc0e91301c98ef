# SPDX-License-Identifier: Apache-2.0
"""The main job, to look at: ``tox run -e demo``.

Starts a jobAPI server and an Airflow on free ports of this machine, runs ``dags/train_and_fetch.py``, and prints what
happens: the training's lines as they come, where the model is, how good it is on held-out rows, where the UI is. On a
terminal it stays until Ctrl-C; otherwise it ends with 0 or 1. Nothing is left running.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.harness.airflow import Airflow
from tests.harness.server import AS_ROOT, running

DAG = "train_and_fetch"
TASKS = ("prepare", "train", "fetch", "evaluate")
OVER = {"success", "failed", "upstream_failed", "skipped", "removed"}
TRIGGER = "airflow_provider_jobapi.triggers"
PATIENCE = 1_800.0
"""Seconds for everything: on a slow line TensorFlow alone takes minutes to arrive."""


def main() -> int:
    """Run the demo; answers its exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    home = Path(os.environ.get("TOX_ENV_DIR") or tempfile.mkdtemp(prefix="jobapi-demo-"))
    try:
        with tempfile.TemporaryDirectory(prefix="jobapi-demo-", ignore_cleanup_errors=True) as folder:
            return _show(Path(folder), home / "models")
    except KeyboardInterrupt:
        say("Ended by hand; nothing is left running.")
        return 130


def say(text: str) -> None:
    """Print a line of the demo's own."""
    print(f"▸ {text}", flush=True)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _show(folder: Path, models: Path) -> int:
    say("Starting a jobAPI server.")
    with running(folder / "jobapi", "--grace", "5s", *AS_ROOT) as server:
        say(f"It answers at {server.url}. Starting Airflow, which takes half a minute.")
        with Airflow(folder / "airflow", Path(__file__).parents[1] / "dags") as airflow:
            airflow.connect("jobapi_default", server.connection)
            say(f"Airflow's UI is at {airflow.url}, no login needed. Running {DAG}.")
            run_id = airflow.run(DAG, {"models": models.absolute().as_uri()})
            say(f"Watch it at {airflow.url}/dags/{DAG}/runs/{run_id}/tasks/train")
            good = _Watch(airflow, run_id).follow()
            if sys.stdout.isatty() and sys.stdin.isatty():
                say(f"Look around at {airflow.url}; Ctrl-C ends it all.")
                signal.pause()
    return 0 if good else 1


class _Watch:
    """What is printed while the DAG runs."""

    def __init__(self, airflow: Airflow, run_id: str) -> None:
        self._airflow = airflow
        self._run_id = run_id
        self._states: dict[str, str | None] = {}
        self._shown = 0

    def follow(self) -> bool:
        """Print until every task is over; answers whether all is well."""
        deadline = time.monotonic() + PATIENCE
        while not all(self._states.get(task) in OVER for task in TASKS):
            if time.monotonic() > deadline:
                say(f"Not over after {PATIENCE:g} s: giving up.")
                return False
            self._look()
            time.sleep(1)
        failed = [task for task in TASKS if self._states[task] != "success"]
        if failed:
            return self._explain(next(task for task in failed if self._states[task] == "failed"))
        return self._sum_up()

    def _look(self) -> None:
        for task in TASKS:
            state = self._airflow.task(DAG, self._run_id, task)["state"]
            if state != self._states.get(task):
                self._states[task] = state
                say(f"{task}: {state}")
        if self._states.get("train") not in {None, "scheduled", "queued"}:
            self._print_training()

    def _print_training(self) -> None:
        records = self._airflow.log(DAG, self._run_id, "train")
        lines = [record for record in records if str(record.get("logger", "")).startswith(TRIGGER)]
        for record in lines[self._shown :]:
            print(f"    {str(record['timestamp'])[11:19]}  {record['event']}", flush=True)
        self._shown = max(self._shown, len(lines))

    def _explain(self, task: str) -> bool:
        say(f"{task} failed; the end of its log:")
        print("\n".join(self._airflow.lines(DAG, self._run_id, task)[-40:]), flush=True)
        return False

    def _sum_up(self) -> bool:
        quality = self._airflow.xcom(DAG, self._run_id, "evaluate")
        say(f"The model is in {self._airflow.xcom(DAG, self._run_id, 'fetch')}")
        say(
            f"Its accuracy on held-out rows is {quality['accuracy']:.1%}; "
            f"always guessing the commonest digit would give {quality['majority']:.1%}."
        )
        return bool(quality["accuracy"] > quality["majority"])


if __name__ == "__main__":
    sys.exit(main())
