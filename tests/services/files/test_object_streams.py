# SPDX-License-Identifier: Apache-2.0
"""Uploads and fetches of many small files by few requests, against the real server."""

from __future__ import annotations

import logging
import uuid
from pathlib import Path

import pytest
from urllib3.response import HTTPResponse

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.base import ModelFile
from airflow_provider_jobapi.services.files.destinations import destination_of
from airflow_provider_jobapi.services.files.models import fetch
from airflow_provider_jobapi.services.files.sources import Source, measure_all
from airflow_provider_jobapi.services.files.transfers import upload
from airflow_provider_jobapi.services.jobapi.client import Client
from airflow_provider_jobapi.services.jobapi.http_streams import StreamingHttpStore
from airflow_provider_jobapi.services.jobapi.tokens import tokens_of
from airflow_provider_jobapi.services.retry import Retry
from tests.harness.client import connection
from tests.harness.proxy import BrokenUpload, Canned, FaultProxy
from tests.harness.server import Server

pytestmark = pytest.mark.usefixtures("no_waits")

LOG = logging.getLogger(__name__)
UPLOAD, DOWNLOAD = "/api/v2/storage/upload", "/api/v2/storage/download"


@pytest.fixture
def network(jobapi_server: Server):
    with FaultProxy(jobapi_server.port) as way:
        yield way


@pytest.fixture
def store(jobapi_server: Server, network: FaultProxy) -> StreamingHttpStore:
    settings = connection(jobapi_server, network.url)
    return StreamingHttpStore(Client(settings, tokens_of(settings), lambda _: None))


def measured(count: int) -> dict[str, Source]:
    return measure_all({f"d{n % 3}/{n:05}": f"content {n}" * (n % 50) for n in range(count)})


def fetched(store: StreamingHttpStore, sources: dict[str, Source], directory: str, place: Path) -> None:
    keys = {ModelFile(path, each.size, each.sha256): f"{directory}/{path}" for path, each in sources.items()}
    fetch("job", keys, destination_of(str(place), "1"), lambda: store, Retry(), LOG, None)
    there = {path.relative_to(place / "1").as_posix(): path.stat().st_size for path in place.rglob("*/*/*")}
    assert there == {path: each.size for path, each in sources.items()}


def test_many_files_need_few_requests(store: StreamingHttpStore, network: FaultProxy, tmp_path: Path):
    sources, directory = measured(600), f"tests/{uuid.uuid4()}"
    network.next(BrokenUpload(1_000), when="POST")  # the first is repeated
    upload(store, directory, sources, Retry(), LOG, "Uploading")
    fetched(store, sources, directory, tmp_path / "model")
    assert (network.count(UPLOAD), network.count(DOWNLOAD)) == (9, 3)
    assert network.count("/api/v2/storage/objects/") == 0
    upload(store, directory, sources, Retry(), LOG, "Uploading")  # they are there
    assert network.count(UPLOAD) == 9


def test_a_line_is_not_read_byte_by_byte(store: StreamingHttpStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sources, directory = measured(200), f"tests/{uuid.uuid4()}"
    upload(store, directory, sources, Retry(), LOG, "Uploading")
    read, reads = HTTPResponse.read, []
    monkeypatch.setattr(
        HTTPResponse, "read", lambda self, *args, **kwargs: reads.append(1) or read(self, *args, **kwargs)
    )
    fetched(store, sources, directory, tmp_path / "model")
    assert 0 < len(reads) < len(sources)


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_server_without_the_routes_gets_a_request_for_each(
    store: StreamingHttpStore, network: FaultProxy, tmp_path: Path, status: int
):
    sources, directory = measured(20), f"tests/{uuid.uuid4()}"
    network.next(Canned(status), when="POST")
    upload(store, directory, sources, Retry(), LOG, "Uploading")
    network.next(Canned(status), when="POST")
    fetched(store, sources, directory, tmp_path / "model")


def test_a_name_that_the_server_refuses_is_named_as_by_a_single_request(store: StreamingHttpStore):
    sources, directory = measured(30), f"tests/{uuid.uuid4()}"
    with pytest.raises(InvalidJob, match="cannot have the key"):
        upload(store, directory, sources | measure_all({"x" * 300: "x"}), Retry(), LOG, "Uploading")


def test_a_file_that_changes_while_it_is_sent(store: StreamingHttpStore, tmp_path: Path):
    (tmp_path / "a").write_text("before")
    sources, directory = measured(30) | measure_all({"a": tmp_path / "a"}), f"tests/{uuid.uuid4()}"
    (tmp_path / "a").write_text("behind")
    with pytest.raises(InvalidJob, match="a changed during the upload"):
        upload(store, directory, sources, Retry(), LOG, "Uploading")
    assert store.head(f"{directory}/a") is None


def test_an_object_that_was_replaced_is_refused_as_by_a_single_request(
    store: StreamingHttpStore, jobapi_server: Server, tmp_path: Path
):
    sources, directory = measured(20), f"tests/{uuid.uuid4()}"
    upload(store, directory, sources, Retry(), LOG, "Uploading")
    jobapi_server.put(f"{directory}/d1/00001", b"CONTENT 1")
    with pytest.raises(Exception, match=r"The SHA-256 of d1/00001 in the storage differs"):
        fetched(store, sources, directory, tmp_path / "model")
    assert not (tmp_path / "model" / "1").exists()
