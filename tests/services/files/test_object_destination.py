# SPDX-License-Identifier: Apache-2.0
"""Models in object stores: any path, one model in one version, and errors that name their cause."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import fsspec
import pytest
from airflow.sdk import ObjectStoragePath
from airflow.sdk.io import attach
from fsspec.implementations.local import LocalFileSystem
from obstore.fsspec import FsspecStore

from airflow_provider_jobapi.exceptions import (
    ConnectionProblem,
    InvalidJob,
    JobConflict,
    QuotaReached,
    ServiceUnavailable,
    TrainingError,
)
from airflow_provider_jobapi.services.files import claims
from airflow_provider_jobapi.services.files.destination_errors import error_at
from airflow_provider_jobapi.services.files.sources import measure
from airflow_provider_jobapi.services.retry import Retry
from tests.harness.client import service
from tests.harness.moto_s3 import MotoS3
from tests.harness.s3 import BUCKET, KEY, S3, SECRET
from tests.harness.tiny import Tiny, reply
from tests.services.files.test_fetch import FILES, HANDLE, ModelApi

pytestmark = pytest.mark.usefixtures("no_waits")

PATTERNS = ["[br]", "a*b", "what?", "[!x]#100%", "{a,b}", "%5Bbr%5D", "größe +模型", "~a'b&c=d;$(e)"]


@pytest.fixture(params=["memory", "moto-obstore", "moto-s3fs"])
def root(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A directory of an object store. obstore's file system hides from us that moto keeps conditions."""
    monkeypatch.setattr(claims, "SETTLE", 0.5)
    name = uuid.uuid4().hex
    if request.param == "memory":
        attach("memory", fs=fsspec.filesystem("memory"))
        return ObjectStoragePath(f"memory://models/{name}")
    server: MotoS3 = request.getfixturevalue("moto_s3")
    store = server.obstore() if request.param.endswith("obstore") else server.s3fs()
    attach("s3", conn_id=name, fs=store)
    return ObjectStoragePath(f"s3://{name}@{BUCKET}/{name}")


class TwoJobs:
    """Two services, each with a job and its model; the same files, other contents."""

    def __init__(self) -> None:
        self.apis = [ModelApi(dict.fromkeys([*FILES, *"abcdefgh"], name * 1000)) for name in (b"A", b"B")]

    def __enter__(self) -> Self:
        self._servers = [Tiny(self._routes(api, number)).__enter__() for number, api in enumerate(self.apis)]
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.__exit__()

    def _routes(self, api: ModelApi, number: int) -> dict[str, Any]:
        listing = reply({"model": {"files": api.listing}})
        status = reply({"job_id": f"job-{number}", "status": "SUCCESSFUL", "finishTime": "2026-11-21T12:00:00Z"})
        job = f"GET /api/v2/jobs/job-{number}"
        return api.routes() | {f"{job}/model": lambda _: listing, job: status}

    def fetch(self, number: int, place: Any) -> str:
        asking = service(self._servers[number], retry=Retry(attempts=2))
        return asking.fetch_model({"job_id": f"job-{number}"}, place).location


def held(place: Any) -> dict[str, bytes]:
    """What lies below a directory of an object store, and beside its versions."""
    store, base = place.fs, str(place.path).strip("/")
    store.invalidate_cache()
    found = store.find(str(place.path))
    return {name.strip("/")[len(base) + 1 :]: store.cat_file(name) for name in found}


@pytest.mark.parametrize("name", PATTERNS)
def test_no_letter_of_a_path_is_a_pattern(root: Any, name: str) -> None:
    place = root / name
    with TwoJobs() as jobs:
        jobs.fetch(0, place)
        before = held(place)
        assert {path.partition("/")[2] for path in before} == {*FILES, *"abcdefgh"}
        with pytest.raises(JobConflict, match="holds another model"):
            jobs.fetch(1, place)
        assert held(place) == before
        assert jobs.fetch(0, place)  # nothing to do


@pytest.mark.parametrize("name", PATTERNS)
def test_no_letter_of_a_local_path_is_a_pattern(tmp_path: Path, name: str) -> None:
    with TwoJobs() as jobs:
        for place in (tmp_path / name, ObjectStoragePath(f"file://{tmp_path}/uri/{name}")):
            location = jobs.fetch(0, place)
            assert (Path(str(place.path) if hasattr(place, "path") else place) / "1795262400/a").read_bytes()
            with pytest.raises(JobConflict, match="holds other files"):
                jobs.fetch(1, place)
            assert location
    assert {path.name for path in tmp_path.iterdir()} == {name, "uri"}


def both(jobs: TwoJobs, place: Any) -> list[str | TrainingError]:
    """Fetch both models into one version at the same time."""
    barrier = threading.Barrier(2, timeout=20)
    for api in jobs.apis:
        first = threading.Event()

        def meet(_: str, first: threading.Event = first) -> None:
            # Both are in the middle of their first file, unless one of them was refused.
            if not first.is_set():
                first.set()
                time.sleep(0.2)

        api.before = meet

    def fetch(number: int) -> str | TrainingError:
        barrier.wait()
        try:
            return jobs.fetch(number, place)
        except TrainingError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(fetch, range(2)))


def test_two_models_never_mix_in_one_version(root: Any) -> None:
    for number in range(3):
        place = root / str(number)
        with TwoJobs() as jobs:
            results = both(jobs, place)
        won = [number for number, result in enumerate(results) if isinstance(result, str)]
        lost = [result for result in results if isinstance(result, TrainingError)]
        assert len(won) == len(lost) == 1, results
        assert isinstance(lost[0], JobConflict)
        assert "job-0" in str(lost[0])
        assert "job-1" in str(lost[0])
        found = held(place)
        assert set(found.values()) == {b"AB"[won[0] : won[0] + 1] * 1000}
        assert {path.partition("/")[2] for path in found} == {*FILES, *"abcdefgh"}  # no claim is left


def test_two_models_never_mix_where_the_store_ignores_conditions(s3: S3) -> None:
    name = uuid.uuid4().hex
    config: Any = {"access_key_id": KEY, "secret_access_key": SECRET, "endpoint": s3.url, "region": "us-east-1"}
    attach("s3", conn_id=name, fs=FsspecStore("s3", config=config, client_options={"allow_http": True}))
    place = ObjectStoragePath(f"s3://{name}@{BUCKET}/{name}")
    with TwoJobs() as jobs:
        results = both(jobs, place)
    won = [number for number, result in enumerate(results) if isinstance(result, str)]
    assert len(won) == 1, results
    assert "job-0" in str(results[1 - won[0]])
    assert "job-1" in str(results[1 - won[0]])
    files = [path for path in (s3.root / BUCKET / name).rglob("*") if path.is_file()]
    assert {path.read_bytes() for path in files} == {b"AB"[won[0] : won[0] + 1] * 1000}


def test_a_claim_that_is_taken_meanwhile_is_found_after_the_last_byte(root: Any) -> None:
    claim = root / "1/.1795262400.claim"
    with TwoJobs() as jobs:

        def overtaken(name: str) -> None:
            if name == "saved_model.pb":
                claim.write_bytes(json.dumps({"job_id": "job-9", "model": "other", "since": time.time()}).encode())

        jobs.apis[0].before = overtaken
        with pytest.raises(JobConflict, match=r"model of job job-9; the model of job job-0 was not fetched there"):
            jobs.fetch(0, root / "1")
        # It is not this fetch's to remove.
        assert claim.exists()


def test_the_claim_of_a_dead_fetch(root: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    place = root / "1"
    with TwoJobs() as jobs:
        with monkeypatch.context() as killed:
            killed.setattr(claims.Claim, "release", lambda _: None)
            jobs.apis[0].files.pop("saved_model.pb")
            with pytest.raises(TrainingError):
                jobs.fetch(0, place)
        with pytest.raises(
            JobConflict,
            match=r"model of job job-0; the model of job job-1 was not .* remove .*\.claim",
        ):
            jobs.fetch(1, place)
        with monkeypatch.context() as later:
            later.setattr(claims, "ABANDONED", -1.0)
            jobs.fetch(1, place)
    assert set(held(place).values()) == {b"B" * 1000}


def test_two_fetches_that_find_the_claim_of_a_dead_fetch_never_mix(root: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both may overwrite it, since no store replaces an object on a condition that all keep."""
    monkeypatch.setattr(claims, "ABANDONED", 60.0)
    (root / ".1795262400.claim").write_bytes(json.dumps({"job_id": "dead", "model": "x", "since": 1.0}).encode())
    reading, read = threading.Barrier(2, timeout=30), claims.Claim._read

    def together(claim: claims.Claim) -> Any:
        found = read(claim)
        if found is not None and found.job_id == "dead":
            reading.wait()
        return found

    monkeypatch.setattr(claims.Claim, "_read", together)
    with TwoJobs() as jobs:
        results = both(jobs, root)
    won = [number for number, result in enumerate(results) if isinstance(result, str)]
    assert len(won) == 1, results
    assert isinstance(results[1 - won[0]], JobConflict)
    assert set(held(root).values()) == {b"AB"[won[0] : won[0] + 1] * 1000}


class WithDirectories(LocalFileSystem):
    """A remote file system that has directories, as SFTP."""

    protocol = "sftp"
    cachable = False


def test_a_store_with_directories_needs_none_of_them_before(tmp_path: Path) -> None:
    attach("sftp", conn_id="c", fs=WithDirectories())
    with Tiny(ModelApi().routes()) as tiny:
        service(tiny).fetch_model(HANDLE, ObjectStoragePath(f"sftp://c@{tmp_path}/a/b"), "1")
    assert (tmp_path / "a/b/1/saved_model.pb").is_file()
    assert [each.name for each in (tmp_path / "a/b").iterdir()] == ["1"]


def test_a_fetch_that_fails_gives_its_claim_up(root: Any) -> None:
    with TwoJobs() as jobs:
        jobs.apis[0].files.pop("saved_model.pb")
        with pytest.raises(TrainingError):
            jobs.fetch(0, root)
        jobs.fetch(1, root)
        jobs.apis[0].files["saved_model.pb"] = b"A" * 1000
    assert set(held(root).values()) == {b"B" * 1000}


@pytest.mark.parametrize("store", ["obstore", "s3fs"])
def test_folder_objects_in_the_destination_are_no_files(moto_s3: MotoS3, store: str) -> None:
    name = uuid.uuid4().hex
    attach("s3", conn_id=name, fs=getattr(moto_s3, store)())
    for key in ("", "1/", "1/variables/", "1/assets/"):
        moto_s3.put(f"{name}/{key}")
    api = ModelApi()
    with Tiny(api.routes()) as tiny:
        for _ in range(2):
            service(tiny).fetch_model(HANDLE, ObjectStoragePath(f"s3://{name}@{BUCKET}/{name}"), "1")
    assert api.asked.count("saved_model.pb") == 1


def refused(place: Any, files: dict[str, bytes] | None = None) -> TrainingError:
    with Tiny(ModelApi(files).routes()) as tiny, pytest.raises(TrainingError) as caught:
        service(tiny, retry=Retry(attempts=1)).fetch_model(HANDLE, place, "1")
    return caught.value


@pytest.fixture(params=["obstore", "s3fs"])
def bucket(request: pytest.FixtureRequest, s3: S3) -> Iterator[Any]:
    """Makes a path of rclone's server, with its keys or others."""

    def make(bucket: str, secret: str = SECRET, url: str = s3.url, key: str = KEY) -> ObjectStoragePath:
        name = uuid.uuid4().hex
        if request.param == "s3fs":
            from s3fs import S3FileSystem

            store: Any = S3FileSystem(
                key=key, secret=secret, client_kwargs={"endpoint_url": url, "region_name": "us-east-1"},
                config_kwargs={"retries": {"max_attempts": 1}, "connect_timeout": 2},
            )  # fmt: skip
            store.retries = 1
        else:
            config: Any = {"access_key_id": key, "secret_access_key": secret, "endpoint": url, "region": "us-east-1"}
            options: Any = {"allow_http": True}
            store = FsspecStore("s3", config=config, client_options=options, retry_config={"max_retries": 0})
        attach("s3", conn_id=name, fs=store)
        return ObjectStoragePath(f"s3://{name}@{bucket}/models")

    yield make
    gc.collect()


def test_a_wrong_secret(bucket: Any) -> None:
    error = refused(bucket(BUCKET, "wrong-secret"))
    assert isinstance(error, ConnectionProblem), repr(error)
    assert "SignatureDoesNotMatch" in str(error)
    assert "check its login (the access key) and its password (the secret key)" in str(error)
    assert "wrong-secret" not in str(error)


def test_a_bucket_that_does_not_exist(bucket: Any) -> None:
    error = refused(bucket("nowhere"))
    assert isinstance(error, InvalidJob), repr(error)
    assert error.field == "destination"
    assert "does not exist; create it, or correct the destination." in str(error)


@pytest.mark.parametrize("bucket", ["s3fs"], indirect=True)
def test_a_data_file_whose_storage_refuses_or_is_down(bucket: Any) -> None:
    """The libraries' own errors name no file, and some are no OSError, so they were shown raw and not tried again."""
    with pytest.raises(ConnectionProblem, match=r"The storage of s3://.* (refuses|denies)"):
        measure("rows.csv", bucket(BUCKET, "another-secret") / "rows.csv")
    with pytest.raises(ServiceUnavailable, match=r"The storage of s3://.* cannot be reached now"):
        measure("rows.csv", bucket(BUCKET, url="http://127.0.0.1:9") / "rows.csv")
    with pytest.raises(InvalidJob, match=r"^rows.csv \(s3://.*/rows.csv\) cannot be read: "):
        measure("rows.csv", bucket(BUCKET) / "rows.csv")


def test_a_storage_that_is_down(bucket: Any) -> None:
    error = refused(bucket(BUCKET, url="http://127.0.0.1:1"))
    assert isinstance(error, ServiceUnavailable), repr(error)
    assert "cannot be reached now; if this lasts, check the connection's endpoint_url." in str(error)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "QuotaExceeded", QuotaReached),
        (507, "InsufficientStorage", QuotaReached),
        (403, "AccessDenied", ConnectionProblem),
        (403, "InvalidAccessKeyId", ConnectionProblem),
        (400, "ExpiredToken", ConnectionProblem),
        (503, "SlowDown", ServiceUnavailable),
        (400, "AuthorizationHeaderMalformed", ConnectionProblem),
        (400, "SomethingElse", InvalidJob),
    ],
)
def test_each_answer_of_a_storage_has_its_sentence(
    bucket: Any, status: int, code: str, kind: type[TrainingError]
) -> None:
    from tests.harness.tiny import Reply

    said = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>No.</Message></Error>'.encode()
    empty = b'<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>'
    answers = {
        "GET /data": Reply(200, {"Content-Type": "application/xml"}, empty),
        "GET /data/": Reply(404, {}, b"<Error><Code>NoSuchKey</Code></Error>"),
        "GET /data?": Reply(200, {"Content-Type": "application/xml"}, empty),
        "HEAD /data": Reply(404),
        "PUT /data/": Reply(status, {"Content-Type": "application/xml"}, said),
        "POST /data/": Reply(status, {"Content-Type": "application/xml"}, said),
    }
    with Tiny(answers) as storage:
        error = refused(bucket(BUCKET, url=storage.url))
    assert type(error) is kind, repr(error)
    assert code in str(error) or kind is QuotaReached
    assert "None" not in str(error)
    assert str(error).count(". ") == 0


def test_a_connection_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system of Airflow's Amazon provider reads its connection so, when it is first used."""
    from airflow.sdk import BaseHook
    from airflow.sdk.io import fs

    monkeypatch.setattr(fs, "_register_filesystems", lambda: {"s3": BaseHook.get_connection})
    error = refused(ObjectStoragePath("s3://no_such_connection@data/models"))
    assert isinstance(error, ConnectionProblem), repr(error)
    assert "There is no connection 'no_such_connection', which s3://" in str(error)


def test_a_storage_whose_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.io import fs

    monkeypatch.setattr(fs, "_register_filesystems", dict)
    error = refused(ObjectStoragePath("s3://a_connection@data/models"))
    assert isinstance(error, InvalidJob), repr(error)
    assert "No filesystem registered for scheme s3" in str(error)


def test_an_error_without_words_is_named() -> None:
    assert "None" not in str(error_at("s3://x", OSError(None, None)))
    assert error_at("s3://x", KeyError("a bug of ours")) is None


@pytest.mark.parametrize("text", ["rgw@models/x", "rgw@models", "conn@bucket/a/b"])
def test_a_bucket_without_its_scheme_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for place in (text, ObjectStoragePath(text)):
        error = refused(place)
        assert isinstance(error, InvalidJob)
        assert f"Write s3://{text} for a bucket" in str(error)
    assert list(tmp_path.iterdir()) == []
    with Tiny(ModelApi().routes()) as tiny:
        service(tiny).fetch_model(HANDLE, f"./{text}", "1")


KILLED = """
import sys
from upath import UPath
from tests.harness.client import service
from tests.harness.tiny import Tiny
class There(Tiny):
    url = sys.argv[1]
    def __init__(self): pass
service(There()).fetch_model({"job_id": "1"}, UPath("memory://models/x"), "1")
"""


def test_a_fetch_that_is_killed_leaves_no_file(tmp_path: Path) -> None:
    api = ModelApi({**FILES, "large": b"x" * 5_000_000})
    with Tiny(api.routes()) as tiny:
        process = subprocess.Popen([sys.executable, "-c", KILLED, tiny.url], env=os.environ | {"TMPDIR": str(tmp_path)})
        try:
            api.before = lambda name: process.send_signal(signal.SIGKILL) if name == "saved_model.pb" else None
            assert process.wait(300) == -signal.SIGKILL
        finally:
            process.kill()
    assert "large" in api.asked
    assert list(tmp_path.iterdir()) == []
