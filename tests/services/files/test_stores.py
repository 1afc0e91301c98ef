# SPDX-License-Identifier: Apache-2.0
"""One contract for every store, against the real servers."""

from __future__ import annotations

import hashlib
import io
import resource
import uuid
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from airflow_provider_jobapi.exceptions import BrokenContract, ConnectionProblem, InvalidJob, ServiceUnavailable
from airflow_provider_jobapi.services.files.sources import Source, measure
from airflow_provider_jobapi.services.files.stores import ObjectStore, S3Access, S3Store, endpoint_url
from airflow_provider_jobapi.services.jobapi.client import Client
from airflow_provider_jobapi.services.jobapi.http_store import HttpStore
from airflow_provider_jobapi.services.jobapi.tokens import tokens_of
from tests.harness.client import connection
from tests.harness.local_store import LocalStore
from tests.harness.moto_s3 import MotoS3
from tests.harness.proxy import BrokenUpload, Canned, FaultProxy
from tests.harness.s3 import BUCKET, KEY, S3, SECRET
from tests.harness.server import Server
from tests.harness.tiny import Reply, Tiny, reply
from tests.harness.tls import Authority

pytestmark = pytest.mark.usefixtures("no_waits")

LARGE = 20 * 1024 * 1024 + 3


def http_store(server: Server, url: str | None = None) -> HttpStore:
    settings = connection(server, url)
    return HttpStore(Client(settings, tokens_of(settings), lambda _: None))


def access(s3: S3, **changes: Any) -> S3Access:
    return replace(S3Access(url=s3.url, bucket=BUCKET, access_key=KEY, secret_key=SECRET), **changes)


@pytest.fixture(params=["http", "s3", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "http":
        return http_store(request.getfixturevalue("jobapi_server"))
    if request.param == "s3":
        return S3Store(access(request.getfixturevalue("s3")))
    return LocalStore(tmp_path)


@pytest.fixture
def prefix() -> str:
    return f"tests/{uuid.uuid4()}"


class Endless:
    """A file of any size that takes no memory."""

    def __init__(self, size: int) -> None:
        self.size = size

    def open(self, mode: str) -> BinaryIO:
        assert mode == "rb"
        return _Zeros(self.size)  # type: ignore[return-value]


class _Zeros(io.RawIOBase):
    def __init__(self, size: int) -> None:
        self._left = size

    def read(self, size: int = -1) -> bytes:
        taken = self._left if size < 0 else min(size, self._left)
        self._left -= taken
        return bytes(taken)


def content(store: ObjectStore, key: str, start: int = 0) -> tuple[int, bytes]:
    with store.read(key, start) as (begin, chunks):
        return begin, b"".join(chunks)


def keep(store: ObjectStore, key: str, data: Any) -> tuple[Source, int]:
    moved: list[int] = []
    source = measure(key, data)
    store.put(key, source, moved.append)
    return source, sum(moved)


@pytest.mark.parametrize("data", [b"", b"hello", b"x" * LARGE], ids=["empty", "small", "large"])
def test_what_was_kept_comes_back(store: ObjectStore, prefix: str, data: bytes) -> None:
    key = f"{prefix}/a b/ü+%20.bin"
    source, moved = keep(store, key, data)
    assert moved == len(data) == source.size
    assert content(store, key) == (0, data)
    found = store.head(key)
    assert found is not None
    assert (found.key, found.size, found.sha256) == (key, len(data), hashlib.sha256(data).hexdigest())


def test_nothing_is_there_before(store: ObjectStore, prefix: str) -> None:
    assert store.head(f"{prefix}/a") is None
    assert list(store.list_objects(f"{prefix}/")) == []
    with pytest.raises(BrokenContract, match=f"{prefix}/a"):
        content(store, f"{prefix}/a")


def test_a_listing_is_of_one_prefix(store: ObjectStore, prefix: str) -> None:
    for name in ("one/a", "one/deep/er/b", "two/c"):
        keep(store, f"{prefix}/{name}", name)
    listed = {each.key: each for each in store.list_objects(f"{prefix}/one/")}
    assert {key: each.size for key, each in listed.items()} == {f"{prefix}/one/a": 5, f"{prefix}/one/deep/er/b": 13}
    for each in listed.values():
        assert each.sha256 in {None, hashlib.sha256(each.key.removeprefix(f"{prefix}/").encode()).hexdigest()}


def test_a_second_put_replaces(store: ObjectStore, prefix: str) -> None:
    keep(store, f"{prefix}/a", "first")
    keep(store, f"{prefix}/a", "second one")
    assert content(store, f"{prefix}/a")[1] == b"second one"


def test_a_read_begins_where_it_says(store: ObjectStore, prefix: str) -> None:
    keep(store, f"{prefix}/a", b"0123456789")
    begin, rest = content(store, f"{prefix}/a", 4)
    assert begin in {0, 4}
    assert rest == b"0123456789"[begin:]
    assert begin == 4 or isinstance(store, S3Store)


@pytest.mark.parametrize("size", [3, LARGE], ids=["small", "large"])
def test_a_file_that_changes_while_it_is_sent_is_not_kept(
    store: ObjectStore, prefix: str, tmp_path: Path, size: int
) -> None:
    path = tmp_path / "changing.bin"
    path.write_bytes(b"a" * size)
    source = measure("data.bin", path)
    for changed in (b"b" * size, b"a" * (size - 1), b"a" * (size + 1)):
        path.write_bytes(changed)
        with pytest.raises(InvalidJob, match=r"data\.bin changed during the upload"):
            store.put(f"{prefix}/a", source, lambda _: None)
    assert store.head(f"{prefix}/a") is None


def test_many_pages_of_a_listing(jobapi_server: Server, prefix: str) -> None:
    settings = connection(jobapi_server)
    store = HttpStore(Client(settings, tokens_of(settings), lambda _: None), page=3)
    names = [f"{prefix}/{number:04}" for number in range(10)]
    for name in names:
        jobapi_server.put(name, b"")
    assert [each.key for each in store.list_objects(f"{prefix}/")] == names


@pytest.mark.parametrize("make", [http_store, lambda s3: S3Store(access(s3))], ids=["http", "s3"])
def test_a_huge_file_takes_no_memory(
    make: Callable[[Any], ObjectStore], prefix: str, request: pytest.FixtureRequest
) -> None:
    store = make(request.getfixturevalue("jobapi_server" if make is http_store else "s3"))
    size = 300 * 1024 * 1024
    source = measure("zeros", Endless(size))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    store.put(f"{prefix}/zeros", source, lambda _: None)
    with store.read(f"{prefix}/zeros", 0) as (_, chunks):
        assert sum(map(len, chunks)) == size
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 150 * 1024, f"{grown // 1024} MB more"


def test_a_broken_upload_is_worth_trying_again(jobapi_server: Server, prefix: str) -> None:
    with FaultProxy(jobapi_server.port) as network:
        store = http_store(jobapi_server, network.url)
        network.next(BrokenUpload(1_000_000), Canned(503), when="PUT")
        for _ in range(2):
            with pytest.raises(ServiceUnavailable):
                keep(store, f"{prefix}/a", b"x" * LARGE)
            assert store.head(f"{prefix}/a") is None
        keep(store, f"{prefix}/a", b"x" * LARGE)
        assert store.head(f"{prefix}/a") is not None


def test_s3_breaks_are_repaired_by_obstore(s3: S3, prefix: str) -> None:
    with FaultProxy(s3.port) as network:
        store = S3Store(access(s3, url=network.url))
        network.next(Canned(503), BrokenUpload(1_000_000), when="PUT")
        keep(store, f"{prefix}/a", b"x" * LARGE)
        network.next(Canned(500), when="GET")
        assert content(store, f"{prefix}/a")[1] == b"x" * LARGE


def test_s3_that_cannot_be_reached(s3: S3) -> None:
    quick = S3Store(access(s3, url="http://127.0.0.1:1"))
    with pytest.raises(ServiceUnavailable, match=r"storage http://127\.0\.0\.1:1/data cannot serve a now"):
        quick.head("a")


def test_s3_keys_that_are_refused(s3: S3, prefix: str) -> None:
    for changes in ({"secret_key": "wrong-secret"}, {"access_key": "nobody"}):
        store = S3Store(access(s3, **changes))
        with pytest.raises(ConnectionProblem, match="keys from the service") as caught:
            keep(store, f"{prefix}/a", "x")
        assert "wrong-secret" not in str(caught.value)
        assert "wrong-secret" not in repr(access(s3, **changes))


def test_s3_without_the_bucket(s3: S3) -> None:
    with pytest.raises(ConnectionProblem, match=r"no bucket http://.*/nowhere"):
        keep(S3Store(access(s3, bucket="nowhere")), "a", "x")


def test_aws_variables_of_the_worker_have_no_say(s3: S3, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "someone-elses")
    store = S3Store(access(s3))
    keep(store, f"{prefix}/a", "x")
    assert store.head(f"{prefix}/a") is not None


def test_a_bare_host_name_means_tls() -> None:
    assert endpoint_url("files.example.com") == "https://files.example.com"
    assert endpoint_url("http://files.example.com/") == "http://files.example.com"


def test_s3_certificates_are_checked(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with Tiny({"HEAD /": Reply(404)}, authority.server_context()) as tiny:
        settings = S3Access(url=tiny.url, bucket=BUCKET, access_key=KEY, secret_key=SECRET)
        with pytest.raises((ConnectionProblem, ServiceUnavailable)) as caught:
            S3Store(settings).head("a")
        assert "certificate" in str(caught.value)
        assert S3Store(replace(settings, verify=False)).head("a") is None
        trusting = replace(settings, roots=authority.bundle.read_bytes())
        if version("obstore").startswith("0.9."):
            with pytest.raises(ConnectionProblem, match="upgrade obstore"):
                S3Store(trusting)
        else:
            assert S3Store(trusting).head("a") is None


def test_half_a_local_file_is_never_seen(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)

    def cancelled(_: int) -> None:
        raise ServiceUnavailable("Enough.")

    with pytest.raises(ServiceUnavailable):
        store.put("a", measure("a", "x"), cancelled)
    assert list(tmp_path.iterdir()) == []


def test_empty_objects_that_stand_for_folders_are_not_listed(moto_s3: MotoS3, prefix: str) -> None:
    for key in ("", "variables/", "assets/", "deep/er/"):
        moto_s3.put(f"{prefix}/{key}")
    moto_s3.put(f"{prefix}/variables/x", b"x")
    moto_s3.put(f"{prefix}/empty")
    store = S3Store(S3Access(url=moto_s3.url, bucket=BUCKET, access_key=KEY, secret_key=SECRET))
    listed = {each.key: each.size for each in store.list_objects(f"{prefix}/")}
    assert listed == {f"{prefix}/empty": 0, f"{prefix}/variables/x": 1}


def test_a_key_that_is_no_path_is_named_by_its_prefix(moto_s3: MotoS3, prefix: str) -> None:
    moto_s3.put(f"{prefix}//x", b"x")
    store = S3Store(S3Access(url=moto_s3.url, bucket=BUCKET, access_key=KEY, secret_key=SECRET))
    with pytest.raises(BrokenContract, match=r"an object below .* whose key is not a path: .* remove that object"):
        list(store.list_objects(f"{prefix}/"))


def test_a_service_that_lists_folder_objects() -> None:
    page = {"objects": [{"key": "a/", "size": 0, "sha256": "0" * 64}, {"key": "a/b", "size": 1, "sha256": "0" * 64}]}
    with Tiny({"GET /api/v2/storage/objects": reply(page)}) as tiny:
        settings = connection(tiny)
        store = HttpStore(Client(settings, tokens_of(settings), lambda _: None))
        assert [each.key for each in store.list_objects("a/")] == ["a/b"]
