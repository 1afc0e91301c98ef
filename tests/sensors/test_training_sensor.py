# SPDX-License-Identifier: Apache-2.0
"""The sensor: it waits for a job of another task, checks its end, and never stops it."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from airflow.sdk._shared.secrets_masker import reset_secrets_masker
from cryptography.fernet import Fernet

from airflow_provider_jobapi._airflow import AirflowFailException, AirflowSensorTimeout, AirflowSkipException
from airflow_provider_jobapi.exceptions import ServiceUnavailable
from airflow_provider_jobapi.hooks.seal import seal_secrets
from airflow_provider_jobapi.sensors.training import TrainingSensor
from airflow_provider_jobapi.services import retry
from airflow_provider_jobapi.triggers.training import TrainingTrigger
from tests.harness.scripted import Recorder, ScriptedFollower, ScriptedTrigger, chunk, end
from tests.harness.tries import TaskDeferred, follow
from tests.harness.waiting import wait_for

RESULT = {
    "status": "SUCCESSFUL",
    "model": None,
    "metrics": {},
    "data_version": None,
    "model_kind": None,
    "model_unsafe": False,
}
WAITS = (
    "import pathlib, time\nprint('begun', flush=True)\nwhile not pathlib.Path({gate!r}).exists(): time.sleep(0.05)\n"
)


class Sense:
    """A sensor's task instance, run as a worker and a triggerer would."""

    def __init__(self, job, **parameters) -> None:
        with DAG("sense", schedule=None):
            self.sensor = TrainingSensor(task_id="wait", job=job, **parameters)
        self.xcoms: dict[str, str] = {}
        self.context = {"ti": SimpleNamespace(start_date=datetime.now(UTC), xcom_push=self._push)}

    def _push(self, key, value):
        self.xcoms[key] = value

    def defer(self) -> TrainingTrigger:
        """A worker's part until it defers; answers the trigger as a triggerer makes it."""
        with pytest.raises(TaskDeferred) as caught:
            self.sensor.execute(self.context)
        assert caught.value.method_name == "execute_complete"
        return TrainingTrigger(**json.loads(json.dumps(caught.value.trigger.serialize()[1])))

    def run(self):
        if not self.sensor.deferrable:
            return self.sensor.execute(self.context)
        event = json.loads(json.dumps(follow(self.defer())))
        return self.sensor.resume_execution("execute_complete", {"event": event}, self.context)


@pytest.fixture(params=[True, False], ids=["deferred", "inline"])
def sense(request, connected):
    """Makes sensors, deferrable or not."""
    return lambda job, **parameters: Sense(job, deferrable=request.param, **parameters)


@pytest.fixture
def goes_on(connected, tmp_path):
    """A job of another task that runs until the test is over."""
    job_id = connected.submit(WAITS.format(gate=str(tmp_path / "gate")))
    connected.wait_for(job_id, "RUNNING")
    yield job_id
    assert connected.status(job_id)["status"] == "RUNNING", "the sensor stopped a job that is not its own"
    (tmp_path / "gate").touch()
    connected.wait_for(job_id, "SUCCESSFUL")


def test_the_result_has_the_fields_of_a_training_task(sense, connected):
    job_id = connected.submit()
    one = sense({"job_id": job_id, "status": "…"})
    assert one.run() == RESULT | {"job_id": job_id}
    assert one.xcoms["training_job_id"] == job_id


def facets(lineage):
    """The run facets of the job that OpenLineage gets."""
    assert lineage.run_facets["externalQuery"].source == "jobapi://jobapi_default"
    return lineage.run_facets["jobapi_training"]


def test_openlineage_gets_the_job_and_its_model(sense, connected):
    job_id = connected.submit()
    one = sense(job_id)
    one.run()
    lineage = one.sensor.get_openlineage_facets_on_complete(None)
    name = connected.status(job_id)["name"]
    assert [(each.namespace, each.name) for each in lineage.inputs] == [("jobapi://jobapi_default", name)]
    assert lineage.inputs[0].facets["version"].datasetVersion == job_id
    assert lineage.outputs == []
    told = facets(lineage)
    assert (told.jobId, told.jobName, told.status) == (job_id, name, "SUCCESSFUL")


def test_openlineage_gets_the_job_that_fails_the_sensor(sense, connected):
    job_id = connected.submit("raise SystemExit(3)")
    one = sense(job_id)
    with pytest.raises(AirflowFailException):
        one.run()
    lineage = one.sensor.get_openlineage_facets_on_failure(None)
    told = facets(lineage)
    assert (told.jobId, told.status, told.exitCode) == (job_id, "FAILED", 3)
    assert (lineage.inputs, lineage.outputs) == ([], [])


def test_openlineage_gets_the_job_that_the_service_does_not_have(sense):
    unknown = "00000000-0000-4000-8000-000000000000"
    one = sense(unknown)
    with pytest.raises(AirflowFailException):
        one.run()
    told = facets(one.sensor.get_openlineage_facets_on_failure(None))
    assert (told.jobId, told.status) == (unknown, "UNKNOWN")


@pytest.mark.parametrize("dag_id", ["sensor", "sensor_inline"])
def test_it_waits_and_shows_the_lines(inline, connected, dag_id, capfd, caplog):
    job_id = connected.submit("print('a line of the job')\n")
    run = inline.run(dag_id, {"job": job_id})
    assert run.states == {"wait": "success", "soft": "success"}
    assert run.xcom("wait") == RESULT | {"job_id": job_id}
    printed = "".join(capfd.readouterr()) + caplog.text
    assert printed.count("a line of the job") >= 2


@pytest.mark.parametrize("dag_id", ["sensor", "sensor_inline"])
def test_a_job_that_failed_fails_it_or_skips_it(inline, connected, dag_id):
    job_id = connected.submit("print('why'); raise SystemExit(3)")
    assert inline.run(dag_id, {"job": job_id}).states == {"wait": "failed", "soft": "skipped"}


def test_the_fetch_operator_accepts_the_result(inline, connected, tmp_path):
    model = "import os, pathlib\np = pathlib.Path(os.environ['MODEL_DIR'])\np.mkdir(exist_ok=True)\n"
    job_id = connected.submit(model + "(p / 'saved_model.pb').write_bytes(b'of another')\n")
    run = inline.run("sensor_fetch", {"job": job_id, "models": str(tmp_path)})
    assert run.state == "success"
    (version,) = tmp_path.iterdir()
    assert (version / "saved_model.pb").read_bytes() == b"of another"


def test_a_failed_job_fails_without_a_retry_and_quotes_the_log(sense, connected):
    job_id = connected.submit("print('why'); raise SystemExit(3)")
    with pytest.raises(AirflowFailException, match=r"failed: NonZeroExit, exit code 3\.(.|\n)*why"):
        sense(job_id).run()


@pytest.mark.parametrize("code", [0, 3])
def test_it_hides_what_the_task_above_hides(sense, connected, monkeypatch, caplog, code):
    """The sensor's own worker has not rendered the Variable."""
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", Fernet.generate_key().decode())
    recorder = Recorder()
    monkeypatch.setattr(TrainingTrigger, "log", recorder)
    job_id = connected.submit(f"print('token is tok-12345678', flush=True)\nraise SystemExit({code})")
    sensing = sense(job_id)
    with sensing.sensor.dag:
        EmptyOperator(task_id="train") >> sensing.sensor
    sealed = {"job_id": job_id, "sealed": seal_secrets(("tok-12345678",), "jobapi_default")}
    others = {"job_id": "another", "sealed": "x"}
    written = {(("train",), "training_seal"): [None, others, sealed]}
    sensing.context["ti"].xcom_pull = lambda task_ids, key: written[tuple(task_ids), key]
    said = ""
    try:
        sensing.run()
    except AirflowFailException as error:
        said = str(error)
    assert ("token is ***" in said) is bool(code)
    assert "token is ***" in recorder.lines()
    assert "tok-12345678" not in f"{recorder.records} {sensing.xcoms} {said}"
    reset_secrets_masker()


def test_a_job_that_was_stopped_fails_it(sense, connected):
    job_id = connected.submit(WAITS.format(gate="/never"))
    connected.wait_for(job_id, "RUNNING")
    connected.request("POST", f"/api/v2/jobs/{job_id}/stop")
    connected.wait_for(job_id, "STOPPED")
    with pytest.raises(AirflowFailException, match=r"was stopped: .*client[^.]*\.$"):
        sense(job_id).run()


@pytest.mark.parametrize(
    ("job", "sentence"),
    [
        (
            "00000000-0000-4000-8000-000000000000",
            "The service has no job .*; it was never submitted with this connection.",
        ),
        ({"status": "SUCCESSFUL"}, "job holds no job id"),
        ("{'job_id'", "job is a text that is not JSON"),
        ("../../health", "The service has no job"),
    ],
)
def test_an_invalid_job_fails_at_once(sense, job, sentence):
    one = sense(job)
    with pytest.raises(AirflowFailException, match=sentence) as caught:
        one.sensor.execute(one.context)
    assert "\n" not in str(caught.value)
    assert not one.xcoms
    soft = sense(job, soft_fail=True)
    with pytest.raises(AirflowSkipException):
        soft.sensor.execute(soft.context)


@pytest.mark.parametrize("timeout", [2, timedelta(seconds=2)])
def test_the_timeout_raises_a_sensor_timeout_and_the_job_goes_on(sense, goes_on, timeout):
    with pytest.raises(AirflowSensorTimeout, match=r"The timeout of 0:00:02 is over: Job .* is RUNNING and goes on\."):
        sense(goes_on, timeout=timeout).run()


def test_the_timeout_skips_with_soft_fail(inline, goes_on):
    assert inline.run("sensor_timeout", {"job": goes_on}).states == {"wait": "failed", "soft": "skipped"}


def test_the_default_timeout_is_that_of_airflow_sensors(connected, goes_on):
    trigger = Sense(goes_on, deferrable=True).defer()
    left = datetime.fromisoformat(trigger.deadline) - datetime.now(UTC)
    assert timedelta(days=6) < left <= timedelta(days=7)
    assert not trigger.stop_on_kill


def test_a_service_that_is_away_for_too_long_raises_a_retriable_error(jobapi, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_JOBAPI_DEFAULT", json.dumps(jobapi.connection))
    job_id = jobapi.submit(WAITS.format(gate="/never"))
    sensors = [
        Sense(job_id, deferrable=True, patience=1, **more) for more in ({"soft_fail": True}, {"never_fail": True})
    ]
    triggers = [each.defer() for each in sensors]
    jobapi.kill()
    with retry.testing():
        for one, trigger, error in zip(sensors, triggers, (ServiceUnavailable, AirflowSkipException), strict=True):
            with pytest.raises(error):
                one.sensor.resume_execution("execute_complete", {"event": follow(trigger)}, one.context)
            assert facets(one.sensor.get_openlineage_facets_on_failure(None)).jobId == job_id
    jobapi.restart()


def test_the_timeout_holds_while_the_service_is_away(jobapi, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_JOBAPI_DEFAULT", json.dumps(jobapi.connection))
    job_id = jobapi.submit(WAITS.format(gate="/never"))
    hard, soft = (Sense(job_id, deferrable=True, timeout=3, patience=600, soft_fail=soft) for soft in (False, True))
    triggers = [each.defer() for each in (hard, soft)]
    jobapi.kill()
    begun = time.monotonic()
    events = [follow(each) for each in triggers]
    said = r"^The timeout of 0:00:03 is over\. The status of job .* cannot be read: "
    with retry.testing(), pytest.raises(AirflowSensorTimeout, match=said):
        hard.sensor.resume_execution("execute_complete", {"event": events[0]}, hard.context)
    with retry.testing(), pytest.raises(AirflowSkipException):
        soft.sensor.resume_execution("execute_complete", {"event": events[1]}, soft.context)
    assert time.monotonic() - begun < 60, "the patience of ten minutes is not the timeout's"
    jobapi.restart()


def test_a_killed_worker_does_not_stop_the_job(connected, goes_on):
    one = Sense(goes_on, deferrable=True)
    trigger = one.defer()
    one.sensor.on_kill()
    trigger.task_instance = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1)
    asyncio.run(trigger.on_kill())


def test_the_mode_reschedule_is_refused():
    with pytest.raises(ValueError, match="Only 'poke' is acceptable"):
        Sense("j", mode="reschedule")


# The trigger


def test_the_deadline_does_not_stop_the_job_of_another_task(monkeypatch):
    follower = ScriptedFollower([chunk("a"), None], after_stop=[end("never")])
    soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    trigger = ScriptedTrigger(follower, deadline=soon, limit="timeout of 1", stop_on_kill=False)
    (event,) = trigger.events()
    assert (event["end"], event["detail"], follower.stops) == ("timeout", "timeout of 1", 0)
    assert trigger.recorder.lines() == ["a"]
    assert not trigger.recorder.lines("warning")


@pytest.mark.parametrize("stop_on_kill", [True, False])
def test_on_kill_stops_the_job_only_with_stop_on_kill(mocker, stop_on_kill):
    mocker.patch("airflow.sdk.execution_time.task_runner.RuntimeTaskInstance.get_task_states", return_value={"r": {}})
    trigger = ScriptedTrigger(ScriptedFollower([]), stop_on_kill=stop_on_kill)
    trigger.task_instance = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1)
    asyncio.run(trigger.on_kill())
    assert trigger.follower.stops == int(stop_on_kill)
    assert TrainingTrigger(**trigger.serialize()[1]).stop_on_kill is stop_on_kill


# On a real Airflow


@pytest.mark.parametrize("how", ["failed", "clear"])
def test_the_job_goes_on_when_a_user_ends_the_sensor(airflow, jobapi_server, goes_on, how):
    run_id = airflow.run("sensor", {"job": goes_on})
    place = ("sensor", run_id, "wait")

    def is_followed() -> bool:
        return "begun" in airflow.lines(*place)

    def trigger_has_ended(attempt: int) -> bool:
        return "trigger completed" in airflow.lines(*place, attempt)

    airflow.wait_for_state(*place, "deferred")
    wait_for("the job's line is in the sensor's log", is_followed)
    assert not trigger_has_ended(1)
    if how == "clear":
        airflow.api(
            "POST",
            "dags/sensor/clearTaskInstances",
            {"dry_run": False, "dag_run_id": run_id, "task_ids": ["wait"], "only_failed": False},
        )
        wait_for("the next try begins", lambda: airflow.task(*place)["try_number"] == 2)
        airflow.wait_for_state(*place, "deferred")
        wait_for("the job's line is in the log of the next try", is_followed)
    airflow.api("PATCH", f"dags/sensor/dagRuns/{run_id}", {"state": "failed"})
    airflow.wait_for_state(*place, "failed", "skipped")
    # What a trigger does when a user ends the task, it has done by its end; the fixture then checks the job.
    for attempt in (1, 2) if how == "clear" else (1,):
        wait_for(f"the trigger of try {attempt} has ended", lambda attempt=attempt: trigger_has_ended(attempt))
