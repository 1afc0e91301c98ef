# SPDX-License-Identifier: Apache-2.0
"""All of ``MODEL_DIR`` is stored, whatever lies in it: whole, or refused in one sentence."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from airflow_provider_jobapi.server.store import model_files, model_listing
from airflow_provider_jobapi.server.store.model_files import ModelNotStored
from tests.server.store.test_model_files import Left, leave
from tests.training.test_model_kinds import ONNX, SAFETENSORS, SKLEARN, TORCH, UBJ

__all__ = ["leave"]


def files_of(content: dict) -> list[str]:
    return [file["path"] for file in content["files"]]


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("torch", {"model.pt": TORCH}),
        ("onnx", {"model.onnx": ONNX, "labels.txt": b"a\nb"}),
        ("pickle", {"clf.joblib": SKLEARN, "notes/how.md": b"well"}),
        ("xgboost", {"booster.ubj": UBJ}),
        ("safetensors", {"config.json": b"{}", "model.safetensors": SAFETENSORS, ".cache/x": b"1", "empty": b""}),
        ("mlflow", {"clf/MLmodel": b"flavors: {}", "clf/model.pkl": SKLEARN}),
        ("files", {"weights.dat": b"\1\2\3"}),
    ],
)
def test_all_of_the_model_folder_is_the_model(leave, kind, files):
    left = leave()
    for path, content in files.items():
        left.write(f"model/{path}", content)
    left.write("log.csv")
    stored = left.store()
    assert (stored.content["kind"], stored.content["root"], stored.content["path"]) == (kind, "model", "model")
    assert stored.content["prefix"] == f"{left.job.prefix}/model"
    assert files_of(stored.content) == sorted(files)
    assert left.stored() == sorted([*(f"model/{path}" for path in files), "train.py"])
    assert stored.message.startswith(f"The model is model, of the kind {kind} ({len(files)} file")
    assert ("To load it can run code" in stored.message) is (kind in {"torch", "pickle", "mlflow"})
    assert stored.content.get("unsafe") is (True if kind in {"torch", "pickle", "mlflow"} else None)
    assert left.store().content == stored.content


def test_beside_a_saved_model_all_else_is_kept_and_the_saved_model_is_the_model(leave):
    left = leave()
    left.model("model/1", age=100)
    left.model("model/2")
    left.write("model/labels.txt", b"a")
    stored = left.store()
    assert (stored.content["kind"], stored.content["path"]) == ("saved_model", "model/2")
    assert files_of(stored.content) == ["saved_model.pb", "variables/variables.index"]
    assert stored.message == (
        "The SavedModel is model/2 (2 files, 10 bytes). The other files in MODEL_DIR are kept, too (3 files, 11 bytes)."
    )
    whole = model_listing.read(left.job.directory, stored.content, "files")
    assert (whole["kind"], whole["root"], whole["path"]) == ("files", "model", "model")
    assert files_of(whole) == [
        "1/saved_model.pb", "1/variables/variables.index", "2/saved_model.pb", "2/variables/variables.index",
        "labels.txt",
    ]  # fmt: skip
    for kind in (None, "saved_model", "onnx"):
        assert "whole" not in model_listing.read(left.job.directory, stored.content, kind)
        assert model_listing.read(left.job.directory, stored.content, kind)["path"] == "model/2"


def test_an_mlflow_model_of_tensorflow_is_both(leave):
    left = leave()
    left.write("model/MLmodel", b"flavors: {}")
    left.model("model/data/model")
    content = left.store().content
    assert (content["kind"], content["root"]) == ("saved_model", "model/data/model")
    whole = model_listing.read(left.job.directory, content, "mlflow")
    assert (whole["kind"], whole["root"], files_of(whole)[0]) == ("mlflow", "model", "MLmodel")


def test_a_saved_model_elsewhere_counts_and_the_model_folder_is_kept_too(leave):
    left = leave()
    left.model("export/1700")
    left.model("export/1600", age=100)
    left.write("model/model.onnx", ONNX)
    stored = left.store()
    assert stored.content["path"] == "export/1700"
    assert model_listing.read(left.job.directory, stored.content, "onnx")["root"] == "model"
    assert stored.message.endswith("Other SavedModels of the job are not kept: export/1600.")


def test_what_cannot_be_stored_beside_a_saved_model_does_not_fail_the_job(leave):
    left = leave()
    left.model("model/1")
    (left.work / "model" / "x").symlink_to("/etc/hostname")
    stored = left.store()
    assert stored.content["path"] == "model/1"
    assert not stored.whole
    assert "The other files in MODEL_DIR are not stored: 'model/x' in MODEL_DIR is a link that leads" in stored.message
    assert left.stored() == ["model/1/saved_model.pb", "model/1/variables/variables.index", "train.py"]


def test_what_has_no_bytes_is_left_out_with_one_sentence(leave):
    left = leave()
    left.model("model/1")
    os.mkfifo(left.work / "model" / "1" / "pipe")
    (left.work / "model" / "last").symlink_to("gone")
    stored = left.store()
    assert (stored.whole, stored.content["path"]) == (True, "model/1")
    assert stored.left_out == (
        "Left out of the model, since it has no bytes: 'model/1/pipe' is no regular file, and 1 more like it."
    )
    assert stored.message.endswith(f" {stored.left_out}")
    left.write("model/net.onnx", ONNX)
    assert len(model_listing.read(left.job.directory, left.store().content, "files")["files"]) == 3


def test_a_model_of_nothing_but_what_has_no_bytes_is_refused(leave):
    left = leave(env={"MODEL_DIR": "out"})
    left.write("model/x").unlink()
    (left.work / "model" / "x").symlink_to("gone")
    said = "'model/x' in MODEL_DIR is a link to what is not there; a model can have files only, so copy the file there"
    with pytest.raises(ModelNotStored, match=said):
        left.store()
    left.write("out/net.onnx", ONNX)
    assert (left.store().content["root"], left.store().left_out[-18:]) == ("out", "what is not there.")


def test_a_full_storage_keeps_the_saved_model_and_says_what_else_had_no_room(leave):
    left = leave(storage_bound=1000)
    left.model("model/1")
    left.write("model/big", b"x" * 2000)
    stored = left.store()
    assert (stored.content["path"], stored.whole) == ("model/1", False)
    assert "The other files in MODEL_DIR are not stored: The storage has no room for 2.0 kB" in stored.message


def test_unchanged_inputs_in_the_model_folder_are_no_model(leave):
    left = leave({"model/base.onnx": ONNX, "model/labels.txt": b"a"})
    assert left.store() is None
    left.write("model/tuned.onnx", ONNX)
    stored = left.store()
    assert files_of(stored.content) == ["base.onnx", "labels.txt", "tuned.onnx"]


def test_a_file_in_place_of_the_model_folder_is_the_model(leave):
    left = leave()
    left.write("model", TORCH)
    stored = left.store()
    assert (stored.content["kind"], stored.content["root"], files_of(stored.content)) == ("torch", ".", ["model"])
    assert stored.message.startswith("The model is model, of the kind torch (1 file")


@pytest.mark.parametrize(("value", "root"), [("out", "out"), ("./runs//best/", "runs/best"), ("a/../out", "out")])
def test_a_folder_that_the_jobs_own_env_names_holds_the_model(leave, value, root):
    left = leave(env={"MODEL_DIR": value})
    left.write(f"{root}/model.onnx", ONNX)
    left.write("log.csv")
    content = left.store().content
    assert (content["kind"], content["root"], files_of(content)) == ("onnx", root, ["model.onnx"])


@pytest.mark.parametrize("value", ["", ".", "..", "../../inputs", "/etc", "log.csv/x", "none"])
def test_an_env_that_names_no_folder_of_the_job_changes_nothing(leave, value):
    left = leave(env={"MODEL_DIR": value})
    left.write("log.csv")
    assert left.store() is None
    left.write("model/model.onnx", ONNX)
    assert left.store().content["root"] == "model"


def link_file(left: Left) -> None:
    left.write("model/epoch=3.ckpt", TORCH)
    (left.work / "model" / "last.ckpt").symlink_to("epoch=3.ckpt")


def link_absolute(left: Left) -> None:
    left.write("model/epoch=3.ckpt", TORCH)
    (left.work / "model" / "last.ckpt").symlink_to(left.work / "model" / "epoch=3.ckpt")


def link_outside_the_folder(left: Left) -> None:
    left.write("runs/7/epoch=3.ckpt", TORCH)
    left.write("model/epoch=3.ckpt", TORCH)
    (left.work / "latest").symlink_to("runs/7")
    (left.work / "model" / "last.ckpt").symlink_to("../latest/./../7/epoch=3.ckpt")


def link_to_a_link(left: Left) -> None:
    left.write("model/epoch=3.ckpt", TORCH)
    (left.work / "best").symlink_to("model/epoch=3.ckpt")
    (left.work / "model" / "last.ckpt").symlink_to("../best")


@pytest.mark.parametrize("link", [link_file, link_absolute, link_outside_the_folder, link_to_a_link])
def test_a_link_to_a_file_of_the_job_is_stored_as_that_file(leave, link):
    left = leave()
    link(left)
    content = left.store().content
    assert files_of(content) == ["epoch=3.ckpt", "last.ckpt"]
    assert len({file["sha256"] for file in content["files"]}) == 1


def test_a_link_to_a_folder_of_the_job_is_stored_as_its_files(leave):
    left = leave()
    left.write("model/1/model.onnx", ONNX)
    (left.work / "model" / "latest").symlink_to("1")
    assert files_of(left.store().content) == ["1/model.onnx", "latest/model.onnx"]
    (left.work / "runs").mkdir()
    (left.work / "model").rename(left.work / "runs" / "best")
    (left.work / "model").symlink_to("runs/best")
    assert files_of(left.store().content) == ["1/model.onnx", "latest/model.onnx"]


def test_folders_that_link_to_one_another_end(leave):
    left = leave()
    for one, other in (("a", "b"), ("b", "a")):
        left.write(f"model/{one}/model.onnx", ONNX)
        (left.work / "model" / one / "other").symlink_to(f"../{other}")
    with pytest.raises(ModelNotStored, match="is a link to a folder that holds it"):
        left.store()


def test_a_folder_that_cannot_be_read_is_refused_and_not_left_out(leave, monkeypatch):
    left = leave()
    left.write("model/model.onnx", ONNX)
    left.write("model/deep/more", b"x")
    scan = os.scandir

    def refuse(handle):
        if str(Path(f"/proc/self/fd/{handle}").readlink()).endswith("/model/deep"):
            raise PermissionError(13, "Permission denied")
        return scan(handle)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ModelNotStored, match="'model/deep' in MODEL_DIR cannot be read: Permission denied; "):
        left.store()
    assert left.stored() == ["train.py"]


def test_too_deep_folders_are_refused_and_not_left_out(leave):
    left = leave()
    left.write("model/" + "deep/" * 70 + "model.onnx", ONNX)
    with pytest.raises(ModelNotStored, match="lies in more than 64 nested folders"):
        left.store()


def test_more_files_than_a_client_takes_are_refused(leave, monkeypatch):
    monkeypatch.setattr(model_files, "MOST_FILES", 10)
    left = leave()
    for number in range(10):
        left.write(f"model/{number}.npy", b"x")
    assert len(left.store().content["files"]) == 10
    left.write("model/more.npy", b"x")
    with pytest.raises(ModelNotStored, match=r"is one of more than 10 files; pack the files into an archive"):
        left.store()


def test_a_model_that_is_larger_than_the_room_is_refused_before_a_byte_is_copied(leave, monkeypatch):
    left = leave(storage_bound=10**9)
    with left.write("model/huge.bin", b"").open("wb") as file:
        file.truncate(20 * 2**30)
    left.write("model/a.bin", b"x")
    monkeypatch.setattr(model_files, "ObjectBatch", None)
    with pytest.raises(ModelNotStored, match=r"could not be stored\. The storage has no room for 21\.5 GB") as caught:
        left.store()
    assert caught.value.reason == "StorageFull"


def test_a_server_that_was_killed_after_it_stored_a_model_has_room_to_store_it_again(leave):
    left = leave(storage_bound=1000)
    left.write("model/model.onnx", ONNX + b"x" * 600)
    first = left.store()
    assert left.store().content == first.content
    assert 600 < left.bench.clients.find("airflow").used < 700


def test_a_model_of_many_files_is_listed_in_a_file_and_read_in_pages(leave, monkeypatch):
    monkeypatch.setattr(model_listing, "ROW_FILES", 3)
    left = leave()
    left.model("model/1")
    left.write("model/labels.txt", b"a")
    row = left.store().content
    assert row == {
        "kind": "saved_model", "root": "model/1", "path": "model/1", "prefix": f"{left.job.prefix}/model/1",
        "listing": "model.json",
    }  # fmt: skip
    assert (left.job.directory / "model.json").stat().st_mode & 0o777 == 0o600
    for kind, paths in (
        (None, ["saved_model.pb", "variables/variables.index"]),
        ("files", ["1/saved_model.pb", "1/variables/variables.index", "labels.txt"]),
    ):
        content = model_listing.read(left.job.directory, row, kind)
        assert "listing" not in content
        assert files_of(content) == paths


def test_pages_are_bounded_by_files_and_by_bytes(monkeypatch):
    files = [{"path": f"{number:03}", "size": 1, "sha256": "0" * 64, "key": "k"} for number in range(10)]
    for limit, size in ((3, 10**6), (1000, 320), (1, 1)):
        monkeypatch.setattr(model_listing, "PAGE_BYTES", size)
        found, after = model_listing.page(files, None, limit)
        assert 1 <= len(found) < 10
        while after is not None:
            more, after = model_listing.page(files, after, limit)
            assert more
            found += more
        assert found == files
    assert model_listing.page([], None, 3) == ([], None)
    assert model_listing.page(files, "zzz", 3) == ([], None)


def test_a_model_that_an_earlier_server_recorded_is_a_saved_model(tmp_path):
    row = json.loads('{"path": "model/1", "prefix": "jobs/a-1/model/1", "files": []}')
    assert model_listing.read(tmp_path, row, "files") == {"kind": "saved_model", "root": "model/1", **row}
