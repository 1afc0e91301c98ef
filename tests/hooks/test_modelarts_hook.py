# SPDX-License-Identifier: Apache-2.0
"""From a connection of the type modelarts to its service, against the double."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import ConnectionProblem, JobGone
from airflow_provider_jobapi.hooks.base import TrainingHook
from airflow_provider_jobapi.hooks.discovery import hook_class_for
from airflow_provider_jobapi.hooks.modelarts import ModelArtsHook
from airflow_provider_jobapi.services.modelarts import api_session
from airflow_provider_jobapi.services.modelarts.api_session import ApiSession
from airflow_provider_jobapi.services.modelarts.service import ModelArtsService
from airflow_provider_jobapi.training.status import JobState
from tests.harness.client import MODEL
from tests.harness.modelarts.double import ModelArts
from tests.harness.modelarts.fixtures import modelarts, modelarts_shared
from tests.harness.modelarts.service import ended, job
from tests.harness.s3 import s3

__all__ = ["modelarts", "modelarts_shared", "s3"]


def defined(monkeypatch: pytest.MonkeyPatch, connection: dict[str, Any], **extra: Any) -> ModelArtsHook:
    """A hook whose connection Airflow finds in its environment."""
    told = connection | {"extra": connection["extra"] | extra}
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING", json.dumps(told))
    return ModelArtsHook("training")


def test_the_hook_does_everything(modelarts: ModelArts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hook = defined(monkeypatch, modelarts.connection)
    handle = hook.submit(job(MODEL), str(uuid.uuid4())).handle
    ended(hook.get_conn(), handle)
    assert hook.status(handle).status is JobState.SUCCESSFUL
    assert "written" in hook.logs(handle)
    hook.stop(handle)
    fetched = hook.fetch(handle, f"file://{tmp_path}/models", "1")
    assert fetched.location == f"file://{tmp_path}/models/1"
    assert (tmp_path / "models/1/saved_model.pb").read_bytes() == b"graph"
    hook.delete(handle)
    with pytest.raises(JobGone, match="it was deleted"):
        hook.status(handle)


def test_the_connection_decides_the_service(modelarts: ModelArts, monkeypatch: pytest.MonkeyPatch) -> None:
    defined(monkeypatch, modelarts.connection)
    assert hook_class_for("modelarts", "training") is ModelArtsHook
    assert isinstance(TrainingHook.service_of("training"), ModelArtsService)
    assert isinstance(asyncio.run(TrainingHook.async_service_of("training")), ModelArtsService)


def test_a_connection_with_an_error_names_the_field(modelarts: ModelArts, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = defined(monkeypatch, modelarts.connection, dialect="v3")
    with pytest.raises(ConnectionProblem, match="dialect"):
        _ = hook.service
    assert hook.test_connection()[0] is False


@pytest.mark.parametrize("dialect", ["v1", "v2"])
def test_the_test_button_has_one_line_for_each(
    modelarts: ModelArts, monkeypatch: pytest.MonkeyPatch, dialect: str
) -> None:
    ok, message = defined(monkeypatch, modelarts.connection_for(dialect)).test_connection()
    assert ok, message
    assert [line.split(":")[0] for line in message.split("\n")] == ["Token", "API", "Storage"]


@pytest.mark.parametrize(
    ("extra", "subject", "said"),
    [
        ({"project": "another"}, "Token", "another"),
        ({"domain": "another"}, "Token", "another"),
        ({"bucket": "no-such-bucket"}, "Storage", "no-such-bucket"),
        ({"obs_secret_key": "another-secret"}, "Storage", "obs_secret_key"),
    ],
)
def test_the_test_button_says_what_is_wrong(
    modelarts: ModelArts, monkeypatch: pytest.MonkeyPatch, extra: dict[str, str], subject: str, said: str
) -> None:
    ok, message = defined(monkeypatch, modelarts.connection, **extra).test_connection()
    assert not ok
    (line,) = [line for line in message.split("\n") if "not ok" in line]
    assert line.startswith(f"{subject}: not ok")
    assert said in line
    assert "another-secret" not in message


def test_without_keystoneauth1(modelarts: ModelArts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_session, "_sessions", {})
    for name in [name for name in sys.modules if name.partition(".")[0] == "keystoneauth1"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "keystoneauth1", None)
    hook = defined(monkeypatch, modelarts.connection)
    with pytest.raises(ConnectionProblem, match=r"install airflow-provider-jobapi\[modelarts\]"):
        hook.get_conn().find(str(uuid.uuid4()))


def test_no_secret_in_what_can_be_printed(modelarts: ModelArts, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk._shared.secrets_masker import redact

    hook = defined(monkeypatch, modelarts.connection)
    service = hook.get_conn()
    printed = " ".join(map(repr, (service, service.connection, hook.__dict__)))
    assert modelarts.secret_key not in printed
    assert modelarts.account["password"] not in printed
    assert redact(f"the key is {modelarts.secret_key}") == "the key is ***"


def test_a_token_is_hidden_by_its_end(modelarts: ModelArts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow's masker keeps every secret for good, in one pattern that is made anew for each."""
    told: list[str] = []
    modelarts_service = ApiSession(defined(monkeypatch, modelarts.connection).get_conn().connection, told.append)
    modelarts_service.project_id()
    keystone, password = modelarts_service._open()
    token = password.get_access(keystone).auth_token
    assert len(token) > 5000
    assert told == [token[-256:]]


def test_nothing_heavy_is_imported() -> None:
    program = (
        "import sys, airflow.sdk; from airflow.sdk import BaseHook, Connection; before = set(sys.modules)\n"
        "import airflow_provider_jobapi.hooks.modelarts\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {name.split(".")[0] for name in done.stdout.split()} & {"keystoneauth1", "obstore", "requests"}
