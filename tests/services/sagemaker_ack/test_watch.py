# SPDX-License-Identifier: Apache-2.0
"""Watch one object of a real Kubernetes API, and what a server or a proxy may send in its place."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import MappingProxyType
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import BrokenContract, ConnectionProblem, ServiceUnavailable, TrainingError
from airflow_provider_jobapi.services.sagemaker_ack import names, watch
from airflow_provider_jobapi.services.sagemaker_ack.service import SageMakerAckService
from airflow_provider_jobapi.services.sagemaker_ack.watch import ObjectWatch
from tests.harness.ack.cloud import IMAGE
from tests.harness.ack.double import Ack
from tests.services.sagemaker_ack.service import Make, job

TIMEOUT = 60.0


class Object:
    """The object of a job that no controller changes, and changes of it."""

    def __init__(self, ack: Ack, service: SageMakerAckService, namespace: str, **more: Any) -> None:
        ack.stop()
        job_id = str(uuid.uuid4())
        service.submit(job(**more), job_id)
        self.name, self.namespace = names.object_name(job_id), namespace
        self.path = ack.path(namespace, self.name)
        self.admin = ack.kubernetes.admin
        self.kubernetes = service.clients.kubernetes

    def step(self, secondary: str) -> None:
        self.admin.patch(f"{self.path}/status", {"status": {"secondaryStatus": secondary}})

    def delete(self) -> None:
        self.admin.delete(self.path)

    @asynccontextmanager
    async def watched(self, **more: Any) -> AsyncIterator[ObjectWatch]:
        watching = ObjectWatch(self.kubernetes, self.namespace, self.name, **more)
        try:
            yield watching
        finally:
            await watching.close()


async def until(watching: ObjectWatch, reached: Callable[[], bool]) -> None:
    """Wait for what the watch has seen."""
    async with asyncio.timeout(TIMEOUT):
        while not reached():
            await watching.wait(5)


def step_of(watching: ObjectWatch) -> str:
    found = {} if watching.seen is None else watching.seen.object.get("status", {})
    return str(found.get("secondaryStatus", ""))


def test_changes_come_at_once_and_the_end_as_well(ack: Ack, make: Make, namespace: str) -> None:
    found = Object(ack, make(), namespace)

    async def run() -> None:
        async with found.watched() as watching:
            await until(watching, lambda: watching.seen is not None)
            assert step_of(watching) == ""
            for step in ("Starting", "Training"):
                await asyncio.to_thread(found.step, step)
                await until(watching, lambda step=step: step_of(watching) == step)
            await asyncio.to_thread(found.delete)
            await until(watching, lambda: watching.gone)
            assert step_of(watching) == "Training"
            await watching.wait(0)  # for what came before it was waited for
            began = time.monotonic()
            await watching.wait(0.2)
            assert time.monotonic() - began >= 0.15, "nothing is watched any more"

    asyncio.run(run())


def test_an_object_that_is_not_there(ack: Ack, make: Make, namespace: str) -> None:
    found = Object(ack, make(), namespace)
    found.delete()

    async def run() -> None:
        async with found.watched() as watching:
            await until(watching, lambda: watching.gone)
            assert watching.seen is None

    asyncio.run(run())


def test_watches_follow_each_other_without_another_look(ack: Ack, make: Make, namespace: str) -> None:
    found = Object(ack, make(), namespace)

    async def run() -> None:
        async with found.watched(seconds=1) as watching:
            await until(watching, lambda: watching.seen is not None)
            first = watching.seen
            for _ in range(4):
                await watching.wait(1)
            assert watching.seen is first
            assert watching.running
            await asyncio.to_thread(found.step, "Training")
            await until(watching, lambda: step_of(watching) == "Training")

    asyncio.run(run())


def test_an_object_longer_than_a_line_of_the_client_may_be(ack: Ack, make: Make, namespace: str) -> None:
    """The Watch of kubernetes_asyncio ends with ``Chunk too big`` at 128 KiB."""
    variables = {f"V{number}": "x" * 500 for number in range(90)}
    tags = [{"key": f"k{number}", "value": "y" * 250} for number in range(50)]
    found = Object(
        ack, make(), namespace, script=None, image=IMAGE, env_vars=variables,
        service_options={"tags": tags},
    )  # fmt: skip
    annotations = {"metadata": {"annotations": {"note": "z" * 240_000}}}

    async def run() -> None:
        async with found.watched() as watching:
            await until(watching, lambda: watching.seen is not None)
            await asyncio.to_thread(found.admin.patch, found.path, annotations)
            await asyncio.to_thread(found.step, "Training")
            await until(watching, lambda: step_of(watching) == "Training")
            assert watching.seen is not None
            assert len(json.dumps(watching.seen.object)) > 256 * 1024

    asyncio.run(run())


class Scripted(BaseHTTPRequestHandler):
    """An API server that sends the bytes of a test as its watches; or a status, its headers and the bytes."""

    watches: list[bytes | tuple[int, dict[str, str], bytes]]
    lists: int

    def do_GET(self) -> None:
        kind = type(self)
        if "watch=True" not in self.path:
            kind.lists += 1
            self._send(json.dumps({"metadata": {"name": "x", "resourceVersion": str(kind.lists)}}).encode())
            return
        given = kind.watches.pop(0) if kind.watches else b""
        status, headers, content = (200, {}, given) if isinstance(given, bytes) else given
        self._send(content, status, headers)

    def _send(self, content: bytes, status: int = 200, headers: Mapping[str, str] = MappingProxyType({})) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


class Local:
    """The client of that server."""

    namespace: str | None = None

    def __init__(self, url: str) -> None:
        self._url = url

    def api(self) -> Any:
        raise NotImplementedError

    @asynccontextmanager
    async def async_api(self) -> AsyncIterator[Any]:
        from kubernetes_asyncio.client import ApiClient, Configuration

        configuration = Configuration()
        configuration.host = self._url
        async with ApiClient(configuration) as api:
            yield api


Sent = Callable[..., ObjectWatch]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sent]:
    """Makes a watch of a server whose watches are these."""
    monkeypatch.setattr(watch, "SHORTEST_WATCH", 0.05)
    kind = type("Handler", (Scripted,), {"watches": [], "lists": 0})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()

    def make(*watches: Any) -> ObjectWatch:
        kind.watches = list(watches)
        return ObjectWatch(Local(f"http://127.0.0.1:{server.server_address[1]}"), "ns", "x")

    yield make
    server.shutdown()
    server.server_close()
    thread.join(10)


def line(kind: str, version: str, **status: Any) -> bytes:
    found = {"metadata": {"name": "x", "resourceVersion": version}, "status": status}
    return json.dumps({"type": kind, "object": found}).encode() + b"\n"


def error(code: int, reason: str) -> bytes:
    said = {"kind": "Status", "code": code, "reason": reason, "message": f"it is {reason}"}
    return json.dumps({"type": "ERROR", "object": said}).encode() + b"\n"


def seen_by(watching: ObjectWatch, reached: Callable[[ObjectWatch], bool]) -> ObjectWatch:
    async def run() -> None:
        try:
            await until(watching, lambda: reached(watching))
        finally:
            await watching.close()

    asyncio.run(run())
    return watching


def test_events_of_one_part_and_bookmarks(sent: Sent) -> None:
    watching = sent(
        line("MODIFIED", "5", secondaryStatus="Starting") + line("BOOKMARK", "9"),
        line("MODIFIED", "10", secondaryStatus="Training"),
    )
    assert step_of(seen_by(watching, lambda each: step_of(each) == "Training")) == "Training"


def refusal(code: int, reason: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    return code, headers, json.dumps({"kind": "Status", "code": code, "message": f"it is {reason}"}).encode()


@pytest.mark.parametrize("said", [error(410, "Expired"), error(410, "Gone"), refusal(410, "too old")])
def test_an_expired_watch_begins_with_another_look(sent: Sent, said: Any) -> None:
    watching = sent(line("MODIFIED", "5"), said)
    # The server numbers its looks: this is the second one.
    seen_by(watching, lambda each: each.seen is not None and each.seen.version == "2")


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (error(403, "Forbidden"), ConnectionProblem, "does not allow to watch the job's object: it is Forbidden"),
        (error(500, "InternalError"), ServiceUnavailable, r"could not watch the job's object now \(status 500\)"),
        (refusal(403, "Forbidden"), ConnectionProblem, "does not allow to watch the job's object: it is Forbidden"),
        (refusal(503, "starting"), ServiceUnavailable, r"now \(status 503\): it is starting"),
        ((502, {}, b"<html>a proxy</html>"), ServiceUnavailable, r"now \(status 502\): HTTP status 502"),
        (b"<html>a proxy</html>\n", BrokenContract, "something else than events of a watch"),
        (b'{"type": "MODIFIED"}\n', BrokenContract, "without an object"),
        (b"[1]\n", BrokenContract, "something else than events of a watch"),
    ],
)
def test_what_else_a_watch_may_send(sent: Sent, said: Any, kind: type[TrainingError], words: str) -> None:
    watching = sent(said)
    with pytest.raises(kind, match=words):
        seen_by(watching, lambda each: each.gone)


def test_the_server_says_when_to_come_back(sent: Sent) -> None:
    watching = sent(refusal(429, "busy", **{"Retry-After": "7"}))
    with pytest.raises(ServiceUnavailable) as raised:
        seen_by(watching, lambda each: each.gone)
    assert raised.value.retry_after == 7
    with pytest.raises(ServiceUnavailable, match="it is busy") as again:
        watching.check_busy()
    assert 0 < (again.value.retry_after or 0) <= 7


def test_a_watch_goes_on_after_an_error(sent: Sent) -> None:
    watching = sent(error(500, "InternalError"), line("DELETED", "7"))

    async def run() -> None:
        try:
            with pytest.raises(ServiceUnavailable):
                await until(watching, lambda: watching.gone)
            await until(watching, lambda: watching.gone)
        finally:
            await watching.close()

    asyncio.run(run())


def test_another_task_ends_the_wait(sent: Sent) -> None:
    watching = sent()

    async def run() -> None:
        try:
            await until(watching, lambda: watching.seen is not None)
            other = asyncio.create_task(asyncio.sleep(0.01))
            async with asyncio.timeout(20):
                await watching.wait(600, other)
            assert other.done()
        finally:
            await watching.close()

    asyncio.run(run())
