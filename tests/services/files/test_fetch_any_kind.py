# SPDX-License-Identifier: Apache-2.0
"""A model of any kind, and a working directory, through the service: listed in pages, fetched whole."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import BrokenContract, InvalidJob, JobNotFound, NoSavedModel
from airflow_provider_jobapi.services.base import KeepsWork
from airflow_provider_jobapi.services.jobapi import contract
from tests.harness.client import job, service
from tests.harness.server import Server
from tests.harness.tiny import Asked, Reply, Tiny, reply
from tests.services.files.test_fetch import tree

pytestmark = pytest.mark.usefixtures("no_waits")

BOTH = """
import os, pathlib
place = pathlib.Path(os.environ["MODEL_DIR"])
files = {"tf/saved_model.pb": b"graph", "MLmodel": b"flavors: {}", "a/model.pkl": b"\\x80\\x04\\x95."}
for path, content in files.items():
    (place / path).parent.mkdir(parents=True, exist_ok=True)
    (place / path).write_bytes(content)
"""
ELSEWHERE = """
import pathlib
for number in range(7):
    pathlib.Path(f"out-{number}").mkdir()
    pathlib.Path(f"out-{number}/w ä#?%.bin").write_bytes(bytes([number]) * number)
raise SystemExit(CODE)
"""
HANDLE = {"job_id": "1"}


def run(server: Server, script: str) -> dict[str, Any]:
    job_id = str(uuid.uuid4())
    handle = service(server).submit(job(script), job_id).handle
    server.wait_for(job_id)
    return handle


@pytest.fixture(scope="module")
def both(jobapi_server: Server) -> dict[str, Any]:
    """A job that left a SavedModel in an MLflow model."""
    return run(jobapi_server, BOTH)


@pytest.mark.parametrize(
    ("kind", "fetched", "paths"),
    [
        (None, "saved_model", {"saved_model.pb"}),
        ("saved_model", "saved_model", {"saved_model.pb"}),
        ("mlflow", "mlflow", {"tf/saved_model.pb", "MLmodel", "a/model.pkl"}),
        ("files", "mlflow", {"tf/saved_model.pb", "MLmodel", "a/model.pkl"}),
    ],
)
@pytest.mark.parametrize("page", [1, 10_000])
def test_the_kind_that_is_asked_for(
    jobapi_server: Server, both: dict[str, Any], tmp_path: Path, monkeypatch: Any, kind: Any, fetched: str, paths: Any,
    page: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(contract, "LISTING_PAGE", page)
    model = service(jobapi_server).fetch_model(both, tmp_path, "1", kind)
    assert (model.kind, model.unsafe_to_load) == (fetched, fetched == "mlflow")
    assert tree(tmp_path / "1").keys() == paths
    assert {file.path for file in model.files} == paths
    assert all(
        file.sha256 == hashlib.sha256((tmp_path / "1" / file.path).read_bytes()).hexdigest() for file in model.files
    )


def test_another_kind_than_the_jobs_is_refused(jobapi_server: Server, both: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(NoSavedModel, match="left no model of the kind 'onnx'; its model is of the kind 'saved_model'"):
        service(jobapi_server).fetch_model(both, tmp_path, "1", "onnx")
    assert list(tmp_path.iterdir()) == []
    found = service(jobapi_server).model(both)
    assert found is not None
    assert (found.kind, found.root, found.unsafe_to_load) == ("saved_model", "model/tf", False)


@pytest.mark.parametrize("code", [0, 3])
def test_a_working_directory_is_fetched(
    jobapi_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(contract, "LISTING_PAGE", 2)
    handle = run(jobapi_server, ELSEWHERE.replace("CODE", str(code)))
    asking = service(jobapi_server)
    assert isinstance(asking, KeepsWork)
    kept = asking.work(handle)
    assert kept is not None
    assert kept.until is not None
    assert kept.until > datetime.now(UTC)
    why = "wrote no model: " if code == 0 else r"no model to fetch: Job .* failed: NonZeroExit, exit code 3\."
    with pytest.raises(NoSavedModel, match=rf"{why}.* `jobapi model get --work {handle['job_id']} DEST"):
        asking.fetch_model(handle, tmp_path, "1")
    fetched = asking.fetch_work(handle, tmp_path, "1")
    found = tree(tmp_path / "1")
    assert {name: data for name, data in found.items() if name.startswith("out")} == {
        f"out-{number}/w ä#?%.bin": bytes([number]) * number for number in range(7)
    }
    assert {file.path for file in fetched.files} == found.keys()
    assert ("train.py" in found) is (code == 3)
    assert asking.fetch_work(handle, tmp_path, "1").location == fetched.location


def test_there_is_no_working_directory_of_a_job_whose_model_is_stored(
    jobapi_server: Server, both: dict[str, Any], tmp_path: Path
) -> None:
    assert service(jobapi_server).work(both) is None
    with pytest.raises(NoSavedModel, match="is gone, or has no files"):
        service(jobapi_server).fetch_work(both, tmp_path, "1")


def test_a_model_that_was_not_stored_is_no_model_that_was_not_written(jobapi_server: Server, tmp_path: Path) -> None:
    script = "import os; os.symlink('/etc/hostname', os.environ['MODEL_DIR'] + '/x'); open('weights', 'w').close()"
    handle = run(jobapi_server, script)
    with pytest.raises(NoSavedModel) as caught:
        service(jobapi_server).fetch_model(handle, tmp_path, "1")
    said = str(caught.value)
    assert said.startswith(f"There is no model to fetch: Job {handle['job_id']} ("), said
    assert "failed: ModelUnreadable, exit code 0. The job succeeded, but 'model/x' in MODEL_DIR is a link that" in said
    assert said.count(f"`jobapi model get --work {handle['job_id']} DESTINATION`") == 1
    assert "wrote no model" not in said


def test_what_only_the_server_sees_to_be_unsafe_is_unsafe(jobapi_server: Server, tmp_path: Path) -> None:
    script = (
        "import os, pickle; folder = os.environ['MODEL_DIR']; open(folder + '/net.onnx', 'wb').write(b'\x08\x0e:7'); "
        "pickle.dump([1], open(folder + '/encoder', 'wb'))"
    )
    handle = run(jobapi_server, script)
    asking = service(jobapi_server)
    found = asking.model(handle)
    assert found is not None
    assert (found.kind, found.unsafe_to_load, replace(found, unsafe=False).unsafe_to_load) == ("onnx", True, False)
    assert asking.fetch_model(handle, tmp_path, "1").unsafe_to_load
    assert asking.fetch_model(handle, tmp_path, "1").unsafe_to_load, "it is there already"


STATUS = {"GET /api/v2/jobs/1": reply({"job_id": "1", "status": "SUCCESSFUL", "finishTime": "2026-11-21T12:00:00Z"})}


def entry(path: str, **more: Any) -> dict[str, Any]:
    return {"path": path, "key": f"m/{path}", "size": 1, **more}


def test_a_server_of_the_first_version_is_read(tmp_path: Path) -> None:
    """It knows no pages, no kinds, and no working directories."""
    listed = {"path": "model/1", "prefix": "m", "files": [entry("saved_model.pb")]}
    no_route = reply({"status": 404, "detail": "There is nothing at this path."}, 404)
    old = {**STATUS, "GET /api/v2/jobs/1/work": no_route}
    with Tiny({**old, "GET /api/v2/jobs/1/model": reply({"job_id": "1", "model": listed})}) as tiny:
        found = service(tiny).model(HANDLE)
        assert found is not None
        assert (found.kind, found.root, found.files[0].sha256) == ("saved_model", "model/1", None)
        with pytest.raises(InvalidJob, match="does not show the working directories of jobs"):
            service(tiny).work(HANDLE)
    with Tiny({"GET /api/v2/jobs/1/model": reply({"job_id": "1", "model": None})}) as tiny:
        assert service(tiny).model(HANDLE) is None
        with pytest.raises(NoSavedModel, match=r"such as model\.export\(os\.environ\['MODEL_DIR'\]\)\.$"):
            service(tiny).fetch_model(HANDLE, tmp_path)
        with pytest.raises(JobNotFound):
            service(tiny).work(HANDLE)


@pytest.mark.parametrize(
    ("pages", "said"),
    [
        ([(["b"], "b", "onnx"), (["c"], "a", "onnx")], "repeats its pages"),
        ([(["b"], "b", "onnx"), (["c"], "b", "onnx")], "repeats its pages"),
        ([([], "b", "onnx")], "repeats its pages"),
        ([(["b"], "b", "onnx"), (["b"], None, "onnx")], "'b' twice"),
        ([(["b"], "b", "onnx"), (["c"], None, "torch")], "several kinds of one model"),
        ([(["b"], 5, "onnx")], "a next page that is not a text"),
        ([(["b"], None, "O N N X")], "the kind 'O N N X', not a word"),
        ([(["../b"], None, "onnx")], "nothing was fetched"),
    ],
)
def test_pages_that_lie(tmp_path: Path, pages: list[Any], said: str) -> None:
    left = list(pages)

    def answer(_asked: Asked) -> Reply:
        paths, following, kind = left.pop(0)
        return reply({"model": {"kind": kind, "files": [entry(path) for path in paths]}, "next": following})

    with Tiny({**STATUS, "GET /api/v2/jobs/1/model": answer}) as tiny, pytest.raises(BrokenContract, match=said):
        service(tiny).fetch_model(HANDLE, tmp_path, "1")
    assert list(tmp_path.iterdir()) == []


def test_pages_that_do_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_jobapi.services.jobapi.results.MOST_FILES", 10)
    count = 0

    def answer(_asked: Asked) -> Reply:
        nonlocal count
        count += 1
        return reply({"model": {"kind": "onnx", "files": [entry(f"{count:03}")]}, "next": f"{count:03}"})

    with Tiny({"GET /api/v2/jobs/1/model": answer}) as tiny, pytest.raises(BrokenContract, match="more than 10 files"):
        service(tiny).fetch_model(HANDLE, tmp_path, "1")
    assert count == 11
