# SPDX-License-Identifier: Apache-2.0
"""An Airflow on PostgreSQL whose components are processes of the test's own: each can be killed, held and restarted.

::

    with Cluster(home, dags) as cluster:
        cluster.triggerers[0].kill()
        cluster.triggerers[0].start()
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.harness.airflow import START_WAIT, Airflow, free_ports
from tests.harness.postgres import Postgres
from tests.harness.waiting import NotInTime, wait_for

TRIGGERER_THRESHOLD = 5.0
"""Seconds without a heartbeat after which a triggerer's triggers go to another one."""

HEARTBEAT_TIMEOUT = 10.0
"""Seconds without a heartbeat after which a task's worker counts as dead."""


class Component:
    """One component of Airflow: a process with its children, in a session of their own.

    :param command: The words after ``airflow``.
    """

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str], home: Path) -> None:
        self.name = name
        self.kills = 0
        self.wanted = False
        self.output = home / f"{name}.out"
        self._command = [sys.executable, "-m", "airflow", *command]
        self._environment = dict(environment)
        self._home = home
        self.job: int | None = None
        """A triggerer's number in Airflow's list of jobs."""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The id of its first process."""
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether its first process lives."""
        return self._process is not None and self._process.poll() is None

    @contextmanager
    def setting(self, **environment: str) -> Iterator[None]:
        """Start it with other settings from here on, and with its own ones afterwards."""
        before = dict(self._environment)
        self._environment |= environment
        try:
            yield
        finally:
            self._environment = before

    def start(self) -> None:
        """Start it (again)."""
        assert not self.runs
        self.wanted = True
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def processes(self) -> list[psutil.Process]:
        """Every living process of it, orphans included."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if os.getsid(process.pid) == self.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every process of it at once, as a container's end or a frozen machine does."""
        for process in self.processes():
            with suppress(psutil.Error):
                process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL to all of it, and wait until nothing of it is left."""
        if self._process is None:
            return
        self.wanted = False
        self.kills += 1
        self.signal(signal.SIGKILL)
        self._process.wait()
        wait_for(f"{self.name} is gone", self._is_gone, 20, 0.05)

    def terminate(self, seconds: float = 40.0) -> None:
        """SIGTERM to its first process, as a service manager does; SIGKILL when that does not end it."""
        if self._process is None:
            return
        self.wanted = False
        self.kills += 1
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        with suppress(NotInTime):
            wait_for(f"{self.name} is gone", self._is_gone, seconds / 4, 0.05)
        self.signal(signal.SIGKILL)
        self._process.wait()

    def end(self) -> None:
        """End it for good, where its end is not what a test is about."""
        kills = self.kills
        self.kill()
        self.kills = kills

    def hold(self) -> None:
        """Stop its clock: SIGSTOP."""
        self.kills += 1
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run again."""
        self.signal(signal.SIGCONT)

    def _is_gone(self) -> bool:
        self.signal(signal.SIGKILL) if not self.runs else None
        return not self.processes()


class Cluster(Airflow):
    """The Airflow; a context manager.

    :param home: Its AIRFLOW_HOME, which is made.
    :param dags: The folders of its DAGs.
    :param environment: What every component gets beside our settings.
    """

    def __init__(self, home: Path, *dags: Path, environment: Mapping[str, str]) -> None:
        self.postgres = Postgres()
        database = {
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self.postgres.url,
            "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of all components of the tests, and long enough",
            "AIRFLOW__API__SECRET_KEY": "another secret of all components of the tests",
            "AIRFLOW__CORE__FERNET_KEY": "",
            "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": f"{HEARTBEAT_TIMEOUT:g}",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
            "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "2",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": f"{TRIGGERER_THRESHOLD:g}",
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
            # Airflow's own defaults: what it does during an outage is what these tests are about.
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "5",
            "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": "3",
        }
        super().__init__(home, *dags, environment={**database, **environment})
        self.home.mkdir(parents=True, exist_ok=True)
        self.api_server = self._component("api-server", "api-server", "--port", str(self._port), "--workers", "1")
        self.scheduler = self._component("scheduler", "scheduler", "--skip-serve-logs")
        self.dag_processor = self._component("dag-processor", "dag-processor")
        self.triggerers = [self._triggerer(number) for number in (1, 2)]

    @property
    def port(self) -> int:
        """The port of the API server."""
        return self._port

    def let_workers_speak_through(self, port: int) -> None:
        """Put a proxy between the workers and Airflow's API; before the start."""
        self.scheduler._environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] = f"http://127.0.0.1:{port}/execution/"

    @property
    def components(self) -> Iterator[Component]:
        """Every component, in the order of their start."""
        yield from (self.api_server, self.scheduler, self.dag_processor, *self.triggerers)

    def start(self) -> None:
        """Make the database and start every component but the second triggerer."""
        self.postgres.__enter__()
        migration = subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"],
            env=self._environment,
            cwd=self.home,
            capture_output=True,
            check=False,
        )
        assert migration.returncode == 0, migration.stderr.decode()[-3000:]
        for component in (self.api_server, self.scheduler, self.dag_processor, self.triggerers[0]):
            component.start()

    def stop(self) -> None:
        """End every process by its own id."""
        for component in self.components:
            component.kill()
        self.postgres.__exit__()
        self._session.close()

    def wait_until_healthy(self, seconds: float = START_WAIT) -> None:
        """Wait until the API server answers and calls the others healthy."""

        def healthy() -> bool:
            for component in self.components:
                if component._process is not None and not component.runs:
                    raise AssertionError(f"{component.name} ended:\n{component.output.read_text()[-4000:]}")
            return self._health()

        wait_for("Airflow is healthy", healthy, seconds, 0.5)
        token = wait_for("Airflow gives a token", self._token, 30)
        self._session.headers["Authorization"] = f"Bearer {token}"
        (self.triggerers[0].job,) = self.triggerer_jobs()

    def _health(self) -> bool:
        with suppress(requests.RequestException, ValueError):
            health = self._session.get(f"{self.url}/api/v2/monitor/health", timeout=5).json()
            parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
            return all(health.get(part, {}).get("status") == "healthy" for part in parts)
        return False

    def start_triggerer(self, number: int) -> Component:
        """Start a triggerer and wait until it is at work."""
        before = set(self.triggerer_jobs())
        triggerer = self.triggerers[number]
        triggerer.start()
        (triggerer.job,) = wait_for(f"{triggerer.name} is at work", lambda: set(self.triggerer_jobs()) - before, 90)
        return triggerer

    def owner(self, task: Mapping[str, Any]) -> Component:
        """The triggerer that has a deferred task's trigger."""
        job = task["triggerer_job"]["id"]
        (found,) = (each for each in self.triggerers if each.job == job)
        return found

    def settle(self) -> bool:
        """Start again what has ended by itself, as a service manager does; answers whether everything is healthy."""
        for component in self.components:
            if component.wanted and not component.runs:
                component.start()
        health = self._health()
        if health and len(self.triggerer_jobs()) == 1:
            (self.triggerers[0].job,) = self.triggerer_jobs()
        return health

    def triggerer_jobs(self) -> dict[int, Any]:
        """The triggerers that are alive in Airflow's eyes, by the number of their job."""
        jobs = self.api("GET", "jobs", job_type="TriggererJob", job_state="running", is_alive="true", limit=100)["jobs"]
        return {job["id"]: job for job in jobs}

    def connect(self, conn_id: str, fields: Mapping[str, Any]) -> None:
        """Store a connection in Airflow's database, or change it; what is not given is emptied."""
        body = dict.fromkeys(("host", "port", "schema", "login", "password"))
        body |= {key: value for key, value in fields.items() if key != "extra"}
        body |= {"connection_id": conn_id, "extra": json.dumps(fields.get("extra") or {})}
        known = {each["connection_id"] for each in self.api("GET", "connections", limit=100)["connections"]}
        if conn_id in known:
            self.api("PATCH", f"connections/{conn_id}", body)
        else:
            self.api("POST", "connections", body)

    def _component(self, name: str, *command: str, **environment: str) -> Component:
        return Component(name, list(command), self._environment | environment, self.home)

    def _triggerer(self, number: int) -> Component:
        (port,) = free_ports(1)
        own = {} if number == 1 else {"AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(port)}
        return self._component(f"triggerer-{number}", "triggerer", **own)
