# SPDX-License-Identifier: Apache-2.0
"""Models of all kinds as SageMaker leaves them in S3."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Connection

from airflow_provider_jobapi.exceptions import BrokenContract, ConnectionProblem, NoSavedModel
from airflow_provider_jobapi.hooks.clients import AwsOfHook
from airflow_provider_jobapi.services.files.stores import S3Store
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.services.sagemaker_ack import model
from airflow_provider_jobapi.services.sagemaker_ack.handles import JobHandle
from airflow_provider_jobapi.services.sagemaker_ack.storage import store_of
from tests.harness.ack.cloud import REGION, Cloud
from tests.harness.ack.job import packed

log = logging.getLogger(__name__)
ONCE = Retry(attempts=1)


@pytest.fixture
def stores(cloud: Cloud) -> Callable[[str], S3Store]:
    given = cloud.connection
    connection = Connection(conn_id="aws", **{**given, "extra": json.dumps(given["extra"])})
    aws = AwsOfHook(connection, REGION, "sagemaker", lambda _: None)
    return lambda bucket: store_of(aws, bucket, REGION)


@pytest.fixture
def url(cloud: Cloud) -> str:
    return f"s3://{cloud.bucket}/{uuid.uuid4()}/output/model.tar.gz"


def handle(**more: Any) -> JobHandle:
    return JobHandle("1", "n", "job", REGION, "s3://b", **more)


def fetch(stores: Any, url: str, target: Path, kind: str | None = None, **more: Any) -> dict[str, bytes]:
    fetched = model.fetched(stores, handle(**more), url, (target, "1", kind), ONCE, log, None)
    root = target / "1"
    found = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert sorted(found) == sorted(file.path for file in fetched.files)
    return found


SAVED = {"export/1/saved_model.pb": b"pb", "export/1/variables/v": b"v", "notes.txt": b"n"}


def test_a_saved_model_is_its_folder_and_files_are_all(cloud: Cloud, stores: Any, url: str, tmp_path: Path) -> None:
    cloud.put(url, packed(SAVED))
    assert fetch(stores, url, tmp_path / "a") == {"saved_model.pb": b"pb", "variables/v": b"v"}
    assert fetch(stores, url, tmp_path / "b", "files") == SAVED
    listed = model.listed(stores, handle(), url, ONCE, log)
    assert listed is not None
    assert (listed.kind, listed.root) == ("saved_model", "export/1")


@pytest.mark.parametrize(
    ("files", "kind"),
    [({"model.onnx": b"\x08\x07"}, "onnx"), ({"a.safetensors": b"\x02" + bytes(7) + b"{}"}, "safetensors"),
     ({"x/y.txt": b"1"}, "files")],
)  # fmt: skip
def test_kinds(cloud: Cloud, stores: Any, url: str, tmp_path: Path, files: dict[str, bytes], kind: str) -> None:
    cloud.put(url, packed(files))
    listed = model.listed(stores, handle(), url, ONCE, log)
    assert listed is not None
    assert listed.kind == kind
    assert fetch(stores, url, tmp_path) == files


def test_left_packed(cloud: Cloud, stores: Any, url: str, tmp_path: Path) -> None:
    content = packed(SAVED)
    cloud.put(url, content)
    assert fetch(stores, url, tmp_path, packed=True) == {"model.tar.gz": content}
    listed = model.listed(stores, handle(packed=True), url, ONCE, log)
    assert listed is not None
    assert [file.path for file in listed.files] == ["model.tar.gz"]


def test_a_large_archive_is_not_read_for_its_kind(
    cloud: Cloud, stores: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.put(url, packed(SAVED))
    monkeypatch.setattr(model, "LARGEST_LISTED", 10)
    listed = model.listed(stores, handle(), url, ONCE, log)
    assert listed is not None
    assert listed.kind == "files"


def test_a_folder_of_files(cloud: Cloud, stores: Any, url: str, tmp_path: Path) -> None:
    folder = url.removesuffix(".tar.gz") + "/"
    for path, content in SAVED.items():
        cloud.put(f"{folder}{path}", content)
    assert fetch(stores, folder, tmp_path) == {"saved_model.pb": b"pb", "variables/v": b"v"}
    # An object that is gone does not say that its job left no archive.
    assert fetch(stores, url, tmp_path) == {"saved_model.pb": b"pb", "variables/v": b"v"}


def test_no_model(cloud: Cloud, stores: Any, url: str, tmp_path: Path) -> None:
    assert model.listed(stores, handle(), url, ONCE, log) is None
    with pytest.raises(NoSavedModel, match=r"wrote no model: .* files outside of MODEL_DIR \(/opt/ml/model\) are lost"):
        fetch(stores, url, tmp_path)
    cloud.put(url, packed({}))
    assert model.listed(stores, handle(), url, ONCE, log) is None


def test_a_damaged_archive_leaves_nothing(cloud: Cloud, stores: Any, url: str, tmp_path: Path) -> None:
    cloud.put(url, packed(SAVED)[:-20])
    with pytest.raises(BrokenContract, match="is damaged"):
        fetch(stores, url, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_fetched_twice(cloud: Cloud, stores: Any, url: str, tmp_path: Path) -> None:
    cloud.put(url, packed(SAVED))
    assert fetch(stores, url, tmp_path) == fetch(stores, url, tmp_path)


def test_a_bucket_that_is_not_there(stores: Any, tmp_path: Path) -> None:
    with pytest.raises(ConnectionProblem, match=r"s3|bucket"):
        fetch(stores, "s3://not-there-at-all/x/model.tar.gz", tmp_path)
