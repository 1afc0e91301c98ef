# SPDX-License-Identifier: Apache-2.0
"""A SavedModel as a service that lies lists it and sends it: nothing may be written but the model, and all of it or nothing."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import ObjectStoragePath
from airflow.sdk.io import attach
from fsspec.implementations.local import LocalFileSystem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_jobapi.exceptions import (
    BrokenContract,
    InvalidJob,
    JobConflict,
    NoSavedModel,
    ServiceUnavailable,
    TrainingError,
)
from airflow_provider_jobapi.services import retry
from tests.harness.hostile_server import (
    MODEL,
    Answer,
    Endless,
    HostileServer,
    Raw,
    Reply,
    as_json,
    listing,
)
from tests.hostile.lies import BRIEF, HANDLE, check_error, one_clear_error, service, tree

_GRAPH = hashlib.sha256(b"graph").hexdigest()
_GOOD: dict[str, Any] = {"path": "saved_model.pb", "size": 5, "sha256": _GRAPH, "key": "m/saved_model.pb"}


def _lists(hostile: HostileServer, *entries: Any) -> None:
    hostile.says("/model", as_json({"job_id": "x", "model": {"path": "model", "prefix": "m", "files": list(entries)}}))


@pytest.fixture
def untouched(destination: Path, tmp_path: Path) -> Path:
    """The directory around the destination, with something in it that nobody may touch."""
    (tmp_path / "outside" / "precious").write_text("precious")
    (destination / "neighbour").mkdir()
    (destination / "neighbour" / "saved_model.pb").write_text("theirs")
    return tmp_path


PATHS = [
    "../x", "../../precious", "a/../../x", "..", ".", "./saved_model.pb", "a/./b", "a//b", "/etc/cron.d/x", "//etc/x", "a/", "",
    "a\\..\\..\\x", "\\\\host\\share\\x", "C:\\x", "a\nb", "a\rb", "a\0b", "a\x7fb", "\x1b[2J", "\ud800", "a" * 1_025, "~/x\\", None, 7, [], {},
    True, "variables/../../neighbour/saved_model.pb",
]  # fmt: skip


@pytest.mark.parametrize("field", ["path", "key"])
@pytest.mark.parametrize("path", PATHS, ids=[repr(path)[:30] for path in PATHS])
def test_a_name_that_is_none(
    path: Any, field: str, hostile: HostileServer, destination: Path, untouched: Path, tally: Counter[str]
) -> None:
    before = tree(untouched)
    _lists(hostile, _GOOD, _GOOD | {"path": "b", field: path})
    with one_clear_error(BrokenContract):
        service(hostile).fetch_model(HANDLE, destination, "1")
    assert tree(untouched) == before
    assert hostile.count("/objects/") == 0
    tally["hostile model listings"] += 1


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([], id="nothing"),
        pytest.param([_GOOD | {"path": "model.pb"}], id="no-graph"),
        pytest.param([_GOOD | {"path": "deep/saved_model.pb"}], id="graph-too-deep"),
        pytest.param([_GOOD | {"path": "saved_model.pb/x"}], id="graph-as-a-directory"),
        pytest.param([_GOOD | {"path": "SAVED_MODEL.PB"}], id="graph-in-capitals"),
        pytest.param([_GOOD, _GOOD], id="twice"),
        pytest.param([_GOOD, _GOOD | {"path": "a"}, _GOOD | {"path": "a/b"}], id="file-and-directory"),
        pytest.param([_GOOD, _GOOD | {"path": "a/b/c"}, _GOOD | {"path": "a"}], id="directory-and-file"),
        pytest.param([_GOOD | {"size": -1}], id="negative"),
        pytest.param([_GOOD | {"size": "5"}], id="size-as-text"),
        pytest.param([_GOOD | {"size": 5.5}], id="half-a-byte"),
        pytest.param([_GOOD | {"size": True}], id="size-as-boolean"),
        pytest.param([_GOOD | {"size": None}], id="no-size"),
        pytest.param([_GOOD | {"sha256": ""}], id="empty-hash"),
        pytest.param([_GOOD | {"sha256": _GRAPH.upper()}], id="hash-in-capitals"),
        pytest.param([_GOOD | {"sha256": "z" * 64}], id="no-hash-at-all"),
        pytest.param([_GOOD | {"sha256": f"{_GRAPH}\n"}], id="hash-and-newline"),
        pytest.param(["saved_model.pb"], id="a-text"),
        pytest.param([[_GOOD]], id="a-list"),
        pytest.param([None], id="null"),
    ],
)
def test_a_listing_that_is_no_model(
    entries: list[Any], hostile: HostileServer, destination: Path, untouched: Path, tally: Counter[str]
) -> None:
    before = tree(untouched)
    _lists(hostile, *entries)
    with one_clear_error(BrokenContract):
        service(hostile).fetch_model(HANDLE, destination, "1")
    assert tree(untouched) == before
    tally["hostile model listings"] += 1


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"model": {}},
        {"model": {"files": None}},
        {"model": {"files": {}}},
        {"model": []},
        {"model": "x"},
        {"model": True},
    ],
    ids=str,
)
def test_an_answer_that_is_no_listing(
    answer: dict[str, Any], hostile: HostileServer, destination: Path, tally: Counter[str]
) -> None:
    hostile.says("/model", as_json(answer))
    with one_clear_error(BrokenContract):
        service(hostile).fetch_model(HANDLE, destination, "1")
    tally["hostile model listings"] += 1


def test_no_model_is_said_as_such(hostile: HostileServer, destination: Path) -> None:
    hostile.says("/model", as_json({"job_id": "x", "model": None}))
    with one_clear_error(NoSavedModel):
        service(hostile).fetch_model(HANDLE, destination, "1")


@pytest.mark.parametrize("place", ["local", "remote"])
@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Answer(200, {}, b"GRAPH"), id="other-bytes"),
        pytest.param(Answer(200, {}, b"grap"), id="too-few"),
        pytest.param(Answer(200, {}, b""), id="none"),
        pytest.param(Answer(200, {}, b"graph" * 1_000), id="too-many"),
        pytest.param(Answer(200, {"Content-Length": "5"}, b"gra"), id="broken-off"),
        pytest.param(Answer(206, {"Content-Range": "bytes 0-4/5"}, b"raph!"), id="another-range"),
        pytest.param(
            Answer(200, {"Content-Encoding": "gzip"}, b"\x1f\x8b\x08\0\0\0\0\0\0\3" + b"\xff" * 20), id="compressed"
        ),
        pytest.param(Answer(204), id="no-content"),
        pytest.param(Answer(404, {"Content-Type": "application/json"}, b"{}"), id="not-there"),
        pytest.param(Answer(500), id="a-fault"),
        pytest.param(Endless(b"graph" * 10_000, b"HTTP/1.1 200 OK\r\n\r\n"), id="endless"),
        pytest.param(
            Endless(b"5\r\ngraph\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), id="endless-chunks"
        ),
        pytest.param(Raw(b""), id="nothing"),
    ],
)
def test_bytes_that_are_not_those_of_the_listing(
    reply: Reply, place: str, hostile: HostileServer, destination: Path, untouched: Path, tally: Counter[str]
) -> None:
    before = tree(untouched)
    hostile.says("/objects/m/saved_model.pb", reply)
    with one_clear_error(BrokenContract, ServiceUnavailable):
        service(hostile).fetch_model(HANDLE, _destination(destination, place), "1")
    # What came of the others may wait for the next attempt, hidden, and is no model to anybody.
    assert not (destination / "1" / "saved_model.pb").exists()
    assert not [
        name for name in tree(untouched) - before if not name.startswith(("outside/models/.1.", "outside/models/1"))
    ]
    hostile.says("/objects/m/saved_model.pb", Answer(200, {}, b"graph"))
    service(hostile).fetch_model(HANDLE, _destination(destination, place), "1")
    assert {path: (destination / "1" / path).read_bytes() for path in MODEL} == MODEL
    assert tree(destination / "1") == {*MODEL, "variables"}
    tally["hostile model files"] += 1


class _WithDirectories(LocalFileSystem):
    """This machine's files as a remote file system, as SFTP."""

    protocol = "sftp"
    cachable = False


def _destination(destination: Path, place: str) -> Any:
    """The same directory as a path of this machine, or behind the interface of object stores."""
    if place == "local":
        return destination
    attach("sftp", conn_id="hostile", fs=_WithDirectories())
    return ObjectStoragePath(f"sftp://hostile@{destination}")


def test_links_that_stand_in_the_destination_lead_nowhere(
    hostile: HostileServer, destination: Path, untouched: Path
) -> None:
    """Somebody who may write to the destination waits for the fetch with a link in the place of the version."""
    outside = untouched / "elsewhere"
    outside.mkdir()
    (destination / "1").symlink_to(outside)
    before = tree(untouched)
    with retry.testing():
        try:
            service(hostile).fetch_model(HANDLE, destination, "1")
        except TrainingError as error:
            check_error(error, JobConflict, InvalidJob)
    assert not [name for name in tree(untouched) - before if not name.startswith("outside/models/.1.")]
    assert list(outside.iterdir()) == []


@settings(max_examples=120, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "path": st.sampled_from(["saved_model.pb", "a", "a/b", "../a", "variables/x", "/x"])
                | st.text(max_size=12)
                | st.integers(),
                "key": st.sampled_from(["m/saved_model.pb", "m/variables/variables.index", "m/none", "../m"])
                | st.text(max_size=8),
                "size": st.sampled_from([5, 5_000, 0, -1]) | st.floats(),
                "sha256": st.sampled_from([_GRAPH, hashlib.sha256(b"").hexdigest(), "0" * 64, ""]),
            },
        ),
        max_size=4,
    )
)
def test_no_listing_writes_beside_the_destination(
    hostile: HostileServer, tally: Counter[str], tmp_path: Path, entries: list[dict[str, Any]]
) -> None:
    place = tmp_path / "around" / "models"
    place.mkdir(parents=True, exist_ok=True)
    body = json.dumps({"job_id": "x", "model": {"path": "model", "prefix": "m", "files": entries}})
    hostile.says("/model", Answer(200, {"Content-Type": "application/json"}, body.encode()))
    tally["hostile model listings"] += 1
    with retry.testing():
        try:
            fetched = service(hostile).fetch_model(HANDLE, place, "1")
        except TrainingError as error:
            check_error(error)
            assert not (place / "1").exists()
        else:
            assert (place / "1" / "saved_model.pb").read_bytes() in {b"graph", b"index" * 1_000, b""}
            assert {file.path for file in fetched.files} <= tree(place / "1")
    assert {path.name for path in (tmp_path / "around").iterdir()} == {"models"}
    for name in os.listdir(place):  # noqa: PTH208
        import shutil

        shutil.rmtree(place / name)


@pytest.mark.parametrize(
    "finished",
    [
        "1969-12-31T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "0001-01-02T00:00:00Z",
        "../../x",
        None,
        12,
        "2026-01-01T00:00:00+23:59",
    ],
)
def test_the_version_is_a_number_whatever_time_the_service_tells(
    finished: Any, hostile: HostileServer, destination: Path, untouched: Path
) -> None:
    job_id = HANDLE["job_id"]
    hostile.says(
        f"GET /api/v2/jobs/{job_id}", as_json({"job_id": job_id, "status": "SUCCESSFUL", "finishTime": finished})
    )
    hostile.says("/model", as_json(listing()))
    before = {path.name for path in destination.iterdir()}
    with retry.testing():
        try:
            service(hostile).fetch_model(HANDLE, destination)
        except TrainingError as error:
            check_error(error, BrokenContract)
            assert {path.name for path in destination.iterdir()} == before
        else:
            (made,) = {path.name for path in destination.iterdir()} - before
            assert int(made) >= 1


@pytest.mark.parametrize("version", ["..", ".", "", "a/b", "/x", "a\0", "1\n", "-1", " ", "a" * 101, "../1"])
def test_a_version_that_is_a_path_is_refused(
    version: str, hostile: HostileServer, destination: Path, untouched: Path
) -> None:
    before = tree(untouched)
    with one_clear_error():
        service(hostile).fetch_model(HANDLE, destination, version)
    assert tree(untouched) == before


# The uploads of a submit


@pytest.mark.parametrize(
    "page",
    [
        {"objects": None, "next": None}, {"objects": [1], "next": None}, {"objects": [{"key": 1, "size": 1, "sha256": None}], "next": None},
        {"objects": [{"key": "a", "size": "1", "sha256": None}], "next": None}, {"objects": [], "next": 7}, {"objects": [], "next": ["a"]}, [], {},
    ],
    ids=str,
)  # fmt: skip
def test_a_listing_of_the_storage_that_is_none(page: Any, hostile: HostileServer, tally: Counter[str]) -> None:
    _submits(hostile)
    hostile.says("/storage/objects?", as_json(page))
    with one_clear_error(BrokenContract):
        _submit(hostile)
    tally["lies told to the worker"] += 1


def test_a_listing_of_something_else(hostile: HostileServer) -> None:
    _submits(hostile)
    hostile.says("/storage/objects?", as_json({"objects": [{"key": "x", "size": 1, "sha256": None}], "next": None}))
    with one_clear_error(BrokenContract):
        _submit(hostile)


def test_a_listing_that_goes_round_in_a_circle(hostile: HostileServer) -> None:
    _submits(hostile)
    hostile.says("/storage/objects?", as_json({"objects": [], "next": "b"}), as_json({"objects": [], "next": "a"}))
    with one_clear_error(BrokenContract):
        _submit(hostile)
    assert hostile.count("/storage/objects?") == 2


def test_a_listing_without_end_is_given_up(hostile: HostileServer, tally: Counter[str]) -> None:
    """Every page moves on and has a thousand objects more: memory and time must have a bound."""
    import itertools

    from tests.harness.hostile_server import Computed

    numbers = itertools.count()

    def page(_seen: Any) -> Answer:
        base = next(numbers) * 1_000
        objects = [
            {"key": f"jobs/test-{HANDLE['job_id']}/{base + number:012}", "size": 1, "sha256": None}
            for number in range(1_000)
        ]
        return as_json({"objects": objects, "next": objects[-1]["key"]})

    _submits(hostile)
    hostile.says("/storage/objects?", Computed(page))
    with one_clear_error(BrokenContract, within=60):
        _submit(hostile)
    tally["lies told to the worker"] += 1


@pytest.mark.parametrize("claimed", [{"sha256": None}, {"sha256": "0" * 64}, {"size": 10**30}, {"sha256": "x"}])
def test_what_the_storage_claims_to_have_is_sent_unless_it_is_the_same(
    claimed: dict[str, Any], hostile: HostileServer
) -> None:
    _submits(hostile)
    content = b"print('hello')\n"
    key = f"jobs/test-{HANDLE['job_id']}/train.py"
    entry = {"key": key, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()} | claimed
    hostile.says("/storage/objects?", as_json({"objects": [entry], "next": None}))
    hostile.says(f"HEAD /api/v2/storage/objects/{key}", Answer(404))
    with retry.testing():
        _submit(hostile)
    assert hostile.count(f"PUT /api/v2/storage/objects/{key}") == 1


def _submits(hostile: HostileServer) -> None:
    job_id = HANDLE["job_id"]
    hostile.says(f"GET /api/v2/jobs/{job_id}", as_json({"detail": "None."}, 404))
    hostile.says(f"POST /api/v2/jobs/{job_id}", as_json({"job_id": job_id, "status": "PENDING"}, 201))


def _submit(hostile: HostileServer) -> None:
    from tests.hostile.lies import job

    service(hostile, timeout=max(BRIEF, 2.0)).submit(job(), HANDLE["job_id"])
