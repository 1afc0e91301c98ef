# SPDX-License-Identifier: Apache-2.0
"""The client of MLflow: what it sends, and one sentence for each answer that is no success."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import (
    BrokenContract,
    ConnectionProblem,
    InvalidJob,
    QuotaReached,
    ServiceUnavailable,
)
from airflow_provider_jobapi.services import retry
from airflow_provider_jobapi.services.files.fetched import as_fetched, local_root, measure_below
from airflow_provider_jobapi.services.mlflow.client import MlflowClient, Refused
from airflow_provider_jobapi.services.mlflow.connection import MlflowConnection
from airflow_provider_jobapi.services.mlflow.registry import Registration, Registry, check_names, metric_values
from tests.harness.tiny import Reply, Tiny, reply

JOB = "11111111-2222-5333-8444-555555555555"
WANTED = Registration("digits", JOB, "digits")


def client(address: str, **fields: Any) -> MlflowClient:
    return MlflowClient(MlflowConnection.of(host=address, **fields))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"login": "me", "password": "word"}, "Basic bWU6d29yZA=="),
        ({"password": "token"}, "Bearer token"),
    ],
)
def test_the_connection_names_its_user(fields: dict[str, str], expected: str | None) -> None:
    with Tiny({"GET /api/2.0/mlflow/registered-models/search": reply({})}) as tiny:
        asking = client(f"{tiny.url}", **fields)
        asking.get("registered-models/search", "the registered models")
        assert tiny.asked[-1].headers.get("Authorization") == expected
    assert "word" not in repr(asking) + repr(asking.connection)


def test_a_server_below_a_prefix() -> None:
    with Tiny({"GET /ml/version": Reply(200, {}, b"3.0.0\n")}) as tiny:
        assert client(f"{tiny.url}/ml/").version() == "3.0.0"


def refusal(code: str, message: str, status: int = 400) -> Reply:
    return Reply(
        status, {"Content-Type": "application/json"}, json.dumps({"error_code": code, "message": message}).encode()
    )


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (refusal("INVALID_PARAMETER_VALUE", "No such name"), Refused, "MLflow refuses the model: No such name."),
        (refusal("PERMISSION_DENIED", "No", 403), ConnectionProblem, "access to the model (403); check the user's"),
        (Reply(401, {}, b"Not you: word"), ConnectionProblem, "login and password. Not you: ***."),
        (Reply(403, {}, b"Invalid Host header"), ConnectionProblem, "Invalid Host header."),
        (Reply(302, {"Location": "/login"}, b""), ConnectionProblem, "does not answer as MLflow does (302)"),
        (Reply(404, {}, b"<html>"), ConnectionProblem, "does not answer as MLflow does (404)"),
        (Reply(413, {}, b"<html>"), QuotaReached, "it is too large (413)"),
        (refusal("TEMPORARILY_UNAVAILABLE", "Locked", 503), ServiceUnavailable, "cannot serve now (503). Locked."),
        (Reply(429, {"Retry-After": "7"}, b""), ServiceUnavailable, "(429)"),
        (Reply(418, {}, b""), BrokenContract, "Unexpected HTTP 418"),
        (Reply(200, {}, b"<html>"), BrokenContract, "does not answer as MLflow does for the model"),
        (Reply(200, {}, b"[]"), BrokenContract, "does not answer as MLflow does for the model"),
    ],
)  # fmt: skip
def test_an_answer_that_is_no_success_is_one_sentence(answer: Reply, kind: type[Exception], words: str) -> None:
    with Tiny({"POST /api/2.0/mlflow/registered-models/create": answer}) as tiny, pytest.raises(kind) as caught:
        client(tiny.url, password="word").post("registered-models/create", "the model", {})
    assert type(caught.value) is kind
    assert words in str(caught.value)
    assert "word" not in str(caught.value).replace("password", "")
    if isinstance(caught.value, ServiceUnavailable) and "429" in words:
        assert caught.value.retry_after == 7


def test_a_server_that_is_down_is_asked_again() -> None:
    with Tiny() as tiny:
        address = tiny.url
    with retry.testing(attempts=2), pytest.raises(ServiceUnavailable, match="cannot be reached"):
        Registry(client(address), None).find(WANTED)


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        ("name", Registration("a/b", JOB, "x")),
        ("name", Registration("a:b", JOB, "x")),
        ("name", Registration("it's", JOB, "x")),
        ("name", Registration(" ", JOB, "x")),
        ("job", Registration("digits", "1' or '1", "x")),
        ("alias", Registration("digits", JOB, "x", alias="latest")),
        ("alias", Registration("digits", JOB, "x", alias="v1")),
        ("alias", Registration("digits", JOB, "x", alias="a b")),
    ],
)
def test_names_that_mlflow_refuses_are_refused_before(field: str, wanted: Registration) -> None:
    with pytest.raises(InvalidJob, match=f"^{field} cannot be ") as caught:
        check_names(wanted)
    assert caught.value.field == field


def test_names_that_mlflow_takes() -> None:
    check_names(Registration("digits of a day.v1", JOB, "x", alias="champion-1"))


def test_metrics_get_names_that_mlflow_takes() -> None:
    metrics = {"loss": 0.5, "val(loss)%": "NaN", "val[loss]?": "-Infinity", "a//b": 1, "/": 2, "..": 3, "word": "x"}
    assert list(metric_values(metrics)) == [
        ("loss", 0.5),
        ("val_loss__", "NaN"),
        ("val_loss__ 2".replace(" ", "_"), "-Infinity"),
        ("a/b", 1.0),
        ("metric", 2.0),
        ("metric_2", 3.0),
    ]


def test_two_tries_at_once_keep_the_first_version() -> None:
    """The version of the other try appears between this one's search and its creation."""
    versions = [{"name": "digits", "version": "4", "tags": [{"key": "jobapi.job_id", "value": JOB}]}]
    searches: list[int] = []

    def search(_: Any) -> Reply:
        searches.append(1)
        return reply({"model_versions": versions} if len(searches) > 1 else {})

    made = {"model_version": versions[0] | {"version": "5"}}
    routes = {
        "GET /api/2.0/mlflow/experiments/get-by-name": reply({"experiment": {"experiment_id": "1"}}),
        "POST /api/2.0/mlflow/runs/search": reply({}),
        "POST /api/2.0/mlflow/runs/create": reply(
            {"run": {"info": {"run_id": "r", "start_time": 1, "artifact_uri": "s3://x"}}}
        ),
        "POST /api/2.0/mlflow/runs/update": reply({}),
        "GET /api/2.0/mlflow/model-versions/search": search,
        "POST /api/2.0/mlflow/registered-models/create": refusal("RESOURCE_ALREADY_EXISTS", "There."),
        "POST /api/2.0/mlflow/model-versions/create": reply(made),
        "DELETE /api/2.0/mlflow/model-versions/delete": reply({}),
    }
    with Tiny(routes) as tiny:
        version = Registry(client(tiny.url), None).register(WANTED, "s3://models/digits/7", dict)
        (deleted,) = (each for each in tiny.asked if each.method == "DELETE")
    assert version.uri == "models:/digits/4"
    assert json.loads(deleted.body) == {"name": "digits", "version": "5"}


def test_a_fetched_model_is_read_and_not_loaded(tmp_path: Path) -> None:
    place = tmp_path / "a b#1"
    (place / "deep").mkdir(parents=True)
    (place / "model.pkl").write_bytes(b"cos\nsystem\n(S'touch /tmp/never'\ntR.")
    (place / "deep" / "words.txt").write_text("a")
    root = local_root(place.as_uri())
    assert root == place == local_root(str(place))
    model = as_fetched(place.as_uri(), measure_below(root))
    assert ([file.path for file in model.files], model.kind) == (["deep/words.txt", "model.pkl"], "pickle")
    assert model.unsafe_to_load
    assert local_root("s3://bucket/x") is None
    with pytest.raises(InvalidJob, match="No file is in "):
        measure_below(tmp_path / "nothing")
