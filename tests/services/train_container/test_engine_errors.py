# SPDX-License-Identifier: Apache-2.0
"""What engines and registries say, as one sentence each; the texts are those that Docker 20.10 and Podman 4.3 sent."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.exceptions import (
    BrokenContract,
    ConnectionProblem,
    InvalidJob,
    ServiceUnavailable,
    TrainingError,
)
from airflow_provider_jobapi.services.train_container.errors import (
    Conflict,
    FileMissing,
    ImageMissing,
    Missing,
    NoSuchCommand,
    ReadOnly,
    error_of_engine,
    error_of_registry,
)

URL = "unix:///run/docker.sock"


class Answered(Exception):
    """As ``docker.errors.APIError``."""

    def __init__(self, status: int, explanation: str) -> None:
        super().__init__(explanation)
        self.response = SimpleNamespace(status_code=status)
        self.explanation = explanation


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (404, "No such image: nope:latest", ImageMissing),
        (404, "no such image: localhost/container:1: image not known", ImageMissing),
        (404, "No such container: none", Missing),
        (500, "container ba35 does not exist in database: no such container", Missing),
        (404, "get v2: no such volume", Missing),
        (404, "network nowhere not found", InvalidJob),
        (500, "container create: unable to find network with name or ID nowhere: network not found", InvalidJob),
        (409, "removal of container 30c0e27e36f4 is already in progress", Missing),
        (404, "Could not find the file /nope in container r2", FileMissing),
        (404, "no such file or directory", FileMissing),
        (409, 'Conflict. The container name "/ro" is already in use by container "05aa".', Conflict),
        (
            500,
            'container create: creating container storage: the container name "ro" is already in use by f6d',
            Conflict,
        ),
        (500, "cannot remove container 6f17 as it is running: container state improper", Conflict),
        (500, "container rootfs is marked read-only", ReadOnly),
        (400, "Minimum memory limit allowed is 6MB", InvalidJob),
        (400, "Client sent an HTTP request to an HTTPS server.", ConnectionProblem),
        (403, "authorization denied by plugin", ConnectionProblem),
        (503, "shutting down", ServiceUnavailable),
        (500, "something else", BrokenContract),
    ],
)
def test_what_an_engine_says(status: int, said: str, kind: type[TrainingError]) -> None:
    error = error_of_engine(Answered(status, said), "start the container", URL)
    assert type(error) is kind, error


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ('runc create failed: exec: "run_algorithm": executable file not found in $PATH: unknown', 127),
        ('exec: "run_algorithm": executable file not found in $PATH: OCI runtime attempted to invoke a command', 127),
        ('exec: "/etc": permission denied: OCI permission denied', 126),
        ('exec: "/train": exec format error', 126),
        ("No command specified", 127),
        ("container create: no command or entrypoint provided, and no CMD or ENTRYPOINT from image", 127),
    ],
)
def test_no_such_command(said: str, code: int) -> None:
    error = error_of_engine(Answered(500, said), "start the container", URL)
    assert isinstance(error, NoSuchCommand)
    assert error.exit_code == code


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("manifest for a/b:1 not found: manifest unknown: manifest unknown", ImageMissing),
        (
            "pull access denied for bmi, repository does not exist or may require 'docker login': denied",
            ConnectionProblem,
        ),
        ("unauthorized: authentication required", ConnectionProblem),
        ("no basic auth credentials", ConnectionProblem),
        ("http: server gave HTTP response to HTTPS client", ConnectionProblem),
        ("x509: certificate signed by unknown authority", ConnectionProblem),
        ("dial tcp 127.0.0.1:9: connect: connection refused", ServiceUnavailable),
        ("unexpected EOF", ServiceUnavailable),
        ("writing blob: Patch http://a/v2/b/blobs/uploads/1: write tcp a->b: write: broken pipe", ServiceUnavailable),
        (
            "writing blob: Patch http://a/v2/b/uploads/1: write tcp a->b: use of closed network connection",
            ServiceUnavailable,
        ),
        ("Head https://a/v2/b: http2: server sent GOAWAY and closed the connection", ServiceUnavailable),
        ("Get https://a/v2/: context deadline exceeded", ServiceUnavailable),
        ("Get https://a/v2/: dial tcp 10.0.0.1:443: connect: no route to host", ServiceUnavailable),
        ("Get https://a/v2/: dial tcp: lookup a on 10.0.0.2:53: server misbehaving", ServiceUnavailable),
        ("http: server closed idle connection", ServiceUnavailable),
        ("geofence of the blob", BrokenContract),
        ("writing blob: initiating layer upload to /v2/a/blobs/uploads/ in b: StatusCode: 403,", ConnectionProblem),
        ("error parsing HTTP 403 response body: unexpected end of JSON input", ConnectionProblem),
        ("error parsing HTTP 413 response body: invalid character '<'", ConnectionProblem),
        ("received unexpected HTTP status: 500 Internal Server Error", ServiceUnavailable),
        ("received unexpected HTTP status: 503 Service Unavailable", ServiceUnavailable),
        ("blob upload invalid", BrokenContract),
    ],
)
def test_what_a_registry_says(said: str, kind: type[TrainingError]) -> None:
    assert type(error_of_registry(said, "pulled", "registry.example.com/a/b:1")) is kind


def test_the_registry_that_does_not_answer_is_named() -> None:
    for image, registry in (
        ("bmi", "docker.io"),
        ("trains/bmi:1", "docker.io"),
        ("r.example.com:5/b", "r.example.com:5"),
    ):
        error = error_of_registry("dial tcp: no such host", "pulled", image)
        assert str(error).startswith(f"The registry {registry} cannot be reached, so {image} is not pulled")


@given(st.integers(400, 599), st.text(max_size=2_000))
def test_whatever_it_says_is_one_line_and_no_longer_than_can_be_read(status: int, said: str) -> None:
    for error in (
        error_of_engine(Answered(status, said), "start the container", URL),
        error_of_registry(said, "pulled", "a/b:1"),
    ):
        assert isinstance(error, TrainingError)
        assert "\n" not in str(error)
        assert len(str(error)) < 700


def test_an_engine_that_has_not_answered() -> None:
    refused = ConnectionRefusedError(111, "Connection refused")
    wrapped = RuntimeError("Error while fetching server API version")
    wrapped.__cause__ = RuntimeError("Connection aborted.", refused)
    error = error_of_engine(wrapped, "start the container", URL)
    assert str(error) == (
        "The container engine at unix:///run/docker.sock does not answer, so it could not start the container "
        "(Connection refused). Is it running, and is that its address?"
    )
    inner = RuntimeError("Error while fetching server API version")
    inner.__cause__ = Answered(400, "Client sent an HTTP request to an HTTPS server.")
    assert "asks for TLS" in str(error_of_engine(inner, "start the container", URL))


def test_an_error_that_is_its_own_cause_ends() -> None:
    error = RuntimeError("round")
    error.__context__ = other = RuntimeError("and round")
    other.__context__ = error
    assert isinstance(error_of_engine(error, "start the container", URL), ServiceUnavailable)
