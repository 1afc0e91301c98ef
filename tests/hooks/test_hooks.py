# SPDX-License-Identifier: Apache-2.0
"""From an Airflow connection to a service, through what Airflow itself reads."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest
from airflow.sdk import Connection

from airflow_provider_jobapi.exceptions import ConnectionProblem
from airflow_provider_jobapi.get_provider_info import get_provider_info
from airflow_provider_jobapi.hooks.base import TrainingHook
from airflow_provider_jobapi.hooks.discovery import hook_class_for
from airflow_provider_jobapi.hooks.jobapi import JobApiHook
from airflow_provider_jobapi.services.jobapi.connection import JobApiConnection, TokenMethod
from airflow_provider_jobapi.services.jobapi.service import JobApiService
from airflow_provider_jobapi.training.status import JobState
from tests.harness.client import MODEL, job
from tests.harness.promised import OTHER_VERSION
from tests.harness.server import Server
from tests.harness.tiny import Reply, Tiny, reply

EXTRAS = sorted(JobApiConnection.conn_fields())


def defined(monkeypatch: pytest.MonkeyPatch, name: str, **fields: Any) -> None:
    """Let Airflow find a connection in its environment."""
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(fields))


@pytest.fixture
def hook(jobapi_server: Server, monkeypatch: pytest.MonkeyPatch) -> JobApiHook:
    defined(monkeypatch, "training", **jobapi_server.connection)
    return JobApiHook("training")


def test_the_hook_does_everything(hook: JobApiHook, jobapi_server: Server, tmp_path: Path) -> None:
    job_id = str(uuid.uuid4())
    handle = hook.submit(job(MODEL), job_id).handle
    jobapi_server.wait_for(job_id)
    assert hook.status(handle).status is JobState.SUCCESSFUL
    assert hook.logs(handle) == ("written",)
    hook.stop(handle)
    fetched = hook.fetch(handle, f"file://{tmp_path}/models", "1")
    assert fetched.location == f"file://{tmp_path}/models/1"
    assert (tmp_path / "models/1/saved_model.pb").read_bytes() == b"graph"
    assert hook.token().count(".") == 2
    assert hook.storage().protocol == "http"
    assert hook.get_conn() is hook.service


def test_the_hook_fetches_what_a_job_without_a_model_wrote(
    hook: JobApiHook, jobapi_server: Server, tmp_path: Path
) -> None:
    job_id = str(uuid.uuid4())
    handle = hook.submit(job("open('result.pkl', 'wb').write(b'12345')\n"), job_id).handle
    jobapi_server.wait_for(job_id)
    kept = hook.work(handle)
    assert kept is not None
    assert [(file.path, file.size, file.sha256) for file in kept.files] == [("result.pkl", 5, None)]
    fetched = hook.fetch_work(handle, f"file://{tmp_path}/rescued", "1")
    assert (fetched.location, fetched.kind) == (f"file://{tmp_path}/rescued/1", "pickle")
    assert (tmp_path / "rescued/1/result.pkl").read_bytes() == b"12345"


def test_the_connection_decides_the_service(jobapi_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    defined(monkeypatch, "training", **jobapi_server.connection)
    defined(monkeypatch, "elsewhere", conn_type="http", host="example.com")
    assert hook_class_for("jobapi", "training") is JobApiHook
    service = TrainingHook.service_of("training")
    assert isinstance(service, JobApiService)
    assert service.connection.base_url == jobapi_server.url
    assert isinstance(asyncio.run(TrainingHook.async_service_of("training")), JobApiService)
    with pytest.raises(
        ConnectionProblem,
        match=r"^Connection elsewhere has type 'http'; expected jobapi, modelarts, sagemaker_ack or train_container\.$",
    ):
        TrainingHook.service_of("elsewhere")


class OneConnection(TrainingHook):
    """A hook that was written before hooks could name other connections."""

    @classmethod
    def build(cls, connection: Any, patience: float | None = None) -> Any:
        return connection.host, patience


def test_a_hook_without_other_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    defined(monkeypatch, "training", conn_type="any", host="example.com")
    assert OneConnection("training").service == ("example.com", None)


def test_a_connection_as_a_uri(jobapi_server: Server) -> None:
    connection = Connection.from_uri(
        f"jobapi://me:a%2Fsecret@127.0.0.1:{jobapi_server.port}/http?token_method=get_basic&verify=false",
        conn_id="training",
    )
    settings = JobApiHook.build(connection).connection
    assert settings.base_url == jobapi_server.url
    assert (settings.client_id, settings.client_secret) == ("me", "a/secret")
    assert (settings.token_method, settings.verify) == (TokenMethod.GET_BASIC, False)


def test_a_connection_with_an_error_names_the_field(monkeypatch: pytest.MonkeyPatch) -> None:
    defined(monkeypatch, "training", conn_type="jobapi", host="https://jobs.example.com", login="me", password="word",
            extra={"verfy": True})  # fmt: skip
    with pytest.raises(ConnectionProblem, match="'verfy'"):
        _ = JobApiHook("training").service
    assert JobApiHook("training").test_connection()[0] is False


def test_the_test_button_has_one_line_for_each(hook: JobApiHook) -> None:
    ok, message = hook.test_connection()
    assert ok, message
    lines = message.split("\n")
    assert [line.split(":")[0] for line in lines] == ["Token", "API", "Storage"]
    assert all(": ok, " in line for line in lines)


def test_the_test_button_says_what_is_wrong(jobapi_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {**jobapi_server.connection, "password": "another-secret"}
    defined(monkeypatch, "training", **wrong)
    ok, message = JobApiHook("training").test_connection()
    assert not ok
    assert message.startswith("Token: not ok, ")
    assert "another-secret" not in message
    assert len(message.split("\n")) == 1

    routes = {
        "GET /api/v2/jobs": reply({"jobs": [], "next": None}),
        "GET /api/v2/storage": reply({"protocol": "http", "status": "PENDING", "message": "Soon."}),
    }
    with Tiny(routes) as tiny:
        defined(monkeypatch, "training", conn_type="jobapi", host=tiny.url, login="me", password="word")
        ok, message = JobApiHook("training").test_connection()
        assert tiny.count("storage") == 1
    assert not ok
    token, api, storage = message.split("\n")
    assert token.startswith("Token: ok")
    assert api.startswith("API: ok")
    assert (
        storage == "Storage: not ok, The service's storage is PENDING, not READY (Soon); wait and run the task again."
    )

    with Tiny({"GET /": Reply(200, {"Content-Type": "text/html"}, b"<html>")}) as tiny:
        defined(monkeypatch, "training", conn_type="jobapi", host=tiny.url, login="me", password="word")
        ok, message = JobApiHook("training").test_connection()
    assert not ok
    assert "API: not ok" in message


def test_the_provider_keeps_airflows_schema() -> None:
    schema = json.loads(files("airflow").joinpath("provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_what_the_provider_names_is_there() -> None:
    info = get_provider_info()
    for kind in ("hooks", "operators", "triggers"):
        for entry in info[kind]:
            assert entry["integration-name"] in {each["integration-name"] for each in info["integrations"]}
            for module in entry["python-modules"]:
                import_module(module)
    for entry in info["connection-types"]:
        module, _, name = entry["hook-class-name"].rpartition(".")
        found = getattr(import_module(module), name)
        if issubclass(found, TrainingHook):
            assert hook_class_for(entry["connection-type"], "any") is found
        assert (found.conn_type, found.hook_name) == (entry["connection-type"], entry["hook-name"])
        assert found.conn_name_attr == "conn_id"


@pytest.mark.skipif(airflow.__version__ < "3.2", reason=f"{OTHER_VERSION}3.1 asks the hook for its form")
def test_airflow_reads_the_form() -> None:
    """The form of 3.2 and later is read without importing the hook."""
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    assert manager.hooks["jobapi"] is not None
    widgets = {name for name in manager.connection_form_widgets if name.startswith("extra__jobapi__")}
    assert widgets == {f"extra__jobapi__{name}" for name in EXTRAS}
    assert manager.field_behaviours["jobapi"]["relabeling"]["login"] == "Client ID"


def test_the_form_of_older_airflows() -> None:
    """As Airflow 3.1 without Flask-AppBuilder reads it: the form's libraries are stood in for by Airflow itself."""
    program = """
import json
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService as Service
import sys
from unittest import mock
Service._get_hooks_with_mocked_fab()
from airflow_provider_jobapi.hooks.jobapi import JobApiHook
if isinstance(sys.modules.get("wtforms"), mock.MagicMock):
    with (
        mock.patch("wtforms.StringField", Service.MockStringField),
        mock.patch("wtforms.IntegerField", Service.MockIntegerField),
        mock.patch("wtforms.PasswordField", Service.MockPasswordField),
        mock.patch("wtforms.BooleanField", Service.MockBooleanField),
        mock.patch("wtforms.validators.Optional", Service.MockOptional),
        mock.patch("wtforms.validators.any_of", Service.MockEnum),
        mock.patch("flask_babel.lazy_gettext", str),
    ):
        widgets = JobApiHook.get_connection_form_widgets()
    print(json.dumps({name: widget.param.dump()["schema"] for name, widget in widgets.items()}))
else:
    print(json.dumps({name: {} for name in JobApiHook.get_connection_form_widgets()}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    schemas = json.loads(done.stdout.splitlines()[-1])
    assert set(schemas) == set(EXTRAS)
    if any(schemas.values()):
        assert schemas["verify"]["type"] == ["boolean", "null"]
        assert schemas["timeout"]["type"] == ["integer", "null"]
        assert schemas["proxy"]["format"] == "password"
        assert schemas["token_method"]["enum"] == list(TokenMethod)


def test_the_form_without_its_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wtforms", None)
    assert JobApiHook.get_connection_form_widgets() == {}
    assert JobApiHook.get_ui_field_behaviour()["hidden_fields"] == ["schema"]


HEAVY = ("aiohttp", "authlib", "boto3", "docker", "keystoneauth1", "kubernetes", "obstore", "requests", "tenacity")


@pytest.mark.parametrize("module", ["hooks.jobapi", "hooks.base", "get_provider_info"])
def test_nothing_heavy_is_imported(module: str) -> None:
    program = (
        "import sys, airflow.sdk; from airflow.sdk import BaseHook, Connection; before = set(sys.modules)\n"
        f"import airflow_provider_jobapi.{module}\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    added = set(done.stdout.split())
    assert not {name for name in added if name.split(".")[0] in HEAVY}
    assert len(added) <= 8, added


def test_no_secret_in_what_can_be_printed(hook: JobApiHook, jobapi_server: Server) -> None:
    service = hook.get_conn()
    printed = [repr(each) for each in (service, service.connection, service.follower({"job_id": "1"}), hook.__dict__)]
    assert not [text for text in printed if jobapi_server.secret in text]
    assert not [text for text in printed if hook.token() in text]


def test_tokens_are_masked_in_airflows_logs(hook: JobApiHook) -> None:
    from airflow.sdk._shared.secrets_masker import redact

    token = hook.token()
    assert redact(f"the token is {token}") == "the token is ***"
