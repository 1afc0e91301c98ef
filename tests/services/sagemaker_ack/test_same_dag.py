# SPDX-License-Identifier: Apache-2.0
"""The DAG files of all services on a jobAPI and on SageMaker; only the connection differs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.harness.ack import RBAC, drivers
from tests.harness.ack.cloud import Cloud, connection
from tests.harness.ack.double import Ack
from tests.harness.inline import Inline
from tests.harness.kubernetes.cluster import Kubernetes
from tests.harness.server import poll
from tests.harness.tries import STUB

LIGHT = {"script": STUB.read_text(), "requirements": "", "env": {"LINES": 5}}
WAITS = {"script": "import time\nprint('begun', 'here', flush=True)\ntime.sleep(600)\n", "requirements": ""}

EXAMPLES = ("jobapi", "modelarts", "sagemaker")

Connect = Callable[[], None]


@pytest.fixture
def on_sagemaker(
    ack: Ack, kubernetes: Kubernetes, cloud: Cloud, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> Connect:
    """Makes SageMaker what the connections of all examples lead to."""
    named = {"kubernetes_conn_id": "training_cluster", "aws_conn_id": "training_aws", "poll_interval": 0.5}
    connections = {
        "training_cluster": kubernetes.connection(kubernetes.grant(RBAC, namespace), namespace),
        "training_aws": cloud.connection,
        **dict.fromkeys([f"{name}_default" for name in EXAMPLES], connection(cloud, **named)),
    }

    def connect() -> None:
        for name, fields in connections.items():
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(fields))

    return connect


@pytest.fixture(params=["jobapi", "sagemaker"])
def served(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The connections of all examples lead to one service."""
    if request.param == "sagemaker":
        request.getfixturevalue("on_sagemaker")()
        return "sagemaker"
    fields = json.dumps(request.getfixturevalue("jobapi_server").connection)
    for name in EXAMPLES:
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}_DEFAULT", fields)
    return "jobapi"


def printed(capfd: pytest.CaptureFixture[str]) -> str:
    return "".join(capfd.readouterr())


@pytest.mark.parametrize("dag_id", ["train_on_sagemaker", "train_on_modelarts"])
def test_train_and_fetch(
    inline: Inline, served: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], dag_id: str
) -> None:
    rows = tmp_path / "rows"
    rows.mkdir()
    (rows / "a.csv").write_text("1,2\n")
    run = inline.run(dag_id, {**LIGHT, "rows": rows.as_uri(), "models": (tmp_path / "m").as_uri()})
    shown = printed(capfd)
    assert run.states == {"files": "success", "train": "success", "fetch": "success"}, shown
    (version,) = (tmp_path / "m").iterdir()
    assert (version / "saved_model.pb").read_bytes() == b"saved model"
    assert Path(run.xcom("fetch").removeprefix("file://")) == version
    assert run.xcom("train", "trainingStatus")["status"] == "SUCCESSFUL"
    for number in range(5):
        assert shown.count(f"line {number} of 100% {{}} %s") == 1, shown
    if served == "sagemaker":
        assert shown.count("SageMaker: Completed.") == 1


def test_a_script_that_lacks_a_package_says_which(
    inline: Inline, served: str, capfd: pytest.CaptureFixture[str]
) -> None:
    script = "raise ModuleNotFoundError(\"No module named 'sklearn'\")\n"
    run = inline.run("train_from_conf", {"script": script, "requirements": ""})
    assert run.states == {"train": "failed"}
    said = printed(capfd).partition("JobFailed")[2].replace("\\n", "\n")
    assert "no module sklearn: add its package, scikit-learn, to requirements.\n" in said


def test_a_failed_script_is_a_failed_task(inline: Inline, served: str, capfd: pytest.CaptureFixture[str]) -> None:
    run = inline.run("train_from_conf", {"script": "print('so it is')\nraise SystemExit(3)\n", "requirements": ""})
    assert run.states == {"train": "failed"}
    assert run.xcom("train", "trainingStatus")["status"] == "FAILED"
    said = printed(capfd).partition("JobFailed")[2]
    assert "failed: NonZeroExit, exit code 3." in said
    assert "so it is" in said.partition("The last lines of its log:")[2]


def test_what_acks_spelling_does_not_know_is_no_retry(
    inline: Inline, on_sagemaker: Connect, capfd: pytest.CaptureFixture[str]
) -> None:
    on_sagemaker()
    run = inline.run("train_from_conf", {**LIGHT, "service_options": {"roleArn": "arn:aws:iam::123456789012:role/r"}})
    assert run.states == {"train": "failed"}
    assert "no field spec.roleArn; 'roleARN' may be meant" in printed(capfd)


def test_a_job_that_spot_interruptions_start_again(
    inline: Inline, ack: Ack, on_sagemaker: Connect, namespace: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    on_sagemaker()
    gate = tmp_path / "gate"
    script = (
        "import os, time\nprint('begun', 'here', flush=True)\n"
        f"while not os.path.exists({str(gate)!r}): time.sleep(0.05)\nprint('trained', 'here', flush=True)\n"
    )

    def interrupt() -> None:
        job = ack.job(timeout=120)
        poll(lambda: "begun here" in job.lines(), 60, "the script to begin")
        job.interrupt()
        poll(lambda: ack.objects(namespace)[0]["status"]["secondaryStatus"] == "Interrupted", 60, "ACK to see it")
        job.restart()
        poll(lambda: job.lines().count("begun here") == 2, 60, "the script to begin again")
        gate.touch()

    run = while_running(interrupt, lambda: inline.run("train_from_conf", {"script": script, "requirements": ""}))
    shown = printed(capfd)
    assert run.states == {"train": "success"}, shown
    assert shown.count("begun here") == 2
    assert shown.count("SageMaker: Interrupted") == 1
    assert shown.count("trained here") == 1


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("object", "was stopped: its TrainingJob was deleted. Clear the task to train again."),
        ("aws", "was stopped: in AWS, which does not report by whom. Clear the task to train again."),
        ("forced", "was deleted from the namespace"),
    ],
)
def test_a_job_is_stopped_or_deleted_while_the_task_waits(
    inline: Inline,
    ack: Ack,
    on_sagemaker: Connect,
    namespace: str,
    capfd: pytest.CaptureFixture[str],
    how: str,
    said: str,
) -> None:
    on_sagemaker()

    def end() -> None:
        job = ack.job(timeout=120)
        poll(lambda: "begun here" in job.lines(), 60, "the script to begin")
        if how == "aws":
            ack.sagemaker.stop(job.region, job.name)
            return
        (found,) = ack.objects(namespace)
        path = ack.path(namespace, found["metadata"]["name"])
        if how == "forced":
            ack.stop()
        ack.kubernetes.admin.delete(path)
        if how == "forced":
            ack.kubernetes.admin.patch(path, {"metadata": {"finalizers": None}})

    run = while_running(end, lambda: inline.run("train_from_conf", WAITS))
    assert run.states == {"train": "failed"}
    assert said in printed(capfd)


def test_a_job_whose_time_is_over_is_stopped_once(
    inline: Inline, ack: Ack, on_sagemaker: Connect, namespace: str
) -> None:
    on_sagemaker()
    run = inline.run("stub_timeout", {"env": {"GATE": "/never"}})
    assert set(run.states.values()) == {"failed"}
    poll(lambda: not ack.objects(namespace), 60, "the objects to go")
    assert all(job.status == "Stopped" for job in ack.sagemaker.jobs.values())
    stops = [name for call, name in ack.sagemaker.calls if call == "stop"]
    assert len(stops) == len(set(stops)) <= 2, "a job that was never created needs no stop"


def test_a_job_that_is_never_accepted_fails_with_acks_words(
    inline: Inline, ack: Ack, on_sagemaker: Connect, capfd: pytest.CaptureFixture[str]
) -> None:
    on_sagemaker()
    ack.sagemaker.driver = drivers.by_hand
    ack.refuse("create", "ResourceInUse", "a training job with this name already exists")
    run = inline.run("train_from_conf", WAITS)
    assert run.states == {"train": "failed"}
    said = printed(capfd)
    assert "SageMaker's controller has refused the job" in said
    assert "a training job with this name already exists" in said


def while_running(work: Callable[[], None], run: Callable[[], Any]) -> Any:
    """Do something while a DAG runs; returns the run."""
    failures = list[BaseException]()

    def guarded() -> None:
        try:
            work()
        except BaseException as failure:  # noqa: BLE001 -- raised below
            failures.append(failure)

    thread = threading.Thread(target=guarded)
    thread.start()
    done = run()
    thread.join(60)
    assert not failures, failures
    return done
