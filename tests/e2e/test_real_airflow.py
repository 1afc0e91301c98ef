# SPDX-License-Identifier: Apache-2.0
"""A real Airflow and a real server: what a person sees in the UI, and what is left when somebody pulls a plug."""

from __future__ import annotations

import re
import time
from datetime import datetime

import pytest
from airflow.triggers.base import BaseTrigger

from tests.harness.server import Server, renew, running
from tests.harness.waiting import wait_for

LINE = re.compile(r"line (\d+) of 100% \{\} %s")


class Training:
    """One run of a stub's DAG.

    :param conf: The headers of its ``config``.
    """

    def __init__(self, airflow, server: Server, dag_id: str, task_id: str = "train", **conf) -> None:
        self.airflow, self.server = airflow, server
        self.place = (dag_id, airflow.run(dag_id, conf), task_id)

    @property
    def job_id(self) -> str:
        """The job, from the XCom that the worker pushes."""

        def pushed() -> str | None:
            try:
                return self.airflow.xcom(*self.place, "training_job_id")
            except AssertionError:
                return None

        return str(wait_for("the job's id is there", pushed, 60))

    def state(self) -> str:
        return str(self.airflow.task(*self.place)["state"])

    def numbers(self, attempt: int | None = None) -> list[int]:
        """The numbers of the stub's lines that the log shows."""
        texts = self.airflow.lines(*self.place, attempt)
        return [int(found[1]) for text in texts if (found := LINE.fullmatch(text))]

    def wait_for_line(self, number: int) -> None:
        """Wait until the log shows this line; the task must be deferred or running then."""
        wait_for(f"line {number} is shown", lambda: number in self.numbers(), 60, 0.3)

    def ends(self, *states: str, seconds: float = 90) -> str:
        return self.airflow.wait_for_state(*self.place, *states, seconds=seconds)


@pytest.fixture
def training(airflow, jobapi_server):
    return lambda dag_id, **conf: Training(airflow, jobapi_server, dag_id, **conf)


def test_lines_are_seen_while_the_task_is_deferred_and_the_model_is_fetched(airflow, training, tmp_path):
    gate = tmp_path / "gate"
    one = training("stub", env={"GATE": str(gate)}, models=str(tmp_path / "models"))
    one.wait_for_line(2)
    assert one.state() == "deferred"
    shown = next(record for record in airflow.log(*one.place) if LINE.fullmatch(record["event"]))
    age = time.time() - datetime.fromisoformat(shown["timestamp"]).timestamp()
    assert -4 < age < 60  # no line is shown before the worker's, which may write for three seconds more
    gate.touch()
    assert one.ends("success") == "success"
    assert one.numbers() == [0, 1, 2]
    result = airflow.xcom(*one.place)
    assert (result["job_id"], result["status"], result["model"]) == (one.job_id, "SUCCESSFUL", None)
    dag_id, run_id, _ = one.place
    airflow.wait_for_state(dag_id, run_id, "fetch", "success")
    assert (tmp_path / "models" / "7" / "saved_model.pb").read_bytes() == b"saved model"


def test_the_jobs_lines_stand_between_the_workers(airflow, training, tmp_path):
    one = training("stub", env={"LINES": 50}, models=str(tmp_path))
    one.ends("success")
    texts = airflow.lines(*one.place)
    submitted = next(index for index, text in enumerate(texts) if "was submitted over" in text)
    paused = next(index for index, text in enumerate(texts) if text.startswith("Pausing task as DEFERRED"))
    successful = next(index for index, text in enumerate(texts) if "was successful" in text)
    lines = [index for index, text in enumerate(texts) if LINE.fullmatch(text)]
    assert submitted < paused < lines[0]
    if "::group::Post Execute" in texts:  # Airflow 3.1 has no groups there
        assert "::endgroup::" in texts[paused : lines[0]], "the UI would fold the first lines away"
    assert lines[-1] < successful
    assert one.numbers() == list(range(50))


@pytest.mark.parametrize("how", ["failed", "success", "clear", "run failed"])
def test_whoever_ends_the_task_ends_the_job(airflow, training, jobapi_server, how):
    one = training("stub", env={"GATE": "/never"})
    job_id = one.job_id
    one.wait_for_line(2)
    dag_id, run_id, task_id = one.place
    path = f"dags/{dag_id}/dagRuns/{run_id}"
    if how == "clear":
        airflow.api(
            "POST",
            f"dags/{dag_id}/clearTaskInstances",
            {"dry_run": False, "dag_run_id": run_id, "task_ids": [task_id], "only_failed": False},
        )
    elif how == "run failed":
        airflow.api("PATCH", path, {"state": "failed"})
    else:
        airflow.api("PATCH", f"{path}/taskInstances/{task_id}", {"new_state": how})
    stopped = time.monotonic()
    jobapi_server.wait_for(job_id, "STOPPED", timeout=20)
    assert time.monotonic() - stopped < 17
    if how == "clear":
        wait_for("the cleared task trains anew", lambda: one.job_id != job_id, 60)
        anew = one.job_id
        one.wait_for_line(2)
        airflow.api("PATCH", f"{path}/taskInstances/{task_id}", {"new_state": "failed"})
        jobapi_server.wait_for(anew, "STOPPED", timeout=20)


def test_a_worker_that_is_told_to_end_stops_the_job(airflow, training, jobapi_server):
    one = training("stub_inline", env={"GATE": "/never"})
    job_id = one.job_id
    jobapi_server.wait_for(job_id, "RUNNING")
    dag_id, run_id, task_id = one.place
    airflow.api("PATCH", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}", {"new_state": "failed"})
    jobapi_server.wait_for(job_id, "STOPPED", timeout=20)


def test_limits_hold_and_their_error_names_them(airflow, training, jobapi_server):
    one = training("stub_timeout", env={"GATE": "/never"})
    dag_id, run_id, _ = one.place
    for task_id, words in (("train", "timeout of 0:00:02"), ("train_airflows_own", "execution_timeout of 0:00:08")):
        airflow.wait_for_state(dag_id, run_id, task_id, "failed")
        told = str(airflow.log(dag_id, run_id, task_id))
        assert f"The {words} is over" in told
        job_id = airflow.xcom(dag_id, run_id, task_id, "training_job_id")
        assert jobapi_server.status(job_id)["status"] == "STOPPED"


def test_the_server_is_killed_and_started_again_and_every_line_is_shown_once(training, jobapi_server):
    one = training("stub_retry", env={"LINES": 300, "PAUSE": 0.03})
    one.wait_for_line(20)
    jobapi_server.kill()
    jobapi_server.restart()
    one.ends("success")
    assert one.numbers() == list(range(300))


def test_the_triggerer_is_killed_and_another_one_goes_on(airflow, training, tmp_path):
    gate = tmp_path / "gate"
    one = training("stub_retry", env={"LINES": 300, "PAUSE": 0.03, "GATE": str(gate)})
    one.wait_for_line(20)
    job_id = one.job_id
    airflow.replace_triggerer()
    one.wait_for_line(299)
    gate.touch()
    one.ends("success")
    assert one.numbers() == list(range(300))
    assert airflow.xcom(*one.place)["job_id"] == job_id


def test_a_failure_is_tried_again_with_another_job_and_says_why(airflow, training):
    one = training("stub_retry", env={"EXIT": 3, "LINES": 25})
    one.ends("failed")
    assert airflow.task(*one.place)["try_number"] == 2
    first, second = (str(airflow.log(*one.place, attempt)) for attempt in (1, 2))
    for told in (first, second):
        assert "NonZeroExit, exit code 3" in told
        assert "line 24 of 100%" in told
    assert "generation 0 was submitted" in first
    assert "generation 1 was submitted" in second


def test_the_metrics_grow_and_the_status_changes_while_the_task_is_deferred(airflow, training, tmp_path):
    middle, gate = tmp_path / "middle", tmp_path / "gate"
    one = training("stub_metrics", env={"STEPS": 60, "MIDDLE": str(middle), "GATE": str(gate)})

    def told(key: str):
        try:
            return airflow.xcom(*one.place, key)
        except AssertionError:
            return None

    def points() -> int:
        content = told("training_metrics")
        return 0 if content is None else len(content["metrics"]["loss"]["values"])

    facts = wait_for("the facts are told", lambda: told("training_facts"), 60)
    assert (facts["job_id"], facts["generation"]) == (one.job_id, 0)
    wait_for("the first half is told", lambda: points() == 30, 60)
    assert one.state() == "deferred"
    status = wait_for("the job is told to run", lambda: (told("trainingStatus") or {}).get("status") == "RUNNING", 30)
    assert status
    middle.touch()
    wait_for("every point is told", lambda: points() == 60, 60)
    assert one.state() == "deferred"
    gate.touch()
    one.ends("success")
    assert told("training_metrics")["metrics"]["accuracy"]["last"] == 6.0
    assert told("trainingStatus")["status"] == "SUCCESSFUL"
    assert airflow.xcom(*one.place)["metrics"]["loss"] == 1 / 60
    assert "step 2: loss=0.5 oddity=nan" in airflow.lines(*one.place)
    dag_id, run_id, task_id = one.place
    if hasattr(BaseTrigger, "on_kill"):  # Airflow 3.3, which keeps a state for tasks as well
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/state-store"
        (kept,) = airflow.api("GET", path)["task_state_store"]
        assert kept["key"] == "training_metrics_1"


def secret_lines(airflow, place) -> list[str]:
    return [text for text in airflow.lines(*place) if text.startswith(("arguments", "token", "line "))]


SECRET_LINES = [
    "arguments --api_token=*** --db_password=***",
    "token *** password ***",
    *(f"line {number} has *** loss={number}" for number in range(200)),
]


def test_secrets_stay_hidden_when_they_change_and_the_triggerer_is_killed(airflow, tmp_path):
    """The Variable and the connection's secret are changed, the triggerer is killed: each line once, none clear."""
    secrets = ["first-token-0001", "second-token-0002", "pass-of-w-0003"]
    airflow.api("POST", "variables", {"key": "api_token", "value": secrets[0]})
    airflow.connect("w", {"conn_type": "generic", "password": secrets[2]})
    gate, last = tmp_path / "gate", tmp_path / "last"
    with running(tmp_path / "jobapi", "--grace", "2s") as server:
        airflow.connect("stub_secrets", server.connection)
        one = Training(airflow, server, "stub_secrets", gate=str(gate), next_gate=str(last))
        wait_for("line 99 is shown", lambda: any("line 99 " in text for text in secret_lines(airflow, one.place)), 60)
        assert one.state() == "deferred"
        secrets += [server.secret]
        renew(server)
        airflow.api("PATCH", "variables/api_token", {"key": "api_token", "value": secrets[1]})
        airflow.api("DELETE", "connections/stub_secrets")
        airflow.connect("stub_secrets", server.connection)
        airflow.replace_triggerer()
        gate.touch()
        wait_for("line 199 is shown", lambda: any("line 199 " in text for text in secret_lines(airflow, one.place)), 90)
        last.touch()
        one.ends("success")
        assert secret_lines(airflow, one.place) == SECRET_LINES
        assert airflow.xcom(*one.place)["metrics"]["loss"] == 199
        dag_id, run_id, task_id = one.place
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries"
        keys = [each["key"] for each in airflow.api("GET", path)["xcom_entries"]]
        assert {"training_facts", "training_metrics", "trainingStatus", "training_log", "training_seal"} <= set(keys)
        written = str([airflow.xcom(*one.place, key) for key in keys]) + str(airflow.log(*one.place))
        assert not [secret for secret in [*secrets, server.secret] if secret in written]
        airflow.api("PATCH", "variables/api_token", {"key": "api_token", "value": secrets[0]})
        inline = Training(airflow, server, "stub_secrets_inline", gate=str(gate), next_gate=str(last))
        inline.ends("success")
        assert secret_lines(airflow, inline.place) == SECRET_LINES, "both modes show the same"
