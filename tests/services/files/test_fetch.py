# SPDX-License-Identifier: Apache-2.0
"""Fetching a model: whole or not at all, wherever it goes and whatever the service says."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest
from airflow.sdk import ObjectStoragePath
from airflow.sdk.io import attach
from obstore.fsspec import FsspecStore

from airflow_provider_jobapi.exceptions import (
    BrokenContract,
    InvalidJob,
    JobConflict,
    NoSavedModel,
    QuotaReached,
    ServiceUnavailable,
)
from airflow_provider_jobapi.services.files import destinations
from airflow_provider_jobapi.services.files.sources import measure
from airflow_provider_jobapi.services.files.stores import S3Access, S3Store
from airflow_provider_jobapi.services.retry import Retry
from tests.harness.client import MODEL, job, service
from tests.harness.proxy import Broken, Canned, FaultProxy
from tests.harness.s3 import BUCKET, KEY, S3, SECRET
from tests.harness.server import Server, poll
from tests.harness.tiny import Asked, Reply, Tiny, reply

pytestmark = pytest.mark.usefixtures("no_waits")

FILES = {"saved_model.pb": b"graph", "variables/variables.index": b"index" * 1000}


@pytest.fixture(scope="module")
def trained(jobapi_server: Server) -> dict[str, Any]:
    """A job that left a model."""
    job_id = str(uuid.uuid4())
    handle = service(jobapi_server).submit(job(MODEL), job_id).handle
    jobapi_server.wait_for(job_id, "SUCCESSFUL")
    return handle


def tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if not path.is_dir()}


class ModelApi:
    """A service that lists a model and has its bytes; each may be a lie."""

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.files = dict(FILES if files is None else files)
        self.listing = [
            {"path": path, "key": f"m/{path}", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for path, data in self.files.items()
        ]
        self.asked: list[str] = []
        self.before: Callable[[str], None] = lambda _: None

    def routes(self) -> dict[str, Any]:
        return {
            "GET /api/v2/storage": reply({"protocol": "http"}),
            "GET /api/v2/jobs/1/model": lambda _: reply({"job_id": "1", "model": {"files": self.listing}}),
            "GET /api/v2/jobs/1": reply({"job_id": "1", "status": "SUCCESSFUL", "finishTime": "2026-11-21T12:00:00Z"}),
            "GET /api/v2/storage/objects/m/": self._object,
        }

    def _object(self, asked: Asked) -> Reply:
        name = asked.target.partition("/objects/m/")[2]
        self.asked.append(name)
        self.before(name)
        data = self.files.get(name)
        return reply({"detail": "gone"}, 404) if data is None else Reply(200, {}, data)


HANDLE = {"job_id": "1"}


def s3_store(s3: S3) -> S3Store:
    return S3Store(S3Access(url=s3.url, bucket=BUCKET, access_key=KEY, secret_key=SECRET))


@pytest.fixture
def memory() -> Iterator[Any]:
    """An object store that keeps everything in memory."""
    attach("memory", fs=fsspec.filesystem("memory"))
    return ObjectStoragePath(f"memory://models/{uuid.uuid4()}")


@pytest.fixture
def api() -> Iterator[tuple[ModelApi, Any]]:
    known = ModelApi()
    with Tiny(known.routes()) as tiny:
        yield known, service(tiny, retry=Retry(attempts=2))


def test_a_model_from_the_real_server(jobapi_server: Server, trained: dict[str, Any], tmp_path: Path) -> None:
    asking = service(jobapi_server)
    fetched = asking.fetch_model(trained, tmp_path / "models")
    ended = asking.status(trained).finish_time
    assert ended is not None
    final = tmp_path / "models" / str(int(ended.timestamp()))
    assert fetched.location == final.as_uri()
    assert tree(tmp_path) == {f"models/{final.name}/{path}": data for path, data in FILES.items()}
    assert {file.path for file in fetched.files} == set(FILES)
    assert [path.name for path in (tmp_path / "models").iterdir()] == [final.name]


def test_the_model_is_described_without_a_fetch(jobapi_server: Server, trained: dict[str, Any], tmp_path: Path) -> None:
    asking = service(jobapi_server)
    model = asking.model(trained)
    assert model is not None
    assert (model.kind, set(model.files)) == ("saved_model", set(asking.fetch_model(trained, tmp_path, "1").files))
    with pytest.raises(NoSavedModel, match="left no model of the kind 'onnx'"):
        asking.fetch_model(trained, tmp_path, "2", kind="onnx")


@pytest.mark.parametrize("protocol", ["file", "memory"])
def test_a_model_of_another_kind_without_hashes(
    tmp_path: Path, memory: Any, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    known = ModelApi({"model.onnx": b"graph", "notes/readme.txt": b"text"})
    for entry in known.listing:
        del entry["sha256"]
    place = memory if protocol == "memory" else tmp_path
    listed = {"GET /api/v2/jobs/1/model": lambda _: reply({"model": {"kind": "onnx", "files": known.listing}})}
    with Tiny(known.routes() | listed) as tiny:
        asking = service(tiny, retry=Retry(attempts=2))
        fetched = asking.fetch_model(HANDLE, place, "1", kind="onnx")
        assert {file.path: file.sha256 for file in fetched.files} == {"model.onnx": None, "notes/readme.txt": None}
        assert fetched.sha256 is None
        assert "no SHA-256 for 2 of the 2 files of the model of job 1: only their sizes are checked" in caplog.text
        assert (place / "1" / "notes" / "readme.txt").read_bytes() == b"text"
        requests = len(known.asked)
        assert asking.fetch_model(HANDLE, place, "1") == fetched
        assert len(known.asked) == requests
        with pytest.raises(NoSavedModel, match="its model is of the kind 'onnx'"):
            asking.fetch_model(HANDLE, place, "2", kind="saved_model")
        known.listing[0]["size"] += 1
        with pytest.raises(ServiceUnavailable):
            asking.fetch_model(HANDLE, place, "2")


def test_a_second_fetch_has_nothing_to_do(jobapi_server: Server, trained: dict[str, Any], tmp_path: Path) -> None:
    with FaultProxy(jobapi_server.port) as network:
        asking = service(jobapi_server, network.url)
        first = asking.fetch_model(trained, tmp_path, "7")
        objects = network.count("/objects/")
        assert asking.fetch_model(trained, str(tmp_path), 7) == first
        assert network.count("/objects/") == objects


def test_a_download_that_breaks_goes_on_where_it_was(jobapi_server: Server, tmp_path: Path) -> None:
    size = 3_000_000
    script = f"{MODEL}\nopen(root + '/variables/large', 'wb').write(bytes(range(256)) * ({size} // 256))\n"
    job_id = str(uuid.uuid4())
    with FaultProxy(jobapi_server.port) as network:
        asking = service(jobapi_server, network.url)
        handle = asking.submit(job(script), job_id).handle
        jobapi_server.wait_for(job_id, "SUCCESSFUL")
        network.next(Broken(1_500_000), Canned(503), Broken(700_000), when="/variables/large")
        asking.fetch_model(handle, tmp_path, "1")
        assert network.count("/variables/large") == 4
    assert (tmp_path / "1/variables/large").read_bytes() == bytes(range(256)) * (size // 256)


def test_a_model_from_an_s3_storage(s3: S3, tmp_path: Path) -> None:
    known = ModelApi({**FILES, "variables/large": b"z" * 20_000_000})
    store = s3_store(s3)
    for path, data in known.files.items():
        store.put(f"m/{path}", measure(path, data), lambda _: None)
    with Tiny({**known.routes(), "GET /api/v2/storage": reply(s3.storage)}) as tiny:
        service(tiny).fetch_model(HANDLE, tmp_path, "1")
    assert tree(tmp_path / "1") == known.files


@pytest.mark.parametrize("protocol", ["file", "memory"])
def test_any_object_storage_path(
    jobapi_server: Server, trained: dict[str, Any], tmp_path: Path, protocol: str, memory: Any
) -> None:
    place = memory if protocol == "memory" else ObjectStoragePath(f"file://{tmp_path}/models")
    asking = service(jobapi_server)
    fetched = asking.fetch_model(trained, place, "3")
    assert fetched.location == str(place / "3")
    for path, data in FILES.items():
        assert (ObjectStoragePath(fetched.location) / path).read_bytes() == data
    assert asking.fetch_model(trained, place, "3") == fetched


def test_a_model_into_a_real_bucket(api: tuple[ModelApi, Any], s3: S3) -> None:
    known, asking = api
    known.before = lambda _: late.append((place / "1/saved_model.pb").exists())
    late: list[bool] = []
    config = {"access_key_id": KEY, "secret_access_key": SECRET, "endpoint": s3.url, "region": "us-east-1"}
    attach("s3", conn_id="tests", fs=FsspecStore("s3", config=config, client_options={"allow_http": True}))
    place = ObjectStoragePath(f"s3://tests@{BUCKET}/models/{uuid.uuid4()}")
    fetched = asking.fetch_model(HANDLE, place, "1")
    assert fetched.location == str(place / "1")
    for path, data in FILES.items():
        with s3_store(s3).read(f"{place.path.removeprefix(f'{BUCKET}/')}/1/{path}", 0) as (_, chunks):
            assert b"".join(chunks) == data
    assert late == [False, False]


def test_an_object_store_sees_the_marker_last(api: tuple[ModelApi, Any], memory: Any) -> None:
    known, asking = api
    place = memory
    seen: list[bool] = []

    def before(name: str) -> None:
        if name == "saved_model.pb":
            seen.append((place / "1/variables/variables.index").exists())

    known.before = before
    known.files.pop("saved_model.pb")
    with pytest.raises(BrokenContract, match=r"has no m/saved_model\.pb"):
        asking.fetch_model(HANDLE, place, "1")
    assert not (place / "1/saved_model.pb").exists()
    assert seen == [True]

    # What the dead attempt left is no obstacle.
    known.files.update(FILES)
    asking.fetch_model(HANDLE, place, "1")
    assert (place / "1/saved_model.pb").read_bytes() == b"graph"


def test_an_object_store_that_holds_something_else(api: tuple[ModelApi, Any], memory: Any) -> None:
    known, asking = api
    place = memory
    (place / "1").mkdir(parents=True, exist_ok=True)
    (place / "1/notes.txt").write_bytes(b"mine")
    with pytest.raises(JobConflict, match=r"notes\.txt, which is not a file of this model; nothing was changed"):
        asking.fetch_model(HANDLE, place, "1")
    asking.fetch_model(HANDLE, place, "2")
    (place / "2/variables/variables.index").write_bytes(b"other" * 1000)
    with pytest.raises(JobConflict, match="holds another model"):
        asking.fetch_model(HANDLE, place, "2")
    assert known.asked.count("saved_model.pb") == 1


def test_a_local_reader_sees_all_or_nothing(api: tuple[ModelApi, Any], tmp_path: Path) -> None:
    known, asking = api
    seen: list[list[str]] = []
    known.before = lambda _: seen.append([path.name for path in tmp_path.iterdir() if not path.name.startswith(".")])
    asking.fetch_model(HANDLE, tmp_path, "1")
    assert seen == [[], []]
    assert tree(tmp_path) == {f"1/{path}": data for path, data in FILES.items()}


def test_a_dead_attempts_files_are_used_again(api: tuple[ModelApi, Any], tmp_path: Path) -> None:
    known, asking = api
    broken = known.files.pop("saved_model.pb")

    def before(name: str) -> None:
        if name == "saved_model.pb":
            poll(lambda: list(tmp_path.rglob("variables.index")), 10, "the other file to be there")

    known.before = before
    with pytest.raises(BrokenContract):
        asking.fetch_model(HANDLE, tmp_path, "1")
    (work,) = tmp_path.iterdir()
    assert work.name.startswith(".1.")
    # As a kill would leave it: half a file, one that is wrong, one that is none of ours.
    (work / "0123.part").write_bytes(b"half")
    (work / "model/saved_model.pb").write_bytes(b"wrong")
    (work / "model/stranger").write_bytes(b"x")
    known.files["saved_model.pb"] = broken
    known.asked.clear()
    asking.fetch_model(HANDLE, tmp_path, "1")
    assert known.asked == ["saved_model.pb"]
    assert tree(tmp_path) == {f"1/{path}": data for path, data in FILES.items()}


def test_attempts_at_the_same_time_do_no_harm(tmp_path: Path) -> None:
    known = ModelApi({**FILES, **{f"variables/{number}": bytes([number]) * 50_000 for number in range(20)}})
    barrier = threading.Barrier(4, timeout=20)
    with Tiny(known.routes()) as tiny:

        def fetch(_: int) -> str:
            asking = service(tiny)
            barrier.wait()
            return asking.fetch_model(HANDLE, tmp_path, "1").location

        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(fetch, range(4))) == {(tmp_path / "1").as_uri()}
    assert tree(tmp_path / "1") == known.files
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_attempts_that_meet_in_every_directory_do_no_harm(tmp_path: Path) -> None:
    known = ModelApi({"saved_model.pb": b"graph", **{f"{number}/a/b/c": b"x" for number in range(12)}})
    with Tiny(known.routes()) as tiny:
        for number in range(10):
            barrier = threading.Barrier(3, timeout=20)

            def fetch(_: int, barrier: threading.Barrier = barrier, version: str = str(number)) -> str:
                asking = service(tiny)
                barrier.wait()
                return asking.fetch_model(HANDLE, tmp_path, version).location

            with ThreadPoolExecutor(3) as pool:
                assert len(set(pool.map(fetch, range(3)))) == 1
            assert tree(tmp_path / str(number)) == known.files
    assert {path.name for path in tmp_path.iterdir()} == {str(number) for number in range(10)}


def test_a_directory_that_goes_while_it_is_made_is_no_error(
    api: tuple[ModelApi, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a file system answers when another attempt removes a directory between two system calls."""
    asking = api[1]
    replace = Path.replace
    calls: list[Path] = []

    def overtaken(path: Path, target: Path) -> Path:
        calls.append(path)
        if path is not calls[0]:
            return replace(path, target)
        asking.fetch_model(HANDLE, tmp_path, "1")
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(Path, "replace", overtaken)
    assert asking.fetch_model(HANDLE, tmp_path, "1").location == (tmp_path / "1").as_uri()
    assert tree(tmp_path / "1") == FILES


def test_links_that_somebody_made_before_are_not_followed(api: tuple[ModelApi, Any], tmp_path: Path) -> None:
    known, asking = api
    models, elsewhere = tmp_path / "models", tmp_path / "elsewhere"
    models.mkdir()
    seen: set[Path] = set()
    known.before = lambda _: seen.update(path for path in models.iterdir() if path.name.endswith(".part"))
    asking.fetch_model(HANDLE, models, "1")
    (part,) = seen
    plans: list[Callable[[Path], object]] = [
        lambda part: part.symlink_to(elsewhere),
        lambda part: (part.mkdir(), (part / "model").symlink_to(elsewhere)),
        lambda part: ((part / "model").mkdir(parents=True), (part / "model/variables").symlink_to(elsewhere)),
        lambda part: ((part / "model").mkdir(parents=True), part.chmod(0o777)),
        lambda part: part.write_text("a file"),
    ]
    for number, plan in enumerate(plans, 2):
        elsewhere.mkdir(exist_ok=True)
        plan(models / part.name.replace(".1.", f".{number}."))
        asking.fetch_model(HANDLE, models, str(number))
        assert tree(models / str(number)) == FILES
        assert list(elsewhere.iterdir()) == []
        assert not any(path.is_symlink() for path in (models / str(number)).rglob("*"))


def test_what_a_killed_fetch_left_long_ago_is_removed(api: tuple[ModelApi, Any], tmp_path: Path) -> None:
    old, new = tmp_path / f".7.{'0' * 16}.part", tmp_path / f".8.{'1' * 16}.part"
    for folder in (old, new):
        (folder / "model").mkdir(parents=True)
    os.utime(old, (0, 0))
    (tmp_path / ".mine.part").mkdir()
    os.utime(tmp_path / ".mine.part", (0, 0))
    api[1].fetch_model(HANDLE, tmp_path, "1")
    assert {path.name for path in tmp_path.iterdir()} == {"1", new.name, ".mine.part"}


def test_folder_objects_in_a_listing_are_no_files(api: tuple[ModelApi, Any], tmp_path: Path) -> None:
    known, asking = api
    known.listing += [
        {"path": "", "key": "m/", "size": 0, "sha256": None},
        {"path": "variables/", "key": "m/variables/", "size": 0, "sha256": None},
        {"path": "variables", "key": "m/variables", "size": 0, "sha256": None},
        {"path": "assets/", "key": "m/assets/", "size": 0, "sha256": hashlib.sha256(b"").hexdigest()},
    ]
    asking.fetch_model(HANDLE, tmp_path, "1")
    assert tree(tmp_path / "1") == FILES


def test_another_model_in_the_place_is_left_alone(api: tuple[ModelApi, Any], tmp_path: Path) -> None:
    _known, asking = api
    asking.fetch_model(HANDLE, tmp_path, "1")
    before = tree(tmp_path)
    changes: list[Callable[[], object]] = [
        lambda: (tmp_path / "1/saved_model.pb").write_bytes(b"GRAPH"),
        lambda: (tmp_path / "1/more").write_bytes(b""),
        (tmp_path / "1/saved_model.pb").unlink,
    ]
    for change in changes:
        change()
        changed = tree(tmp_path)
        with pytest.raises(JobConflict, match=r"holds other files; nothing was changed\. Choose another version"):
            asking.fetch_model(HANDLE, tmp_path, "1")
        assert tree(tmp_path) == changed != before
    (tmp_path / "2").write_text("a file")
    with pytest.raises(JobConflict, match="not a directory"):
        asking.fetch_model(HANDLE, tmp_path, "2")
    (tmp_path / "3").mkdir()
    asking.fetch_model(HANDLE, tmp_path, "3")
    assert tree(tmp_path / "3") == FILES


@pytest.mark.parametrize(
    "path",
    ["../up", "/tmp/jobapi-absolute", "a\\..\\b", "a\nb", "variables/../../up", "saved_model.pb/x", "saved_model.pb"],
)
def test_hostile_names_write_nothing(api: tuple[ModelApi, Any], tmp_path: Path, path: str) -> None:
    known, asking = api
    known.listing.append(
        {"path": path, "key": "m/saved_model.pb", "size": 5, "sha256": hashlib.sha256(b"graph").hexdigest()}
    )
    with pytest.raises(BrokenContract, match="nothing was fetched"):
        asking.fetch_model(HANDLE, tmp_path / "models", "1")
    assert list(tmp_path.iterdir()) == []
    assert known.asked == []
    assert not Path("/tmp/jobapi-absolute").exists()


@pytest.mark.parametrize("data", [b"wrong", b"graph and more", b"gra"])
def test_bytes_that_are_not_the_named_ones(api: tuple[ModelApi, Any], tmp_path: Path, data: bytes) -> None:
    known, asking = api
    known.files["saved_model.pb"] = data
    with pytest.raises((BrokenContract, ServiceUnavailable), match=r"saved_model\.pb"):
        asking.fetch_model(HANDLE, tmp_path, "1")
    assert not (tmp_path / "1").exists()


def test_a_job_without_a_model(jobapi_server: Server, tmp_path: Path) -> None:
    asking = service(jobapi_server)
    job_id = str(uuid.uuid4())
    handle = asking.submit(job(), job_id).handle
    jobapi_server.wait_for(job_id)
    with pytest.raises(NoSavedModel, match=rf"Job {job_id} wrote no model: .*MODEL_DIR"):
        asking.fetch_model(handle, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_job_that_has_not_ended(jobapi_server: Server, tmp_path: Path) -> None:
    asking = service(jobapi_server)
    job_id = str(uuid.uuid4())
    handle = asking.submit(job("import time\ntime.sleep(600)\n"), job_id).handle
    with pytest.raises(JobConflict, match="ended"):
        asking.fetch_model(handle, tmp_path)
    asking.stop(handle)
    jobapi_server.wait_for(job_id)


@pytest.mark.parametrize("version", ["../1", "", ".hidden", "a/b", "x" * 101, "1\n"])
def test_a_version_is_one_directorys_name(api: tuple[ModelApi, Any], tmp_path: Path, version: str) -> None:
    with pytest.raises(InvalidJob, match="Invalid version") as caught:
        api[1].fetch_model(HANDLE, tmp_path, version)
    assert caught.value.field == "version"


@pytest.mark.parametrize("place", [None, 5, "s3://bucket/models", ""])
def test_a_destination_that_is_none(api: tuple[ModelApi, Any], place: Any) -> None:
    with pytest.raises(InvalidJob, match="Invalid destination") as caught:
        api[1].fetch_model(HANDLE, place, "1")
    assert caught.value.field == "destination"


def test_a_destination_that_cannot_be_written(api: tuple[ModelApi, Any], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidJob, match=r"cannot be written: Not a directory; check destination"):
        api[1].fetch_model(HANDLE, tmp_path / "file/models", "1")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_is_full(api: tuple[ModelApi, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one place where no real disk can stand in: the system call says so in its place."""
    _known, asking = api

    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched:
        patched.setattr("airflow_provider_jobapi.services.files.transfers.os.fsync", full)
        with pytest.raises(QuotaReached, match=f"no space left for {tmp_path}/1; free some and try again"):
            asking.fetch_model(HANDLE, tmp_path, "1")
    assert not (tmp_path / "1").exists()
    asking.fetch_model(HANDLE, tmp_path, "1")
    assert tree(tmp_path) == {f"1/{path}": data for path, data in FILES.items()}


def test_a_fetch_leaves_a_line(api: tuple[ModelApi, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        api[1].fetch_model(HANDLE, tmp_path, "1")
        api[1].fetch_model(HANDLE, tmp_path, "1")
    assert caplog.messages[0].startswith("Fetching the model of job 1: 2 files, 5.0 kB, done in ")
    assert caplog.messages[1] == f"The model of job 1 is in {(tmp_path / '1').as_uri()} already."


def test_what_was_fetched_is_on_the_disk(
    api: tuple[ModelApi, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file and every directory is synced before the rename, and the parent after it."""
    synced: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(destinations.os, "fsync", noted)
    api[1].fetch_model(HANDLE, tmp_path, "1")
    assert sum(name.endswith(".part") for name in synced) == len(FILES)
    assert [Path(name).name for name in synced if Path(name).name in {"model", "variables"}] == ["model", "variables"]
    assert synced[-1] == str(tmp_path)
