# SPDX-License-Identifier: Apache-2.0
"""The model below a job's train_url, in a store that is a directory."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.base import ModelFile
from airflow_provider_jobapi.services.files.stores import S3Access, S3Store, StoredObject
from airflow_provider_jobapi.services.modelarts import boot, boot_work_folder
from airflow_provider_jobapi.services.modelarts.obs import bucket_and_key, find_model
from airflow_provider_jobapi.training.model import HEAD_BYTES, MOST_FILES
from tests.harness.local_store import LocalStore
from tests.harness.moto_s3 import MotoS3
from tests.harness.s3 import BUCKET, KEY, SECRET

FOLDER = "jobs/x/output/"


def put(root: Path, files: dict[str, bytes]) -> LocalStore:
    for path, content in files.items():
        target = root / FOLDER / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return LocalStore(root)


def model_files(store: Any, folder: str, kind: str | None = None, **options: Any) -> dict[ModelFile, str] | None:
    found = find_model(store, folder, kind, **options)
    return None if found is None else found.keys


def told(**files: dict[str, Any]) -> bytes:
    return json.dumps({"files": [{"path": path, **about} for path, about in files.items()]}).encode()


@pytest.mark.parametrize("url", ["/bucket/a/b/", "obs://bucket/a/b/", "s3://bucket/a/b"])
def test_the_spellings_of_a_folder(url: str) -> None:
    assert bucket_and_key(url) == ("bucket", "a/b/")


@pytest.mark.parametrize("url", ["", "bucket/a", "/bucket/", "/bucket"])
def test_invalid_folders(url: str) -> None:
    with pytest.raises(BrokenContract):
        bucket_and_key(url)


def test_no_model(tmp_path: Path) -> None:
    assert model_files(put(tmp_path, {".keep": b"", boot.FILES: told()}), FOLDER) is None


def test_a_model_that_the_boot_file_lists(tmp_path: Path) -> None:
    listed = {"model/saved_model.pb": {"size": 5, "sha256": "ab" * 32, "modified": 1.0}}
    store = put(tmp_path, {"model/saved_model.pb": b"graph", "log.txt": b"", boot.FILES: told(**listed)})
    found = model_files(store, FOLDER)
    assert found is not None
    # The hash is the list's, so the file was not read for it.
    assert {file.path: (file.size, file.sha256, key) for file, key in found.items()} == {
        "saved_model.pb": (5, "ab" * 32, f"{FOLDER}model/saved_model.pb")
    }


@pytest.mark.parametrize("listed", [None, b"{", b"[]", told(**{"saved_model.pb": {"size": 4, "sha256": "a" * 64}})])
def test_hashes_of_a_model_without_a_list(tmp_path: Path, listed: bytes | None) -> None:
    files = {".keep": b"", "saved_model.pb": b"graph", "variables/x": b"1"}
    store = put(tmp_path, files if listed is None else files | {boot.FILES: listed})
    found = model_files(store, FOLDER)
    assert found is not None
    assert {file.path: file.sha256 for file in found} == {
        "saved_model.pb": hashlib.sha256(b"graph").hexdigest(),
        "variables/x": hashlib.sha256(b"1").hexdigest(),
    }


def test_files_can_be_listed_without_reading_them_for_their_hashes(tmp_path: Path) -> None:
    listed = told(**{"saved_model.pb": {"size": 5, "sha256": "ab" * 32}})
    store = put(tmp_path, {"saved_model.pb": b"graph", "variables/x": b"1", boot.FILES: listed})
    found = model_files(store, FOLDER, compute_hashes=False)
    assert {file.path: file.sha256 for file in found or {}} == {"saved_model.pb": "ab" * 32, "variables/x": None}


def test_the_newest_model_by_its_modification_time(tmp_path: Path) -> None:
    listed = {
        "export/1/saved_model.pb": {"size": 1, "sha256": "a" * 64, "modified": 20.0},
        "export/2/saved_model.pb": {"size": 1, "sha256": "b" * 64, "modified": 10.0},
    }
    store = put(tmp_path, dict.fromkeys(listed, b"x") | {boot.FILES: told(**listed)})
    assert [file.sha256 for file in model_files(store, FOLDER) or {}] == ["a" * 64]


def test_an_invalid_hash_is_refused(tmp_path: Path) -> None:
    store = put(tmp_path, {"saved_model.pb": b"x", boot.FILES: told(**{"saved_model.pb": {"size": 1, "sha256": "x"}})})
    with pytest.raises(BrokenContract, match="SHA-256"):
        model_files(store, FOLDER)


class WithFolders(LocalStore):
    """A store whose folders are empty objects, as the console of OBS makes them."""

    def list_objects(self, prefix: str) -> Iterator[StoredObject]:
        for folder in ("", "model/", "model/assets/", "empty/"):
            yield StoredObject(f"{FOLDER}{folder}", 0, None, 9e9)
        yield from super().list_objects(prefix)


def test_folder_objects_are_no_files_of_the_model(tmp_path: Path) -> None:
    put(tmp_path, {"model/saved_model.pb": b"graph", "model/assets/words": b"a"})
    files = model_files(WithFolders(tmp_path), FOLDER)
    assert {file.path for file in files or {}} == {"saved_model.pb", "assets/words"}


def test_folder_objects_in_a_real_bucket(moto_s3: MotoS3) -> None:
    for key in ("", "model/", "model/assets/", "empty/"):
        moto_s3.put(f"{FOLDER}{key}")
    moto_s3.put(f"{FOLDER}model/saved_model.pb", b"graph")
    store = S3Store(S3Access(url=moto_s3.url, bucket=BUCKET, access_key=KEY, secret_key=SECRET))
    assert {file.path for file in model_files(store, FOLDER) or {}} == {"saved_model.pb"}


TORCH = b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x0f\0\x12\0archive/data.pkl"


def written(model: str, files: dict[str, bytes]) -> dict[str, bytes]:
    """An output folder as the boot file leaves it."""
    entries = [
        {
            "path": path,
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "modified": 1.0,
            "head": base64.b64encode(content[:512]).decode(),
        }
        for path, content in files.items()
    ]
    return files | {boot.FILES: json.dumps({"files": entries, "model": model}).encode()}


@pytest.mark.parametrize(
    ("kind", "root", "model", "files"),
    [
        ("onnx", "model", "model", {"model/net.onnx": b"onnx", "model/labels/words.txt": b"a"}),
        ("torch", "model_", "model_", {"model_/weights": TORCH}),
        ("pickle", ".", "model", {"model": b"\x80\x04\x95\x03"}),
        ("xgboost", "model", "model", {"model/model.json": b'{"learner":{'}),
        ("files", "model", "model", {"model/notes.txt": b"x"}),
        ("saved_model", "export/1", "model", {"export/1/saved_model.pb": b"g", "model/words.txt": b"a"}),
    ],
)
def test_a_model_of_any_kind(tmp_path: Path, kind: str, root: str, model: str, files: dict[str, bytes]) -> None:
    found = find_model(put(tmp_path, written(model, files)), FOLDER)
    assert found is not None
    assert (found.kind, found.root) == (kind, root)
    inside = {path: content for path, content in files.items() if root == "." or path.startswith(f"{root}/")}
    assert {file.path: file.sha256 for file in found.keys} == {
        path.removeprefix(f"{root}/"): hashlib.sha256(content).hexdigest() for path, content in inside.items()
    }
    assert set(found.keys.values()) == {f"{FOLDER}{path}" for path in inside}


def test_all_of_the_model_directory_beside_a_saved_model(tmp_path: Path) -> None:
    files = {"model/tf/saved_model.pb": b"graph", "model/net.onnx": b"onnx", "model/words.txt": b"a"}
    store = put(tmp_path, written("model", files))
    assert {file.path for file in model_files(store, FOLDER) or {}} == {"saved_model.pb"}
    for kind in ("files", "onnx"):
        found = find_model(store, FOLDER, kind)
        assert found is not None
        assert (found.kind, {file.path for file in found.keys}) == (
            "onnx",
            {"tf/saved_model.pb", "net.onnx", "words.txt"},
        )
    for kind in ("saved_model", "torch"):
        assert {file.path for file in model_files(store, FOLDER, kind) or {}} == {"saved_model.pb"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"model/net.onnx": b"onnx", "log.txt": b"log"}, {"net.onnx"}),
        ({"net.onnx": b"onnx", "labels/words.txt": b"a"}, {"net.onnx", "labels/words.txt"}),
    ],
)
def test_a_boot_file_of_the_users_own_writes_no_list(
    tmp_path: Path, files: dict[str, bytes], expected: set[str]
) -> None:
    found = find_model(put(tmp_path, {".keep": b"", **files}), FOLDER, compute_hashes=False)
    assert found is not None
    assert (found.kind, {file.path: file.sha256 for file in found.keys}) == ("onnx", dict.fromkeys(expected))


def test_a_model_that_is_no_longer_whole_is_refused(tmp_path: Path) -> None:
    store = put(tmp_path, written("model", {"model/net.onnx": b"onnx", "model/net.onnx.data": b"weights"}))
    (tmp_path / FOLDER / "model/net.onnx.data").unlink()
    with pytest.raises(BrokenContract, match=r"no longer has 'model/net.onnx.data' of the job's model"):
        find_model(store, FOLDER)


def test_an_empty_model_directory_is_no_model(tmp_path: Path) -> None:
    assert find_model(put(tmp_path, {".keep": b"", **written("model", {})}), FOLDER) is None


def test_the_boot_file_keeps_the_bounds_of_a_jobapi() -> None:
    assert (boot_work_folder.MOST_FILES, boot.HEAD_BYTES) == (MOST_FILES, HEAD_BYTES)
