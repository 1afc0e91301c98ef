# SPDX-License-Identifier: Apache-2.0
"""Requests to ModelArts and OBS: signatures, links, certificates, pages of lists."""

from __future__ import annotations

import http.server
import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import ConnectionProblem, ServiceUnavailable
from airflow_provider_jobapi.services.files.sources import measure
from airflow_provider_jobapi.services.modelarts import api_session, plan
from airflow_provider_jobapi.services.modelarts.api_session import ApiSession
from airflow_provider_jobapi.services.modelarts.catalogue import read_v2_flavors
from airflow_provider_jobapi.services.modelarts.client import SearchLimits
from airflow_provider_jobapi.services.modelarts.connection import ModelArtsConnection
from airflow_provider_jobapi.services.modelarts.obs import store_of
from tests.harness.modelarts.caller import Caller
from tests.harness.modelarts.double import ModelArts
from tests.harness.modelarts.samples import Samples
from tests.harness.modelarts.service import job, service
from tests.harness.proxy import Canned, FaultProxy
from tests.services.modelarts.follow import DIALECTS, settings

pytestmark = pytest.mark.usefixtures("no_waits")


class Store(http.server.BaseHTTPRequestHandler):
    """Accepts every request and records the headers."""

    seen: list[tuple[str, dict[str, str]]]

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.seen.append((self.command, {name.lower(): value for name, value in self.headers.items()}))
        self.send_response(200)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def store() -> Iterator[tuple[str, list[tuple[str, dict[str, str]]]]]:
    """The address of a store that accepts every request, and the recorded headers."""
    seen: list[tuple[str, dict[str, str]]] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Seen", (Store,), {"seen": seen}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    thread.join()
    server.server_close()


def connection(**extra: Any) -> ModelArtsConnection:
    known = {"iam_url": "https://iam.example.com/v3", "domain": "d", "project": "p", "bucket": "bucket"}
    known |= {"obs_endpoint": "https://obs.example.com", "obs_access_key": "a", "obs_secret_key": "s"}
    return ModelArtsConnection.of(host="https://ma.example.com", login="u", password="p", extra=known | extra)


def test_requests_to_obs_are_signed_without_their_bodies(store: tuple[str, list[tuple[str, dict[str, str]]]]) -> None:
    """OBS does not accept a body's hash in a version 4 signature; other S3 stores accept both."""
    url, seen = store
    obs = store_of(connection(obs_endpoint=url), "bucket")
    obs.put("a", measure("a", "content"), lambda _: None)
    with obs.read("a", 0) as (_, chunks):
        list(chunks)
    assert [method for method, _ in seen] == ["PUT", "GET"]
    assert {headers["x-amz-content-sha256"] for _, headers in seen[:1]} == {"UNSIGNED-PAYLOAD"}
    assert all(headers["authorization"].startswith("AWS4-HMAC-SHA256 ") for _, headers in seen)


WRONG_REGION = (
    "<Error><Code>AuthorizationHeaderMalformed</Code><Message>The region 'eu-nl' is wrong; expecting 'eu-de'.</Message>"
    "</Error>"
)


@pytest.mark.parametrize(
    ("status", "body"),
    [(400, WRONG_REGION), (301, "<Error><Code>PermanentRedirect</Code></Error>")],
    ids=["region", "endpoint"],
)
def test_obs_of_another_region_is_not_retried(status: int, body: str) -> None:
    with FaultProxy(9) as obs:
        bucket = store_of(connection(obs_endpoint=obs.url), "bucket")
        ways: list[Callable[[], Any]] = [
            lambda: bucket.put("a", measure("a", "content"), lambda _: None),
            lambda: list(bucket.list_objects("a")),
            lambda: bucket.read("a", 0).__enter__(),
        ]
        for ask in ways:
            obs.next(Canned(status, body=body.encode()))
            with pytest.raises(ConnectionProblem, match=r"is not in region .*obs_endpoint.*bucket and region\.$"):
                ask()
        assert len(obs.seen) == len(ways)


def test_a_bundle_that_is_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ConnectionProblem, match=r"ca_bundle cannot be read .*for the storage it must be one PEM file"):
        store_of(connection(ca_bundle=str(tmp_path)), "bucket")


@pytest.mark.parametrize("name", ["iam_url", "obs_endpoint"])
def test_addresses_have_no_query(name: str) -> None:
    with pytest.raises(ConnectionProblem, match=f"extra {name} ends in a query"):
        connection(**{name: "https://one.example.com/v3?x=1"})


def test_user_in_an_address_is_refused() -> None:
    with pytest.raises(ConnectionProblem, match="put the user into login and the secret into password"):
        connection(iam_url="https://me:word@iam.example.com")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_job_on_a_later_page_of_a_search(modelarts: ModelArts, caller: Caller, dialect: str) -> None:
    modelarts_service = service(modelarts, dialect, search=SearchLimits(page_size=1))
    job_id, samples = str(uuid.uuid4()), Samples(caller)

    def place(name: str) -> None:
        folder = samples.place()
        body = samples.v1(folder) if dialect == "v1" else samples.v2(folder)
        if dialect == "v1":
            body["job_name"] = name
        else:
            body["metadata"]["name"] = name
        caller.ok("POST", f"/{dialect}/{{project_id}}/training-jobs", body)

    place(f"a-{job_id}")
    place(f"z-{job_id}")
    handle = modelarts_service.submit(job(), job_id).handle
    place(f"b-{job_id}")
    asked = len(modelarts.requests())
    assert modelarts_service.find(job_id).handle == handle
    assert handle["name"] == plan.job_name("test", job_id)
    pages = [each for each in modelarts.requests()[asked:] if "search" in str(each["path"]) + str(each["query"])]
    assert len(pages) >= 2


@pytest.mark.parametrize("status", [{}, [], {"sold_out": "1"}])
def test_a_flavour_whose_status_is_an_object(status: Any) -> None:
    (flavor,) = read_v2_flavors([{"flavor_id": "a", "status": status, "flavor_info": {"max_num": 1}}])
    assert not flavor.sold_out


@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_secrets_in_debug_logs(modelarts: ModelArts, dialect: str, caplog: pytest.LogCaptureFixture) -> None:
    # By its own name, too: the client of Kubernetes sets its level for the whole process.
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "urllib3"):
        service(modelarts, dialect).submit(job(env={"KEY": "of-the-users-own"}), str(uuid.uuid4()))
    assert "POST" in caplog.text
    assert "of-the-users-own" not in caplog.text
    assert modelarts.account["password"] not in caplog.text


def test_signatures_of_links_are_masked_in_debug_logs(
    modelarts: ModelArts, store: tuple[str, list[tuple[str, dict[str, str]]]], caplog: pytest.LogCaptureFixture
) -> None:
    hidden: list[str] = []
    modelarts_service = ApiSession(settings(modelarts, "v2"), hidden.append)
    link = f"{store[0]}/bucket/log?AccessKeyId=AK&Signature=the word="
    with caplog.at_level(logging.INFO, "urllib3"):
        modelarts_service.fetch(link, 0, 10)
    assert hidden == []
    with caplog.at_level(logging.DEBUG, "urllib3"):
        modelarts_service.fetch(link, 0, 10)
    assert len(hidden) == 1
    told = [record.getMessage() for record in caplog.records if "Signature" in record.getMessage()]
    assert all(hidden[0] in each for each in told)
    assert told


def test_unreachable_link(modelarts: ModelArts) -> None:
    with pytest.raises(
        ServiceUnavailable, match=r"^OBS cannot be reached at http://127\.0\.0\.1:9/log: Conn"
    ) as caught:
        ApiSession(settings(modelarts, "v2"), lambda _: None).fetch("http://127.0.0.1:9/log?Signature=word", 0, 10)
    assert "word" not in str(caught.value)


def test_link_with_an_untrusted_certificate(modelarts: ModelArts, monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    def untrusted(*_: Any, **__: Any) -> None:
        raise requests.exceptions.SSLError("certificate verify failed")

    monkeypatch.setattr(requests.Session, "get", untrusted)
    with pytest.raises(ConnectionProblem, match=r"certificate of OBS at https://obs\.example\.com/log is not trusted"):
        ApiSession(settings(modelarts, "v2"), lambda _: None).fetch("https://obs.example.com/log?Signature=word", 0, 10)


def test_old_sessions_are_closed(modelarts: ModelArts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_session, "_sessions", {})
    closed: list[ApiSession] = []

    def close(closing: ApiSession) -> None:
        closed.append(closing)

    monkeypatch.setattr(ApiSession, "close", close)
    first = api_session.session_of(settings(modelarts, "v1", prefix="first"), lambda _: None)
    for number in range(64):
        api_session.session_of(settings(modelarts, "v1", prefix=f"p{number}"), lambda _: None)
    assert closed == [first]
