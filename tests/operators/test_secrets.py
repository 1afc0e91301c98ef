# SPDX-License-Identifier: Apache-2.0
"""What Airflow hides in a worker's log is hidden in the job's lines, too, deferred and inline, on a real server."""

from __future__ import annotations

import json
import tracemalloc
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk._shared.secrets_masker import reset_secrets_masker
from airflow.sdk.log import mask_secret
from cryptography.fernet import Fernet

from airflow_provider_jobapi._airflow import masked_secrets
from airflow_provider_jobapi.decorators.arguments import with_call
from airflow_provider_jobapi.exceptions import JobFailed
from airflow_provider_jobapi.operators.parameters import Parameters
from airflow_provider_jobapi.operators.secrets import JobSecrets, hide_literals
from airflow_provider_jobapi.triggers.training import TrainingTrigger
from tests.harness.scripted import Recorder
from tests.harness.tries import Task, follow

OLD, NEW = "old-'\"-token\\1", "new-token-2"
SHOW = """
import json, os, pathlib, sys
print("arguments", *sys.argv[1:])
print(json.dumps(sys.argv[1:]))
for name in ("API_TOKEN", "EPOCHS"):
    print(name, os.environ.get(name))
for path in sorted(pathlib.Path(".").glob("*.txt")):
    print(path.name, repr(path.read_text()))
print("pin=%s loss=0.5" % os.environ.get("PIN"))
"""


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """An Airflow that hides nothing yet, as a task's new process."""
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", Fernet.generate_key().decode())
    monkeypatch.setattr(TrainingTrigger, "shortest", 0.0)
    reset_secrets_masker()
    yield
    reset_secrets_masker()


@pytest.fixture
def recorder(monkeypatch):
    """What triggers write."""
    recorder = Recorder()
    monkeypatch.setattr(TrainingTrigger, "log", recorder)
    return recorder


def tell(first, second):
    """Stands for a function of a DAG file."""


class Store(dict):
    """A task's state store: JSON that outlives a try."""

    def set(self, key: str, value: Any) -> None:
        self[key] = json.loads(json.dumps(value))


@pytest.fixture(params=[True, False], ids=["deferred", "inline"])
def task(request, connected, recorder):
    return lambda **parameters: Task(deferrable=request.param, script=SHOW, **parameters)


def everything(task: Task, recorder: Recorder, *more: Any) -> str:
    """All that anybody sees of a task."""
    return json.dumps([task.xcoms, recorder.records, task.store, *more], default=str)


def hidden(text: str, *secrets: str) -> bool:
    return not any(form in text for secret in secrets for form in (secret, json.dumps(secret)[1:-1]))


def test_nothing_that_airflow_hides_is_shown(task, recorder, tmp_path):
    (tmp_path / "note.txt").write_text(f"the file has {OLD}")
    mask_secret([OLD, "12345678", "another-one-of-the-worker"])
    train = task(
        env={"API_TOKEN": OLD, "EPOCHS": "3", "PIN": "12345678"},
        arguments=["--more", f"x{NEW}"],
        data_input={"a.txt": f"text {OLD}", "b.txt": f"bytes {OLD}".encode(), "c.txt": tmp_path / "note.txt"},
    )
    result = train.run()
    shown = recorder.lines()
    assert hidden(everything(train, recorder, result), OLD, "12345678")
    assert "arguments --api_token=*** --epochs=3 --pin=*** --more xnew-token-2" in shown
    assert json.dumps(["--api_token=***", "--epochs=3", "--pin=***", "--more", "xnew-token-2"]) in shown
    assert "API_TOKEN ***" in shown
    assert "EPOCHS 3" in shown
    assert {"a.txt 'text ***'", "b.txt 'bytes ***'", "c.txt 'the file has ***'"} <= {
        line.replace('"', "'") for line in shown
    }
    assert result["metrics"] == {"loss": 0.5}, "a secret is no metric"


def test_the_rows_in_the_database_show_no_secret(connected, recorder):
    mask_secret(OLD)
    train = Task(deferrable=True, script=SHOW, env={"API_TOKEN": OLD})
    kwargs = json.dumps(train.submit().serialize()[1])
    assert hidden(kwargs, OLD)
    assert connected.connection["password"] not in kwargs
    assert hidden(everything(train, recorder), OLD)


def test_a_job_without_secrets_leaves_no_seal(task, recorder):
    mask_secret("a-secret-of-the-worker-only")
    train = task(env={"EPOCHS": "3"})
    train.store = Store()
    train.run()
    assert "training_seal" not in train.xcoms
    assert "training_seal" not in train.store


def test_a_retry_hides_what_its_job_was_submitted_with(task, recorder):
    """The Variable was changed between the tries."""
    mask_secret(OLD)
    train = task(env={"API_TOKEN": OLD})
    train.store = Store()
    train.run()
    reset_secrets_masker()
    mask_secret(NEW)
    train.xcoms.clear()
    recorder.records.clear()
    train.parameters["env"] = {"API_TOKEN": NEW}
    result = train.run()
    assert "API_TOKEN ***" in recorder.lines()
    assert hidden(everything(train, recorder, result), OLD, NEW)


def test_a_worker_that_was_killed_after_the_submit_has_kept_them(connected, recorder, monkeypatch):
    mask_secret(OLD)
    train = Task(deferrable=True, script=SHOW, env={"API_TOKEN": OLD})
    train.store = Store()
    with monkeypatch.context() as patched:
        patched.setattr(Task, "_push", lambda *_, **__: 1 / 0)  # the first thing after the submit
        with pytest.raises(ZeroDivisionError):
            train.run()
    reset_secrets_masker()
    train.parameters["env"] = {"API_TOKEN": NEW}
    train.run()
    assert "API_TOKEN ***" in recorder.lines()
    assert hidden(everything(train, recorder), OLD)


def test_an_error_quotes_no_secret(connected, recorder):
    """The worker that resumes has rendered the Variable as it is then."""
    mask_secret(OLD)
    train = Task(deferrable=True, script=f"{SHOW}\nsys.exit(3)", env={"API_TOKEN": OLD})
    event = follow(train.submit())
    reset_secrets_masker()
    with pytest.raises(JobFailed) as failed:
        train.complete(event)
    assert "API_TOKEN ***" in str(failed.value)
    assert hidden(everything(train, recorder, str(failed.value)), OLD)
    assert OLD in masked_secrets(), "Airflow hides it in this worker's own lines"


def test_an_error_quotes_no_line_when_the_secrets_are_not_known(connected, recorder, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "")
    mask_secret(OLD)
    train = Task(deferrable=True, script=f"{SHOW}\nsys.exit(3)", env={"API_TOKEN": OLD})
    event = follow(train.submit())
    reset_secrets_masker()
    monkeypatch.setattr("airflow_provider_jobapi.hooks.jobapi.JobApiHook.seal_secret", lambda _: "changed")
    with pytest.raises(JobFailed, match="NonZeroExit") as failed:
        train.complete(event)
    assert "API_TOKEN" not in str(failed.value)


def test_a_connection_without_a_secret_and_without_airflows_key(connected, recorder, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "")
    monkeypatch.setattr("airflow_provider_jobapi.hooks.jobapi.JobApiHook.seal_secret", lambda _: None)
    mask_secret(OLD)
    Task(deferrable=True, script=SHOW, env={"API_TOKEN": OLD}).run()
    assert set(recorder.lines()) == {"***"}
    recorder.records.clear()
    inline = Task(deferrable=False, script=SHOW, env={"API_TOKEN": OLD})
    inline.run()
    assert "API_TOKEN ***" in recorder.lines(), "inline nothing has to be sealed"


def test_the_arguments_of_a_function_are_hidden(connected, recorder):
    """They are JSON in the source of the script."""
    mask_secret([OLD, "12345678"])
    script = with_call(
        "def tell(first, second):\n    print(first, second)\n", tell, [OLD], {"second": {"pin": ["12345678"]}}
    )
    assert OLD not in script
    Task(deferrable=True, script=script).run()
    assert "*** {'pin': ['***']}" in recorder.lines()


@pytest.mark.parametrize(
    "env",
    [
        {"API_TOKEN": "literal-1", "EPOCHS": "literal-2"},
        [{"name": "API_TOKEN", "value": "literal-1"}, {"name": "EPOCHS", "value": "literal-2"}],
        '[{"name": "api-token", "value": "literal-1"}, {"name": "EPOCHS", "value": "literal-2"}]',
    ],
)
def test_what_a_dag_writes_out_is_hidden_by_its_name(env):
    operator = Task(
        env=env, requirements="a @ https://me:literal-3@host/a.whl\n--index-url https://literal-4@host/"
    ).operator()
    operator.render_template_fields({"ti": SimpleNamespace()})
    assert masked_secrets() == {"literal-1", "literal-3", "literal-4"}


def test_what_a_dag_writes_out_in_other_places_is_hidden():
    variables = [{"name": "API_TOKEN", "value": "literal-1"}]
    operator = Task(
        arguments=[
            "--api-token=literal-2",
            "--password",
            "literal-3",
            "--epochs",
            "many-epochs",
            "--token",
            "--verbose",
        ],
        requirements="a @ https://me:p@ss-4@host/a.whl\nb @ https://host/b.whl?token=literal-5&X-Amz-Signature=literal-6",
        config={"env": variables, "requirements": ["--index-url https://me:literal-7@host/"]},
    ).operator()
    operator.render_template_fields({"ti": SimpleNamespace()})
    assert masked_secrets() == {"p@ss-4", *(f"literal-{number}" for number in (1, 2, 3, 5, 6, 7))}


def test_many_data_files_are_searched_one_at_a_time(tmp_path, monkeypatch):
    """Together they may be larger than the worker's memory."""
    data = {}
    for number in range(40):
        data[f"{number}.txt"] = tmp_path / f"{number}.txt"
        data[f"{number}.txt"].write_bytes(b"x" * 4_000_000)
    data["39.txt"].write_bytes(b"is tok-12345678")
    mask_secret(["tok-12345678", "of-the-env"])
    parameters = Parameters.of(Task(data_input=data, env={"A": "of-the-env"}).operator())
    secrets = JobSecrets({"ti": SimpleNamespace()}, "jobapi_default")
    monkeypatch.setattr("airflow_provider_jobapi.hooks.seal.seal_secrets", lambda *_: "sealed")
    tracemalloc.start()
    secrets.collect("j", parameters)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert secrets.masker.secrets == ("of-the-env",), "the search ends after 64 MiB, and begins with the env"
    assert most < 40_000_000


def test_what_a_service_offers_to_its_jobs_is_hidden(monkeypatch):
    """The environment of a station is no parameter of the operator."""
    mask_secret("of-the-station")
    secrets = JobSecrets({"ti": SimpleNamespace()}, "station")
    monkeypatch.setattr("airflow_provider_jobapi.hooks.seal.seal_secrets", lambda *_: "sealed")
    secrets.collect("j", Parameters.of(Task().operator()), ["http://fhir.example.com", "of-the-station"])
    assert (secrets.masker.secrets, secrets.sealed) == (("of-the-station",), "sealed")


def test_a_number_under_the_name_of_a_secret_is_hidden_as_a_text():
    """Airflow's masker looks at texts alone, so *Rendered Templates* would show the number."""
    listed = [{"name": "API_TOKEN", "value": 12345678}, {"name": "EPOCHS", "value": 30000}]
    operator = Task(env=listed, config={"env": {"PASSWORD": 87654321, "FLAG": True}}).operator()
    operator.render_template_fields({"ti": SimpleNamespace()})
    assert masked_secrets() == {"12345678", "87654321"}
    assert operator.env == [{"name": "API_TOKEN", "value": "12345678"}, {"name": "EPOCHS", "value": 30000}]
    assert operator.config == {"env": {"PASSWORD": "87654321", "FLAG": True}}


def test_the_name_of_a_job_shows_no_secret(task, recorder):
    mask_secret("tok-12345678")
    train = task(job_name="of-tok-12345678")
    train.run()
    assert hidden(everything(train, recorder), "tok-12345678")
    assert train.xcoms["training_facts"]["name"] == train.xcoms["trainingStatus"]["name"] == "of-***"


def test_lineage_shows_no_secret(connected):
    """The source of a function's script has its arguments."""
    mask_secret(OLD)
    script = with_call("def tell(first, second):\n    print(first, second)\n", tell, [OLD], {"second": 1})
    inputs = Task(script=script).operator()._training_inputs()
    assert inputs.script is not None
    assert "***" in inputs.script
    assert "-token" not in inputs.script


@pytest.mark.parametrize("env", [None, "", "no json", "[1]", [None], {"A_TOKEN": 5}, [{"name": "A_TOKEN"}]])
def test_what_is_no_env_is_reported_elsewhere(env):
    hide_literals(env, None)
    hide_literals(env, [None, "plain==1.0", "https://host/@x"])
    assert not masked_secrets()
