# SPDX-License-Identifier: Apache-2.0
"""Trainings that are killed at random instants, and continued: ``python -m tests.harness.killed_trainings 100``.

Each training saves checkpoints all the time and writes down, in a file of its own, which step it has saved, after the
save has returned. Another job of the same clear cycle continues. It must find a checkpoint that loads, of that step or
a later one. What is killed: the training, its supervisor, all processes of the job, or the job is stopped by SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_jobapi.server.store.job_record import Job
from airflow_provider_jobapi.training.job_file import JobFile
from tests.harness.bench import CLIENT, Bench, processes_of, supervisor_of
from tests.harness.server import poll

HEAD = """
import os, pathlib, sys, time
folder = pathlib.Path(os.environ["CHECKPOINT_DIR"])
saved = open("saved", "a")
def done(step):
    saved.write(f"{step}\\n")
    saved.flush()
def resumed(step):
    pathlib.Path("resumed.new").write_text(str(step))
    pathlib.Path("resumed.new").rename("resumed")
"""

SCRIPTS = {
    # Under another name, and renamed; the last three are kept.
    "plain": """
import pickle
steps = sorted(folder.glob("step-*.pkl"), key=lambda path: int(path.stem.split("-")[1]))
state = pickle.loads(steps[-1].read_bytes()) if steps else {"step": 0, "weights": []}
assert len(state["weights"]) in (0, 20000) and set(state["weights"]) <= {state["step"]}
resumed(state["step"])
while True:
    state = {"step": state["step"] + 1, "weights": [state["step"] + 1] * 20000}
    place = folder / f"step-{state['step']}.pkl"
    with open(f"{place}.tmp", "wb") as file:
        pickle.dump(state, file)
    os.replace(f"{place}.tmp", place)
    done(state["step"])
    for old in sorted(folder.glob("step-*.pkl"), key=lambda path: int(path.stem.split("-")[1]))[:-3]:
        old.unlink()
    time.sleep(0.02)
""",
    # In two files that are written over, as Keras's BackupAndRestore does.
    "over": """
import json
place, note = folder / "weights.json", folder / "training_metadata.json"
step = json.loads(note.read_text())["step"] if note.exists() else 0
weights = json.loads(place.read_text()) if place.exists() else [0] * 20000
assert len(weights) == 20000 and len(set(weights)) == 1 and weights[0] in (step, step + 1)
resumed(step)
while True:
    step += 1
    with open(place, "w") as file:
        for part in range(200):
            file.write("[" if part == 0 else ",")
            file.write(",".join([str(step)] * 100))
            if part % 20 == 0:
                file.flush()
                time.sleep(0.001)
        file.write("]")
    note.write_text(json.dumps({"step": step}))
    done(step)
    time.sleep(0.3)
""",
    "numpy": """
import numpy
rows = numpy.random.default_rng(1).normal(size=(500, 50))
target = rows @ numpy.arange(50)
steps = sorted(folder.glob("step-*.npz"), key=lambda path: int(path.stem.split("-")[1]))
step, weights = 0, numpy.zeros(50)
if steps:
    with numpy.load(steps[-1]) as loaded:
        step, weights = int(loaded["step"]), loaded["weights"]
resumed(step)
while True:
    for _ in range(20):
        weights -= 0.01 * rows.T @ (rows @ weights - target) / 500
    step += 1
    numpy.savez(folder / f"step-{step}.npz", step=step, weights=weights, filler=numpy.zeros(100_000))
    done(step)
    for old in sorted(folder.glob("step-*.npz"), key=lambda path: int(path.stem.split("-")[1]))[:-3]:
        old.unlink()
""",
    "keras": """
import keras, numpy
rows = numpy.random.default_rng(1).normal(size=(256, 20)).astype("float32")
model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(200), keras.layers.Dense(200), keras.layers.Dense(1)])
model.compile("adam", "mse")
class Tell(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        resumed(self.model._initial_epoch or 0)
    def on_epoch_end(self, epoch, logs=None):
        done(epoch + 1)
        time.sleep(0.2)
backup = keras.callbacks.BackupAndRestore(folder)
model.fit(rows, rows.sum(axis=1), epochs=100_000, batch_size=64, verbose=0, callbacks=[backup, Tell()])
""",
    "torch": """
import torch
model = torch.nn.Sequential(torch.nn.Linear(20, 300), torch.nn.Linear(300, 1))
optimizer = torch.optim.Adam(model.parameters())
place, step = folder / "last.pt", 0
if place.exists():
    state = torch.load(place)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    step = state["step"]
resumed(step)
rows = torch.randn(256, 20)
while True:
    for _ in range(5):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(rows)[:, 0], rows.sum(1)).backward()
        optimizer.step()
    step += 1
    torch.save({"step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, place)
    done(step)
    time.sleep(0.2)
""",
}
NEEDS = {"numpy": ["numpy"], "keras": ["tensorflow-cpu"], "torch": ["torch"]}


@dataclass
class Tally:
    """What was counted.

    :ivar kills: By what was killed.
    :ivar failures: What went wrong.
    :ivar ahead: How many steps after the last one that the killed job had noted the next one began, in sum.
    """

    kills: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    ahead: int = 0

    def __str__(self) -> str:
        of = ", ".join(f"{name} {count}" for name, count in sorted(self.kills.items()))
        resumed = self.kills.total() - len(self.failures)
        return f"{self.kills.total()} kills ({of}): {resumed} resumed from the last whole checkpoint or a later one"


class Campaign:
    """Trainings of one kind, killed again and again.

    :param kind: One of :data:`SCRIPTS`.
    :param python: The interpreter that has what the script needs.
    """

    def __init__(self, bench: Bench, kind: str, python: str, seed: int) -> None:
        self.bench = bench
        self.kind = kind
        self.python = python
        self.random = random.Random(f"{kind} {seed}")  # noqa: S311 -- of kills
        self.tally = Tally()
        self.cycle = str(uuid.uuid4())
        self.wait = 60.0 if kind in NEEDS else 30.0

    def run(self, count: int) -> Tally:
        """Kill so many jobs, each of which continues the one before."""
        last = 0
        job = self._submit()
        self._resumed(job)
        for number in range(count):
            last, how = self._kill(job, last)
            self.tally.kills[how] += 1
            ended, job = job, self._submit()
            found = self._resumed(job)
            if found is None or found < last:
                self.tally.failures.append(
                    f"{self.kind}, kill {number} ({how}) of job {ended.key.job_id}: saved {last}, resumed {found}; "
                    f"{self.bench.get(job).message} {self.bench.log(job)[-800:]}"
                )
                self.cycle, last = str(uuid.uuid4()), 0
                self._end(job)
                job = self._submit()
                self._resumed(job)
                continue
            self.tally.ahead += found - last
            last = found
        self._end(job)
        return self.tally

    def _submit(self) -> Job:
        job_id = str(uuid.uuid4())
        with self.bench.storages.of(CLIENT).writer(f"jobs/killed-{job_id}/train.py") as writer:
            writer.write((HEAD + SCRIPTS[self.kind]).encode())
            writer.commit()
        execution: dict[str, Any] = {"command": f"{self.python} train.py"}
        document = {"job": {"name": "killed", "execution": execution}}
        return self.bench.registry.submit(CLIENT, job_id, JobFile.model_validate(document), self.cycle)[0]

    def _resumed(self, job: Job) -> int | None:
        """The step from which a job goes on; None where it does not."""
        place = job.directory / "work" / "resumed"
        poll(lambda: place.exists() or self.bench.get(job).state.ended, self.wait, "the training to begin")
        return int(place.read_text()) if place.exists() else None

    def _kill(self, job: Job, last: int) -> tuple[int, str]:
        """Kill a job some time after it has begun; returns the last step that it noted, and what was killed."""
        time.sleep(self.random.uniform(0.05, 1.5))
        how = self.random.choice(["training", "supervisor", "everything", "stopped"])
        if how == "stopped":
            self.bench.registry.request_stop(job.key, "a test")
        else:
            processes = [] if how == "supervisor" else processes_of(job.directory)
            if how != "training":
                processes.insert(0, supervisor_of(job.directory))
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        self.bench.wait(job, timeout=self.wait)
        noted = (job.directory / "work" / "saved").read_text()
        steps = [int(line) for line in noted[: noted.rfind("\n") + 1].splitlines()]
        return max([last, *steps]), how

    def _end(self, job: Job) -> None:
        self.bench.registry.request_stop(job.key, "a test")
        self.bench.wait(job)


def interpreter(kind: str, home: Path) -> str:
    """A Python that has what a kind of training needs; made where this one has not."""
    if kind not in NEEDS:
        return sys.executable
    place = home / f"python-{kind}"
    if not place.exists():
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "-q", "--python", sys.executable, str(place)], check=True)
        subprocess.run([*uv, "pip", "install", "-q", "--python", f"{place}/bin/python", *NEEDS[kind]], check=True)
    return f"{place}/bin/python"


def main() -> int:
    """Run the campaign and print what was counted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int, nargs="?", default=100, help="kills of each kind")
    parser.add_argument("--kinds", default="plain,over,numpy,keras", help=f"of {','.join(SCRIPTS)}")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pythons", type=Path, help="a folder in which interpreters are kept for the next campaign")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the jobs are ended, and the folders removed
    failed = 0
    for kind in options.kinds.split(","):
        with tempfile.TemporaryDirectory(prefix="killed-") as home:
            python = interpreter(kind, options.pythons or Path(home))
            with Bench(Path(home)) as bench:
                tally = Campaign(bench, kind, python, options.seed).run(options.count)
        print(f"{kind}: {tally}", flush=True)
        print("".join(f"  {each}\n" for each in tally.failures), end="", flush=True)
        failed += len(tally.failures)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
