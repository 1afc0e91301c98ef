# SPDX-License-Identifier: Apache-2.0
"""The DAG files of the other services on SageMaker; only the connection differs."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_jobapi.services.sagemaker_ack import names
from tests.harness.ack import RBAC, drivers
from tests.harness.ack.cloud import REGION, Cloud
from tests.harness.ack.double import Ack
from tests.harness.inline import Inline
from tests.harness.kubernetes.cluster import Kubernetes
from tests.harness.server import poll
from tests.harness.tries import STUB
from tests.services.sagemaker_ack.service import IMAGE, ROLE

LIGHT = {"script": STUB.read_text(), "requirements": "", "env": {"LINES": 5}}
TIMEOUT = 60.0


@pytest.fixture(autouse=True)
def connections(
    ack: Ack, kubernetes: Kubernetes, cloud: Cloud, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connections of all examples lead to SageMaker."""
    own = {"region": REGION, "bucket": cloud.bucket, "role_arn": ROLE, "training_image": IMAGE, "poll_interval": 0.2}
    own |= {"kubernetes_conn_id": "cluster", "aws_conn_id": "cloud"}
    everywhere = {"conn_type": "sagemaker_ack", "extra": own}
    given = {
        "CLUSTER": kubernetes.connection(kubernetes.grant(RBAC, namespace), namespace),
        "CLOUD": cloud.connection,
        **{f"{name}_DEFAULT": everywhere for name in ("JOBAPI", "MODELARTS", "SAGEMAKER")},
    }
    for name, connection in given.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(connection))


@pytest.mark.parametrize("dag_id", ["train_on_sagemaker", "train_on_modelarts"])
def test_train_and_fetch(inline: Inline, tmp_path: Path, dag_id: str) -> None:
    rows = tmp_path / "rows"
    rows.mkdir()
    (rows / "a.csv").write_text("1,2\n")
    run = inline.run(dag_id, {**LIGHT, "rows": rows.as_uri(), "models": (tmp_path / "m").as_uri()})
    assert run.states == {"files": "success", "train": "success", "fetch": "success"}
    (version,) = (tmp_path / "m").iterdir()
    assert (version / "saved_model.pb").exists()
    assert Path(run.xcom("fetch").removeprefix("file://")) == version
    assert run.xcom("train", "trainingStatus")["status"] == "SUCCESSFUL"


def test_a_failed_script_is_a_failed_task(inline: Inline, capfd: Any) -> None:
    run = inline.run("train_from_conf", {"script": "print('so it is')\nraise SystemExit(3)\n", "requirements": ""})
    assert run.states == {"train": "failed"}
    assert run.xcom("train", "trainingStatus")["status"] == "FAILED"
    said = "".join(capfd.readouterr()).partition("JobFailed")[2]
    assert "failed: NonZeroExit, exit code 3. AlgorithmError: " in said
    assert "so it is" in said.partition("The last lines of its log:")[2]


def test_what_acks_spelling_does_not_know_is_no_retry(inline: Inline, capfd: Any) -> None:
    run = inline.run("train_from_conf", {**LIGHT, "service_options": {"roleArn": ROLE}})
    assert run.states == {"train": "failed"}
    assert "no field spec.roleArn; 'roleARN' may be meant" in "".join(capfd.readouterr())


def test_somebody_deletes_the_object_while_the_task_waits(inline: Inline, ack: Ack, namespace: str, capfd: Any) -> None:
    ack.sagemaker.driver = drivers.by_hand

    def end() -> None:
        job = ack.job(timeout=TIMEOUT)
        job.move("Training")
        name = names.object_name(job.name[-36:])
        poll(lambda: (ack.object(namespace, name) or {}).get("status", {}).get("secondaryStatus") == "Training",
             TIMEOUT, "the object to say so")  # fmt: skip
        ack.kubernetes.admin.delete(ack.path(namespace, name))

    ending = threading.Thread(target=end)
    ending.start()
    run = inline.run("train_from_conf", LIGHT)
    ending.join()
    assert run.states == {"train": "failed"}
    said = "".join(capfd.readouterr())
    # Whether the object still says that the job has stopped, when it goes, is a matter of the controller.
    assert "was deleted from the namespace" in said or ") was stopped" in said
