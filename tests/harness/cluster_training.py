# SPDX-License-Identifier: Apache-2.0
"""What the kill matrix looks at: a training task on a cluster, its jobs on a service, its lines in the log."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from airflow_provider_jobapi.training.logs import LogLine, Thinning
from tests.harness.cluster import Cluster, Component
from tests.harness.proxy_faults import ScriptedProxy
from tests.harness.remote import Job, Remote
from tests.harness.server import Server
from tests.harness.waiting import wait_for


@dataclass
class Tally:
    """What a run of the matrix has survived."""

    kills: int = 0
    lines: int = 0
    jobs: int = 0


@dataclass
class Stage:
    """Everything that stands on it.

    :ivar server: The jobAPI server.
    :ivar remote: The service that trains.
    :ivar network: Between the cluster and the service, on the connection ``kills_plain``.
    :ivar control: Between the workers and Airflow's own API.
    :ivar family: The DAGs of the service: ``trains`` has the DAG ``trains_plain`` in place of ``kills_plain``.
    """

    cluster: Cluster
    server: Server
    remote: Remote
    network: ScriptedProxy
    control: ScriptedProxy
    dags: Path
    tally: Tally
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    family: str = "kills"

    def train(
        self,
        dag_id: str = "kills_plain",
        env: Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        logical_date: str | None = None,
        remote: Remote | None = None,
        **conf: Any,
    ) -> Training:
        """Start a run of a DAG; answers its training.

        :param env: The arguments of the script.
        :param remote: The service to which the DAG's connection leads, where that is another one.
        :param conf: More of the run's configuration.
        """
        dag_id = dag_id.replace("kills_", f"{self.family}_", 1)
        name = conf.setdefault("name", f"kill-{next(self.numbers)}")
        conf["env"] = {key.upper(): str(value) for key, value in (env or {}).items()}
        body = {"logical_date": logical_date, "conf": conf} | ({"dag_run_id": run_id} if run_id else {})
        self.cluster.api("PATCH", f"dags/{dag_id}", {"is_paused": False})
        run = self.cluster.api("POST", f"dags/{dag_id}/dagRuns", body)
        return Training(self, dag_id, str(run["dag_run_id"]), name, remote or self.remote)

    def backfill(self, dag_id: str, first: str, last: str) -> list[str]:
        """Start a backfill; answers the ids of its runs."""
        api = self.cluster.api
        api("PATCH", f"dags/{dag_id}", {"is_paused": False})
        body = {"dag_id": dag_id, "from_date": f"{first}T00:00:00Z", "to_date": f"{last}T00:00:00Z"}
        api("POST", "backfills", body | {"run_backwards": False, "dag_run_conf": {}, "max_active_runs": 10})
        # A DAG that is no longer paused may have a scheduled run beside them.
        runs = api("GET", f"dags/{dag_id}/dagRuns", run_type="backfill", limit=100)
        return [run["dag_run_id"] for run in runs["dag_runs"]]

    def retries(self, dag_id: str) -> int:
        """What Airflow knows of the retries of a DAG's task."""
        return int(self.cluster.api("GET", f"dags/{dag_id}/tasks/train")["retries"])


@dataclass
class Training:
    """One training task, its jobs and its log."""

    stage: Stage
    dag_id: str
    run_id: str
    name: str
    remote: Remote
    task_id: str = "train"
    map_index: int = -1

    @property
    def place(self) -> str:
        """The task instance in Airflow's API."""
        mapped = "" if self.map_index < 0 else f"/{self.map_index}"
        return f"dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/{self.task_id}{mapped}"

    def of(self, **changes: Any) -> Training:
        """The same run, another task or index."""
        return Training(**{**vars(self), **changes})

    # Airflow

    def task(self) -> dict[str, Any]:
        """The task instance."""
        return dict(self.stage.cluster.api("GET", self.place))

    def wait(self, *states: str, seconds: float = 90.0, attempt: int | None = None) -> dict[str, Any]:
        """Wait until the task is in one of the states, and in this try if one is named."""
        seen: dict[str, Any] = {}

        def look() -> bool:
            seen.update(self.task())
            if (
                seen["state"] in {"failed", "success"}
                and seen["state"] not in states
                and attempt in {None, seen["try_number"]}
            ):
                raise AssertionError(f"{self.name} is {seen['state']}, not {states}:\n" + "\n".join(self.log()))
            return seen["state"] in states and attempt in {None, seen["try_number"]}

        wait_for(f"{self.name} ({self.dag_id}) is in {states}", look, seconds, 0.2)
        return seen

    def log(self, attempt: int | None = None) -> list[str]:
        """The texts of the task's log as its API gives them."""
        attempt = attempt or self.task()["try_number"]
        content = self.stage.cluster.api(
            "GET", f"{self._logs}/{attempt}", full_content="true", map_index=self.map_index
        )["content"]
        return [str(record["event"]) if isinstance(record, dict) else str(record) for record in content]

    def errors(self) -> list[str]:
        """The errors of the task's log, with what they say."""
        content = self.stage.cluster.api("GET", f"{self._logs}/1", full_content="true", map_index=self.map_index)[
            "content"
        ]
        return [json.dumps(record) for record in content if isinstance(record, dict) and record.get("level") == "error"]

    def tail(self, triggerer: Component) -> list[str]:
        """The last records that a triggerer has written into the task's log, as they stand in the file."""
        return self._file(triggerer)[-200:]

    def _file(self, triggerer: Component) -> list[str]:
        logs = self.stage.cluster.home / "logs"
        files = logs.glob(f"dag_id={self.dag_id}/run_id={self.run_id}/**/*.trigger.{triggerer.job}.log")
        return [line for file in files for line in file.read_text(errors="replace").splitlines()]

    def numbered(self, triggerer: Component) -> list[int]:
        """The numbers of the numbered lines that a triggerer has written."""
        return [int(number) for line in self._file(triggerer) for number in re.findall(r'"line (\d+)"', line)]

    def lateness(self, triggerer: Component, over: Callable[[], object], seconds: float) -> list[float]:
        """Until something is over: by how many seconds each of the task's lines came late into its log."""
        seen = len(self._file(triggerer))
        late: list[float] = []

        def look() -> object:
            nonlocal seen
            lines, now = self._file(triggerer), datetime.now(UTC)
            for line in lines[seen:]:
                with suppress(ValueError):
                    late.append((now - datetime.fromisoformat(json.loads(line)["timestamp"])).total_seconds())
            seen = len(lines)
            return over()

        wait_for("it is over", look, seconds, 0.1)
        return late

    def screen(self, attempt: int) -> list[str]:
        """The texts of the task's log as the UI gets them: another way through Airflow's reader."""
        answer = self.stage.cluster._session.get(
            f"{self.stage.cluster.url}/api/v2/{self._logs}/{attempt}",
            params={"map_index": self.map_index},
            headers={"Accept": "application/x-ndjson"},
            timeout=60,
        )
        answer.raise_for_status()
        return [str(json.loads(line)["event"]) for line in answer.text.splitlines() if line.strip()]

    @property
    def _logs(self) -> str:
        return f"dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/{self.task_id}/logs"

    def states(self) -> list[str]:
        """The states of a mapped task's instances."""
        place = f"dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/{self.task_id}/listMapped"
        tasks = self.stage.cluster.api("GET", place, limit=100)["task_instances"]
        return [str(task["state"]) for task in tasks]

    def xcom(self, key: str) -> Any:
        """An XCom of the task."""
        place = f"dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/{self.task_id}/xcomEntries/{key}"
        return self.stage.cluster.api("GET", place, map_index=self.map_index, deserialize="true")["value"]

    def mark(self, state: str) -> None:
        """What a user does."""
        self.stage.cluster.api("PATCH", self.place, {"new_state": state})

    def clear(self) -> None:
        """What a user does."""
        body = {
            "dry_run": False,
            "dag_run_id": self.run_id,
            "task_ids": [self.task_id],
            "only_failed": False,
            "only_running": False,
            "reset_dag_runs": True,
        }
        self.stage.cluster.api("POST", f"dags/{self.dag_id}/clearTaskInstances", body)

    def mark_run(self, state: str) -> None:
        """What a user does to the whole run."""
        self.stage.cluster.api("PATCH", f"dags/{self.dag_id}/dagRuns/{self.run_id}", {"state": state})

    def delete_run(self) -> None:
        """What a user does to a run that has ended."""
        self.stage.cluster.api("DELETE", f"dags/{self.dag_id}/dagRuns/{self.run_id}")

    def shown(self, job_id: str, attempt: int = 1) -> list[str]:
        """The job's lines that Airflow shows so far."""
        texts = set(self.lines(job_id))
        return [text for text in self.log(attempt) if text in texts]

    def everywhere(self, component: Component, word: str) -> list[str]:
        """Every line with this word that a component has written into the task's log files or to its own output."""
        files = (self.stage.cluster.home / "logs").glob(
            f"dag_id={self.dag_id}/run_id={self.run_id}/**/*.trigger.{component.job}.log"
        )
        return [
            line
            for file in (*files, component.output)
            for line in file.read_text(errors="replace").splitlines()
            if word in line and (file == component.output) <= (self.run_id in line)
        ]

    # The service

    def jobs(self) -> list[Job]:
        """Every job of this name that the service ever had, the oldest first."""
        return self.remote.jobs(self.name)

    def wait_for_job(self, *states: str, count: int = 1, seconds: float = 60.0) -> str:
        """Wait until there are so many jobs and the newest is in one of the states; answers its id."""
        wanted = states or ("RUNNING",)

        def look() -> str:
            jobs = self.jobs()
            assert len(jobs) <= count, jobs
            return jobs[-1].job_id if len(jobs) == count and jobs[-1].status in wanted else ""

        return wait_for(f"job {count} of {self.name} is {wanted}", look, seconds, 0.1)

    def wait_for_fresh_job(self, old: Sequence[str]) -> list[Job]:
        """Wait until the newest job is none of the old ones, and runs; answers all of them."""

        def look() -> list[Job]:
            jobs = self.jobs()
            return jobs if jobs and jobs[-1].job_id not in old and jobs[-1].status == "RUNNING" else []

        return wait_for(f"{self.name} trains anew", look, 60, 0.1)

    def finish(self, job_id: str, code: int = 0) -> None:
        """Let the script end."""
        self.remote.finish(job_id, code)

    def lines(self, job_id: str) -> list[str]:
        """The texts of the job's log as the service has it."""
        return [line.text for line in self.remote.records(job_id)]

    def thinned(self, job_id: str, thinning: Thinning) -> list[LogLine]:
        """What of the job's log is to be shown."""
        return [*thinning.feed(self.remote.records(job_id)), *thinning.end()]

    # What must hold

    def wait_for_lines(self, job_id: str, count: int, attempt: int = 1, seconds: float = 60.0) -> None:
        """Wait until Airflow shows so many of the job's lines."""

        wait_for(
            f"{count} lines of {self.name} are shown", lambda: len(self.shown(job_id, attempt)) >= count, seconds, 0.3
        )

    def check_lines(self, job_id: str, attempt: int, *, least: int | None = None) -> None:
        """The log of a try shows the job's lines, each once and in order, and no other job's.

        :param least: For a job that was left in the middle: so many lines or more are shown, from the first one on and
            without a gap. None where every line is.
        """
        expected = self.lines(job_id)
        numbered = [text for text in expected if text.startswith("line ")]
        assert numbered == [f"line {number}" for number in range(3, 3 * len(numbered) + 1, 3)], "the service lost lines"
        texts = {*expected, "the same text"}
        for shown in (self.log(attempt), self.screen(attempt)):
            lines = [text for text in shown if text in texts or text.startswith("line ")]
            wanted = expected if least is None else expected[: max(least, len(lines))]
            assert lines == wanted, _difference(wanted, lines)
        self.stage.tally.lines += len(wanted)

    def check(self, *states: str, state: str = "success") -> list[str]:
        """The service had these jobs and no other, each ended so; nothing runs; answers their ids."""
        task = self.task()
        assert task["state"] == state, "\n".join(self.log())
        jobs = self.jobs()
        assert [job.status for job in jobs] == list(states), jobs
        for job in jobs:
            wait_for(f"nothing of {self.name} runs", lambda job=job: not self.remote.alive(job.job_id), 10, 0.1)
        self.stage.tally.jobs += len(jobs)
        return [job.job_id for job in jobs]

    def check_many(self, count: int) -> list[str]:
        """The service had so many jobs of this name, all of them good; nothing runs; answers their ids."""
        jobs = self.jobs()
        assert [job.status for job in jobs] == ["SUCCESSFUL"] * count
        assert not any(self.remote.alive(job.job_id) for job in jobs)
        self.stage.tally.jobs += count
        return [job.job_id for job in jobs]

    def finish_newest(self) -> None:
        """Let the newest job end well, once it has written some lines."""
        job = self.wait_for_job(count=len(self.jobs()))
        wait_for(f"{self.name} has written some lines", lambda: len(self.lines(job)) > 20, 30)
        self.finish(job)

    def end(self) -> None:
        """Let the newest job end well, see the task succeed."""
        self.finish_newest()
        self.wait("success")

    def kill(self, pid: int, number: signal.Signals = signal.SIGKILL) -> None:
        """Kill one process, by its id."""
        os.kill(pid, number)
        self.stage.tally.kills += 1

    def kill_worker(self, pid: int) -> None:
        """Kill a worker process and the task below it, as a machine that goes down does."""
        worker = psutil.Process(pid)
        assert "LocalExecutor" in " ".join(worker.cmdline()), worker.cmdline()
        for process in (worker, *worker.children(recursive=True)):
            process.kill()
        self.stage.tally.kills += 1


def _difference(expected: list[str], shown: list[str]) -> str:
    for index, (one, other) in enumerate(zip(expected, shown, strict=False)):
        if one != other:
            return (
                f"{len(expected)} lines expected, {len(shown)} shown; they differ from number {index}: "
                f"{expected[index : index + 5]} expected, {shown[index : index + 5]} shown"
            )
    return f"{len(expected)} lines expected, {len(shown)} shown; the shorter is the beginning of the longer"
