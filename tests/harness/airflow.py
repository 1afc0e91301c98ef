# SPDX-License-Identifier: Apache-2.0
"""A real Airflow on free loopback ports: started, spoken to over its REST API, and ended process by process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psutil
import requests

from tests.harness.waiting import NotInTime, wait_for

START_WAIT = 240.0
"""Seconds for the first start on a slow machine; a warm one takes about 25."""


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def settings(home: Path, *dags: Path) -> dict[str, str]:
    """The environment of an Airflow that tests can wait for.

    :param home: Its AIRFLOW_HOME.
    :param dags: The folders of its DAGs.
    """
    local = "airflow.dag_processing.bundles.local.LocalDagBundle"
    bundles = [
        {
            "name": "-".join(folder.parts[-2:]),
            "classpath": local,
            "kwargs": {"path": str(folder), "refresh_interval": 5},
        }
        for folder in dags
    ]
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}?timeout=60",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "1",
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "5",
        # On a busy machine an answer takes longer than 5 seconds, and a task without three of them would be ended.
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
        "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": "24",
    }


class Airflow:
    """``airflow standalone`` in a session of its own.

    :param home: Its AIRFLOW_HOME, which is made.
    :param dags: The folders of its DAGs.
    :param environment: What it gets beside our settings.
    """

    def __init__(self, home: Path, *dags: Path, environment: Mapping[str, str] | None = None) -> None:
        self.home = home
        self._port, trigger_logs, worker_logs = free_ports(3)
        self.url = f"http://127.0.0.1:{self._port}"
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW_")},
            # standalone starts the word "airflow"
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            **settings(home, *dags),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self._port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_logs),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_logs),
            **(environment or {}),
        }
        self._started: list[subprocess.Popen[bytes]] = []
        self._session = requests.Session()
        self._session.trust_env = False

    @property
    def output(self) -> Path:
        """What Airflow printed."""
        return self.home / "standalone.out"

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_until_healthy()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start every component; answers at once."""
        self.home.mkdir(parents=True, exist_ok=True)
        self._spawn("standalone")

    def replace_triggerer(self) -> None:
        """Kill the triggerer as a power cut would, and start another one."""
        for process in list(self.processes("triggerer")):
            with suppress(psutil.Error):
                process.kill()
        (port,) = free_ports(1)
        self._environment["AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT"] = str(port)
        self._spawn("triggerer")

    def _spawn(self, *command: str) -> None:
        """Start a component in a session of its own, by which all that it starts is found again."""
        with self.output.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "airflow", *command],
                env=self._environment,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append(process)

    def wait_until_healthy(
        self, seconds: float = START_WAIT, told: Callable[[list[str]], None] = lambda _missing: None
    ) -> None:
        """Wait until all four components are up.

        :param seconds: How long.
        :param told: Called with the components that are not up yet, at each look.
        """
        parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")

        def healthy() -> bool:
            if self._started[0].poll() is not None:
                raise AssertionError(f"airflow standalone ended:\n{self.output.read_text()[-4000:]}")
            try:
                health = self._session.get(f"{self.url}/api/v2/monitor/health", timeout=5).json()
            except (requests.RequestException, ValueError):
                told(["api_server", *parts])
                return False
            missing = [part for part in parts if health.get(part, {}).get("status") != "healthy"]
            told(missing)
            return not missing

        wait_for("Airflow is healthy", healthy, seconds, 0.5)
        token = wait_for("Airflow gives a token", self._token, 30)
        self._session.headers["Authorization"] = f"Bearer {token}"

    def _token(self) -> str | None:
        with suppress(requests.RequestException, ValueError):
            return str(self._session.get(f"{self.url}/auth/token", timeout=10).json()["access_token"])
        return None

    def processes(self, word: str = "") -> Iterator[psutil.Process]:
        """Every living process of this Airflow whose command line holds the word."""
        sessions = {process.pid for process in self._started}
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                ours = os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE
                if ours and word in " ".join(process.cmdline()):
                    yield process

    def stop(self) -> None:
        """End every process of the sessions by its own id."""
        for end, seconds in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0)):
            for process in self.processes():
                with suppress(psutil.Error):
                    process.send_signal(end)
            with suppress(NotInTime):
                wait_for("every process has ended", lambda: not any(self.processes()), seconds, 0.1)
                break
        for started in self._started:
            started.wait()
        self._started.clear()
        self._session.close()

    # The REST API

    def api(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """Call the API; a 5xx is repeated, since Airflow on SQLite gives one now and then."""

        def attempt() -> list[requests.Response]:
            with suppress(requests.ConnectionError, requests.Timeout):
                answer = self._session.request(method, f"{self.url}/api/v2/{path}", json=body, params=query, timeout=30)
                return [] if answer.status_code >= 500 else [answer]
            return []

        (answer,) = wait_for(f"{method} {path} is answered", attempt, 60, 0.5)
        if not answer.ok:
            raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json() if answer.content else None

    def connect(self, conn_id: str, fields: Mapping[str, Any]) -> None:
        """Add a connection, as a person does in the UI.

        :param fields: conn_type, host, login, password and extra, a mapping.
        """
        extra = json.dumps(fields.get("extra") or {})
        self.api("POST", "connections", {"connection_id": conn_id, **fields, "extra": extra})

    def run(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run of a DAG, which may have to be parsed first; answers the run id."""

        def known() -> bool:
            errors = self.api("GET", "importErrors")["import_errors"]
            assert not errors, errors
            return any(dag["dag_id"] == dag_id for dag in self.api("GET", "dags", limit=100)["dags"])

        wait_for(f"{dag_id} is parsed", known, 60, 0.5)
        self.api("PATCH", f"dags/{dag_id}", {"is_paused": False})
        body = {"logical_date": None, "conf": dict(conf or {})}
        return str(self.api("POST", f"dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def task(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """The task instance as the API tells it."""
        task: dict[str, Any] = self.api("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}")
        return task

    def wait_for_state(self, dag_id: str, run_id: str, task_id: str, *states: str, seconds: float = 90) -> str:
        """Wait until a task is in one of the states."""

        def state() -> str | None:
            seen = self.task(dag_id, run_id, task_id)["state"]
            if seen in {"failed", "success", "upstream_failed"} and seen not in states:
                log = "\n".join(self.lines(dag_id, run_id, task_id))
                raise AssertionError(f"{task_id} is {seen}, not one of {states}:\n{log}")
            return seen if seen in states else None

        return str(wait_for(f"{task_id} is in {states}", state, seconds, 0.3))

    def log(self, dag_id: str, run_id: str, task_id: str, attempt: int | None = None) -> list[dict[str, Any]]:
        """The records of a task's log, as the UI gets them."""
        attempt = attempt or self.task(dag_id, run_id, task_id)["try_number"]
        if not attempt:
            return []
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{attempt}"
        content = self.api("GET", path, full_content="true")["content"]
        return [record if isinstance(record, dict) else {"event": record} for record in content]

    def lines(self, dag_id: str, run_id: str, task_id: str, attempt: int | None = None) -> list[str]:
        """The texts of a task's log."""
        return [str(record["event"]) for record in self.log(dag_id, run_id, task_id, attempt)]

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        """An XCom of a task."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.api("GET", path, deserialize="true")["value"]
