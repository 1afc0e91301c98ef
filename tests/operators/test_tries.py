# SPDX-License-Identifier: Apache-2.0
"""The tries of a task and their ends, against the real server, deferred and inline."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from datetime import datetime, timedelta

import pytest

from airflow_provider_jobapi._airflow import AirflowTaskTimeout
from airflow_provider_jobapi.exceptions import InvalidJob, JobFailed, JobNotFound, JobStopped, ServiceUnavailable
from airflow_provider_jobapi.hooks.base import TrainingHook
from airflow_provider_jobapi.operators.model import FetchSavedModelOperator
from airflow_provider_jobapi.services import retry
from airflow_provider_jobapi.services.jobapi.service import JobApiService
from tests.harness.event_writer import SOURCE
from tests.harness.server import poll
from tests.harness.tries import AirflowFailException, Task, follow


@pytest.fixture(params=[True, False], ids=["deferred", "inline"])
def task(request, connected):
    """Makes tasks, deferrable or not."""
    return lambda **parameters: Task(deferrable=request.param, **parameters)


@pytest.fixture
def deferred(connected):
    """Makes deferrable tasks."""
    return lambda **parameters: Task(deferrable=True, **parameters)


def jobs_of(server, since: int) -> int:
    """How many jobs the server knows beyond those it knew."""
    return len(server.request("GET", "/api/v2/jobs", params={"limit": 1000}).json()["jobs"]) - since


WRITES_POINTS = """
import event_writer
writer = event_writer.Writer("logs")
for step in (1, 2):
    writer.scalar("a loss", 0.5 / step, step)
"""


# How it ends


def test_success(task):
    train = task()
    assert train.run() == {
        "job_id": train.job_id,
        "status": "SUCCESSFUL",
        "model": None,
        "metrics": {},
        "data_version": None,
        "model_kind": "saved_model",
        "model_unsafe": False,
    }


def test_a_script_that_writes_event_files_alone_has_metrics(task):
    """Deferred, the curves would be written by a triggerer, which is another test's."""
    train = task(script=WRITES_POINTS, data_input={"event_writer.py": SOURCE})
    assert train.run()["metrics"] == {"a_loss": 0.25}
    if not train.operator().deferrable:
        assert train.xcoms["training_metrics"]["metrics"]["a_loss"]["values"] == [0.5, 0.25]
        assert train.xcoms["training_metrics"]["rules"] == ["tensorboard"]


def test_what_a_try_leaves_to_look_at(task, tmp_path):
    script = "print('loss=0.5')\nprint('Q: 3')\n"
    (tmp_path / "b.csv").write_bytes(b"1,2")
    data = {"rows/b.csv": tmp_path / "b.csv", "a.csv": "x"} | {f"n{number}": "" for number in range(60)}
    definitions = [{"name": "quality", "regex": "Q: (.*)"}]
    train = task(
        script=script,
        data_input=data,
        metric_definitions=definitions,
        requirements=[],
        completion_time="PT2H",
        job_resources={"memory": 512},
        job_name="shown",
        destination=None,
    )
    result = train.run()
    facts = train.xcoms["training_facts"]
    assert result["metrics"] == {"quality": 3.0}
    lines = "".join(sorted(f"{name}\0{hashlib.sha256(content).hexdigest()}\n" for name, content in contents(data)))
    assert result["data_version"] == facts["data_version"] == hashlib.sha256(lines.encode()).hexdigest()
    assert [each.get("name") for each in facts["data"][:2]] == ["a.csv", "n0"]
    assert (len(facts["data"]), facts["data"][-1]) == (51, {"more": 12})
    assert facts["data"][0] == {"name": "a.csv", "size": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    assert {name: facts[name] for name in ("name", "resources", "requirements", "completion_time", "destination")} == {
        "name": "shown",
        "resources": {"cpus": 1, "gpus": 0, "memory": 512},
        "requirements": [],
        "completion_time": 7200.0,
        "destination": None,
    }
    assert facts["job_id"] == train.job_id == train.xcoms["trainingStatus"]["job_id"]
    assert train.xcoms["trainingStatus"]["status"] == "SUCCESSFUL"
    json.dumps(train.xcoms, allow_nan=False)


def contents(data):
    return [(name, each.encode() if isinstance(each, str) else each.read_bytes()) for name, each in data.items()]


def test_a_wrong_definition_is_refused_before_anything_is_submitted(task, connected):
    before = jobs_of(connected, 0)
    with pytest.raises(AirflowFailException, match=r"metric_definitions\[0\] \(loss\) .* with no groups"):
        task(metric_definitions=[{"name": "loss", "regex": "loss"}]).run()
    assert jobs_of(connected, before) == 0


def test_a_definition_that_became_wrong_does_not_lose_the_job_that_runs(deferred):
    train = deferred(script="print('loss=0.5')\n", data_input={"a.csv": "x"})
    follow(train.submit())
    train.parameters["metric_definitions"] = "loss"
    train.parameters["job_resources"] = "{{"
    event = follow(train.submit(try_number=2))
    assert event["metrics"] == {}
    assert train.complete(event)["data_version"]


def test_an_adopted_job_has_the_data_version_of_its_submit(deferred):
    train = deferred(data_input={"a.csv": "x"})
    train.submit()
    first = dict(train.xcoms["training_facts"])
    train.parameters["data_input"] = {"a.csv": "y"}
    train.xcoms.clear()
    event = follow(train.submit(try_number=2))
    second = train.xcoms["training_facts"]
    assert (second["job_id"], second["data_version"], second["data"]) == (first["job_id"], first["data_version"], [])
    assert train.complete(event)["data_version"] == first["data_version"]


class Store(dict):
    """What Airflow 3.3 keeps for a task over its tries."""

    def set(self, key, value):
        self[key] = json.loads(json.dumps(value, allow_nan=False))


@pytest.mark.parametrize("code", [0, 3])
def test_the_curves_of_a_try_are_kept_for_the_next_whatever_its_end(connected, code):
    store = Store()
    train = Task(deferrable=False, script=f"for n in range(300): print(f'step={{n}} loss={{n % 7}}')\nexit({code})\n")
    train.store = store
    if code:
        with pytest.raises(JobFailed):
            train.run()
    else:
        train.run()
    (kept,) = store.values()
    assert list(store) == ["training_metrics_1"]
    assert (kept["try"], kept["job_id"]) == (1, train.job_id)
    assert kept["status"] == ("FAILED" if code else "SUCCESSFUL")
    assert len(kept["metrics"]["loss"]["values"]) <= 100
    assert (kept["metrics"]["loss"]["count"], kept["metrics"]["loss"]["max"]) == (300, 6)


def test_curves_of_another_job_are_not_kept_and_a_store_that_fails_fails_nothing(deferred, mocker):
    train = deferred()
    train.store = Store()
    event = follow(train.submit())
    train.xcoms["training_metrics"] = {"job_id": "another", "metrics": {}}
    assert train.complete(event)["status"] == "SUCCESSFUL"
    assert train.store == {}
    train.xcoms["training_metrics"] = {"job_id": train.job_id, "metrics": {}}
    mocker.patch.object(train.store, "set", side_effect=RuntimeError("The store is away."))
    assert train.complete(event)["status"] == "SUCCESSFUL"


def test_success_with_its_model(task, tmp_path):
    result = task(destination=str(tmp_path), version="3").run()
    assert result["model"] == f"file://{tmp_path}/3"
    assert (tmp_path / "3" / "saved_model.pb").read_bytes() == b"saved model"
    assert (tmp_path / "3" / "variables" / "variables.index").exists()


def test_a_failure_names_the_reason_the_code_and_the_last_twenty_lines(task):
    with pytest.raises(JobFailed) as caught:
        task(env={"LINES": 30, "EXIT": 3}).run()
    assert (caught.value.reason, caught.value.exit_code) == ("NonZeroExit", 3)
    first, *quoted = str(caught.value).splitlines()
    assert "(tries-train) failed: NonZeroExit, exit code 3." in first
    assert [line.strip() for line in quoted[1:]] == [f"line {number} of 100% {{}} %s" for number in range(10, 30)]


def test_a_completion_time_that_is_over_is_not_tried_again(task):
    with pytest.raises(AirflowFailException, match="failed: CompletionTimeExceeded"):
        task(completion_time="1s", env={"GATE": "/never"}).run()


def test_no_model_where_one_is_wanted_is_not_tried_again(task, tmp_path):
    with pytest.raises(AirflowFailException, match="wrote no model"):
        task(env={"MODEL": 0}, destination=str(tmp_path)).run()


def test_no_model_where_none_is_wanted_is_a_success(task):
    assert task(env={"MODEL": 0}).run()["status"] == "SUCCESSFUL"


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"timeout": 2}, "timeout of 0:00:02"),
        ({"timeout": timedelta(seconds=2), "execution_timeout": timedelta(hours=1)}, "timeout of 0:00:02"),
        ({"timeout": 3600, "execution_timeout": timedelta(seconds=2)}, "execution_timeout of 0:00:02"),
    ],
)
def test_a_limit_stops_the_job_and_is_named(task, connected, limits, words):
    train = task(env={"GATE": "/never", "LINES": 2}, **limits)
    with pytest.raises(JobStopped, match=f"The {words} is over: Job .* was stopped"):
        train.run()
    assert connected.status(train.job_id)["status"] == "STOPPED"


def test_a_limit_quotes_the_last_lines(deferred):
    train = deferred(env={"GATE": "/never", "LINES": 2}, timeout=10)
    with pytest.raises(JobStopped, match="line 1 of 100%"):
        train.run()


def test_a_job_that_waits_in_the_queue_is_under_the_limit_too(task, connected):
    enormous = {"cpus": os.cpu_count(), "memory": 256}
    first = Task(deferrable=True, env={"GATE": "/never"}, job_resources=enormous)
    first.submit()
    connected.wait_for(first.job_id, "RUNNING")
    train = task(job_resources=enormous, timeout=1)
    try:
        with pytest.raises(JobStopped, match="timeout of 0:00:01 is over"):
            train.run()
        assert connected.status(train.job_id)["status"] == "STOPPED"
        assert connected.status(train.job_id)["startTime"] is None
    finally:
        connected.request("POST", f"/api/v2/jobs/{first.job_id}/stop")


def test_stopped_by_someone_else_is_not_tried_again(task, connected):
    train = task(env={"GATE": "/never"})

    def stop() -> None:
        poll(lambda: "training_job_id" in train.xcoms, 30, "the job's id")
        connected.wait_for(train.job_id, "RUNNING")
        connected.request("POST", f"/api/v2/jobs/{train.job_id}/stop")

    other = threading.Thread(target=stop)
    other.start()
    with pytest.raises(AirflowFailException, match=r"was stopped: .*client.* Clear the task to train again"):
        train.run()
    other.join()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"job_resources": {"cpus": 1, "memory": "2 GB"}}, "job_resources.memory cannot be '2 GB'"),
        ({"data_input": {"../../x": "1"}}, "cannot be a file's name"),
        ({"requirements": "--index-url http://evil/"}, "requirements"),
        ({"python_major_version": 2}, "Python 3"),
        ({"config": {"oauthTokenUrl": "http://evil"}}, "belongs to the connection jobapi_default"),
    ],
)
def test_a_job_that_cannot_be_is_not_tried_again_and_nothing_runs(deferred, connected, wrong, sentence):
    before = jobs_of(connected, 0)
    with pytest.raises(AirflowFailException, match=sentence):
        deferred(**wrong).run()
    assert jobs_of(connected, before) == 0


# Which job a try is about


def test_a_retry_goes_on_with_a_job_that_runs(task, connected, tmp_path):
    train = task(env={"GATE": str(tmp_path / "gate")})
    lost = Task(**train.parameters | {"deferrable": True})
    lost.run_start = train.run_start
    lost.submit()
    connected.wait_for(lost.job_id, "RUNNING")
    before = jobs_of(connected, 0)
    (tmp_path / "gate").touch()
    assert train.run()["job_id"] == lost.job_id
    assert jobs_of(connected, before) == 0


def test_a_retry_does_not_go_on_with_a_job_that_is_being_stopped(deferred, connected):
    stubborn = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('begun', flush=True)\n"
    train = deferred(script=stubborn + "time.sleep(60)\n")
    train.submit()
    first = train.job_id
    connected.wait_for(first, "RUNNING")
    poll(lambda: "begun" in connected.request("GET", f"/api/v2/jobs/{first}/logs").text, 30, "the script to begin")
    connected.request("POST", f"/api/v2/jobs/{first}/stop")
    assert connected.status(first)["status"] == "RUNNING"
    train.submit()
    assert train.job_id != first
    connected.request("POST", f"/api/v2/jobs/{train.job_id}/stop")


def test_a_retry_after_a_success_only_fetches(task, connected, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("no directory")
    train = task(destination=str(blocked))
    with pytest.raises(InvalidJob, match="check destination"):
        train.run()
    first = train.job_id
    train.parameters["destination"] = str(tmp_path / "models")
    result = train.run()
    assert (result["job_id"], train.job_id) == (first, first)
    assert result["model"].startswith(f"file://{tmp_path}/models/")


def test_a_fetch_that_could_not_write_is_tried_again(task, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("no directory")
    fetch = FetchSavedModelOperator(task_id="fetch", job=task().run(), destination=str(blocked))
    with pytest.raises(InvalidJob, match="check destination"):
        fetch.execute({})
    blocked.unlink()
    assert fetch.execute({}).startswith(f"file://{blocked}/")


def test_a_retry_after_a_failure_trains_again(task, connected):
    train = task(env={"EXIT": 1})
    ids = []
    for _ in range(2):
        with pytest.raises(JobFailed):
            train.run()
        ids.append(train.job_id)
    train.parameters["env"] = {}
    assert train.run()["job_id"] not in ids
    assert len(set(ids)) == 2


def test_a_retry_after_a_timeout_trains_again(task):
    train = task(env={"GATE": "/never"}, timeout=1)
    with pytest.raises(JobStopped):
        train.run()
    first = train.job_id
    train.parameters |= {"env": {}, "timeout": 60}
    assert train.run()["job_id"] != first


def test_a_clear_trains_again(task):
    train = task()
    first = train.run()["job_id"]
    train.max_tries += 1
    assert train.run()["job_id"] != first


def test_the_time_of_a_job_begins_with_its_submit_whichever_try_looks(deferred, connected):
    train = deferred(env={"GATE": "/never"}, timeout=3600)
    first = train.submit()
    again = train.submit()
    apart = datetime.fromisoformat(first.deadline) - datetime.fromisoformat(again.deadline)
    assert abs(apart) < timedelta(seconds=1)
    connected.request("POST", f"/api/v2/jobs/{train.job_id}/stop")


def test_another_worker_of_the_same_try_submitted_first(deferred, connected, mocker, tmp_path):
    train = deferred(env={"GATE": str(tmp_path / "gate")})
    train.submit()
    first = train.job_id
    train.parameters["env"] = {"GATE": str(tmp_path / "gate"), "LINES": 5}
    real, looks = JobApiService.find, []

    def not_yet(service, job_id):
        looks.append(job_id)
        if len(looks) == 1:
            raise JobNotFound("Not yet.")
        return real(service, job_id)

    mocker.patch.object(JobApiService, "find", not_yet)
    train.submit()
    assert train.job_id == first
    (tmp_path / "gate").touch()


# A service that cannot be reached


def test_a_service_that_is_gone_for_too_long_fails_the_try_and_the_next_one_finds_the_job(
    jobapi, monkeypatch, mocker, tmp_path
):
    monkeypatch.setenv("AIRFLOW_CONN_JOBAPI_DEFAULT", json.dumps(jobapi.connection))
    train = Task(deferrable=True, env={"GATE": str(tmp_path / "gate")}, patience=4)
    trigger = train.submit()
    jobapi.wait_for(train.job_id, "RUNNING")
    jobapi.kill()
    event = follow(trigger)
    assert event["end"] == "unreachable"
    patiences = mocker.spy(TrainingHook, "service_of")
    operator = train.operator()
    with retry.testing(), pytest.raises(ServiceUnavailable, match="a retry finds it again"):
        operator.execute_complete(train.context(operator), event)
    assert [call.args[1] for call in patiences.call_args_list] == [2.0], "the trigger has waited for long enough"
    facets = operator.get_openlineage_facets_on_failure(None).run_facets
    assert (facets["jobapi_training"].jobId, facets["externalQuery"].externalQueryId) == (train.job_id,) * 2
    assert (facets["jobapi_training"].jobName, facets["jobapi_training"].status) == ("tries-train", "UNKNOWN")
    jobapi.restart()
    first = train.job_id
    said = rf"Job {first} .* is RUNNING and can no longer be followed: .* A retry goes on with it\."
    with pytest.raises(ServiceUnavailable, match=said):  # with a try left, else it stops the job
        operator.execute_complete(train.context(operator, try_number=train.max_tries), event)
    assert jobapi.status(first)["status"] == "RUNNING", "nobody has stopped it"
    (tmp_path / "gate").touch()
    assert train.run()["job_id"] == first


# A worker that is killed


@pytest.mark.parametrize(
    ("state", "deferred"), [("running", True), (None, True), ("failed", False), ("restarting", False)]
)
def test_ended_by_a_user_before_it_defers(connected, mocker, tmp_path, state, deferred):
    states = {"r": {} if state is None else {"train": state}}
    mocker.patch("airflow.sdk.execution_time.task_runner.RuntimeTaskInstance.get_task_states", return_value=states)
    train = Task(deferrable=True, env={"GATE": str(tmp_path / "gate")})
    if deferred:
        train.submit()
        (tmp_path / "gate").touch()
        connected.wait_for(train.job_id, "SUCCESSFUL")
    else:
        with pytest.raises(JobStopped, match="was ended while it submitted"):
            train.submit()
        connected.wait_for(train.job_id, "STOPPED")


def test_a_timeout_of_airflows_own_while_it_submits_leaves_nothing_running(connected, mocker):
    """Airflow's timer raises out of execute and calls on_kill while it handles that."""

    train = Task(deferrable=True, env={"GATE": "/never"})
    operator = train.operator()
    real, ids = JobApiService.submit, []

    def submit(service, job, job_id):
        real(service, job, job_id)
        ids.append(job_id)
        raise AirflowTaskTimeout

    mocker.patch.object(JobApiService, "submit", submit)
    try:
        operator.execute(train.context(operator))
    except AirflowTaskTimeout:
        operator.on_kill()
    connected.wait_for(ids[0], "STOPPED")


@pytest.mark.parametrize(("text", "warned"), [("1w", 1), ("2h 30", 1), ("1:30", 1), ("5 minuten", 1), ("2h", 0)])
def test_a_completion_time_that_limits_nothing_is_warned_of_once(deferred, capsys, text, warned):
    deferred(completion_time=text).submit()
    assert capsys.readouterr().out.count(f"completion_time '{text}' is not a duration, so it limits nothing") == warned


def test_a_version_in_config_is_warned_of(deferred, capsys):
    deferred(config={"version": "v1"}).submit()
    assert capsys.readouterr().out.count("config: version was ignored. It is the version of the API") == 1


def test_a_variable_that_the_job_needs_itself_neither_breaks_it_nor_loses_its_model(task, capsys):
    script = """import os, pathlib, sys
pathlib.Path(os.environ["MODEL_DIR"]).mkdir(exist_ok=True)
pathlib.Path(os.environ["MODEL_DIR"], "saved_model.pb").write_text("model")
print(sys.argv[1:])
"""
    env = dict.fromkeys(["PATH", "HOME", "PYTHONHOME", "MODEL_DIR"], "/nowhere")
    assert task(script=script, env=env).run()["status"] == "SUCCESSFUL"
    shown = capsys.readouterr().out
    assert shown.count("env: PATH, HOME, PYTHONHOME, MODEL_DIR reaches the script as an argument only") == 1
    assert "The SavedModel is model" in shown
