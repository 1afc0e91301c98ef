# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from airflow_provider_jobapi.server.store.job_record import Job
from airflow_provider_jobapi.server.store.model_files import ModelNotStored, store_model
from tests.harness.bench import WRITE_MODEL, Bench

SMALL = {"saved_model.pb": b"graph", "variables/variables.index": b"index"}


class Left:
    """A job that has ended, and what it left behind."""

    def __init__(self, bench: Bench, inputs: dict[str, bytes], env: dict[str, str] | None = None) -> None:
        self.bench = bench
        self.job: Job = bench.submit(files=inputs, env=env)
        self.work = self.job.directory / "work"
        self.work.mkdir()
        for path, content in inputs.items():
            self.write(path, content)

    def write(self, path: str, content: bytes = b"graph", *, age: float = 0) -> Path:
        place = self.work / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        os.utime(place, (1_700_000_000 - age, 1_700_000_000 - age))
        return place

    def model(self, folder: str, *, age: float = 0) -> None:
        for name, content in SMALL.items():
            self.write(f"{folder}/{name}", content, age=age)

    def store(self):
        return store_model(self.job, self.bench.storages.of("airflow"))

    def stored(self) -> list[str]:
        found, _ = self.bench.storages.of("airflow").page(f"{self.job.prefix}/", "", 1000)
        return [each.key.removeprefix(f"{self.job.prefix}/") for each in found]


@pytest.fixture
def leave(tmp_path):
    benches = []

    def make(inputs: dict[str, bytes] | None = None, env: dict[str, str] | None = None, **settings) -> Left:
        bench = Bench(tmp_path, **settings)
        benches.append(bench)
        return Left(bench, inputs or {}, env)

    yield make
    for bench in benches:
        bench.database.close()


def test_a_job_without_a_model_stores_none(leave):
    left = leave()
    left.write("checkpoint/model.ckpt")
    assert left.store() is None


def test_a_stored_model_lists_paths_sizes_hashes_and_keys(leave):
    left = leave()
    left.model("model/1")
    stored = left.store()
    assert stored.message == "The SavedModel is model/1 (2 files, 10 bytes)."
    assert stored.content == {
        "kind": "saved_model",
        "root": "model/1",
        "path": "model/1",
        "prefix": f"{left.job.prefix}/model/1",
        "files": [
            {
                "path": path,
                "size": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "key": f"{left.job.prefix}/model/1/{path}",
            }
            for path, content in sorted(SMALL.items())
        ],
    }
    assert left.stored() == ["model/1/saved_model.pb", "model/1/variables/variables.index", "train.py"]


def test_storing_again_changes_nothing(leave):
    left = leave()
    left.model("model")
    assert left.store().content == left.store().content
    assert len(left.stored()) == 3


def test_the_newest_of_an_estimators_exports_is_taken_and_the_others_are_named(leave):
    left = leave()
    left.model("export/1700000001", age=100)
    left.model("export/1700000002")
    stored = left.store()
    assert stored.content["path"] == "export/1700000002"
    assert stored.message.endswith("Other SavedModels of the job are not kept: export/1700000001.")


def test_an_input_is_not_a_model_unless_the_job_changed_it(leave):
    left = leave({"base/saved_model.pb": b"given"})
    assert left.store() is None
    left.write("base/saved_model.pb", b"tuned")
    assert left.store().content["path"] == "base"


def test_at_the_top_of_the_work_folder_only_the_models_own_files_are_taken(leave):
    left = leave({"data.csv": b"x"})
    for path in ("saved_model.pb", "variables/variables.index", "assets/words.txt", "checkpoints/1", "fingerprint.pb"):
        left.write(path)
    stored = left.store()
    assert stored.content["path"] == "."
    assert stored.content["prefix"] == left.job.prefix
    assert [file["path"] for file in stored.content["files"]] == [
        "assets/words.txt",
        "fingerprint.pb",
        "saved_model.pb",
        "variables/variables.index",
    ]


def test_caches_are_not_searched(leave):
    left = leave()
    left.model(".cache/kagglehub/bert")
    assert left.store() is None


@pytest.mark.parametrize("way", ["folder", "file"])
def test_a_link_to_what_is_not_the_jobs_is_not_read(leave, tmp_path, way):
    left = leave()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "saved_model.pb").write_bytes(b"secret")
    if way == "folder":
        (left.work / "model").symlink_to(tmp_path / "secret")
    else:
        (left.work / "model").mkdir()
        (left.work / "model" / "saved_model.pb").symlink_to(tmp_path / "secret" / "saved_model.pb")
    with pytest.raises(ModelNotStored, match="in MODEL_DIR is a link that leads out of the working directory; "):
        left.store()
    assert left.stored() == ["train.py"]


@pytest.mark.parametrize("kind", ["link", "linked folder"])
def test_a_model_with_links_to_other_files_cannot_be_stored(leave, kind):
    left = leave()
    left.model("model")
    place = left.work / "model" / "variables" / "odd"
    place.symlink_to("/etc" if kind == "linked folder" else "/etc/passwd")
    with pytest.raises(ModelNotStored, match="'model/variables/odd' in the SavedModel is ") as caught:
        left.store()
    assert caught.value.reason == "ModelUnreadable"
    assert left.stored() == ["train.py"]


@pytest.mark.parametrize("name", [b"new\nline", b"back\\slash", b"\xff\xfe"])
def test_a_file_name_that_is_not_a_valid_key_cannot_be_stored(leave, name):
    left = leave()
    left.model("model")
    Path(os.fsdecode(os.fsencode(left.work / "model") + b"/" + name)).write_bytes(b"x")
    with pytest.raises(ModelNotStored) as caught:
        left.store()
    assert caught.value.reason == "ModelUnreadable"
    assert "\n" not in str(caught.value)
    assert left.stored() == ["train.py"]


@pytest.mark.skipif(os.geteuid() != 0, reason="a file is given to another user, which needs root")
def test_a_file_of_another_user_is_not_read(leave):
    left = leave()
    left.model("model")
    os.chown(left.work / "model" / "saved_model.pb", 12345, 12345)
    with pytest.raises(ModelNotStored, match="not a regular file that the job owns"):
        left.store()


def test_a_full_storage_keeps_no_part_of_a_model(leave):
    left = leave(storage_bound=1000)
    left.model("model")
    left.write("model/variables/variables.data", b"x" * 2000)
    with pytest.raises(ModelNotStored, match="The job succeeded, but its model could not be stored") as caught:
        left.store()
    assert caught.value.reason == "StorageFull"
    assert left.stored() == ["train.py"]


def test_very_deep_folders_are_not_searched(leave):
    left = leave()
    handle = os.open(left.work, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("deep", dir_fd=handle)
        below = os.open("deep", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    os.close(os.open("saved_model.pb", os.O_CREAT | os.O_WRONLY, dir_fd=handle))
    os.close(handle)
    try:
        assert left.store() is None
        left.model("model")
        assert left.store().content["path"] == "model"
    finally:
        subprocess.run(["rm", "-rf", left.work], check=True)  # too deep for shutil


def test_a_job_whose_model_has_no_room_fails_with_that_reason(tmp_path):
    with Bench(tmp_path, storage_bound=1000) as bench:
        job = bench.wait(bench.submit(WRITE_MODEL + "(place / 'big').write_bytes(bytes(5000))"))
        assert (job.state, job.reason, job.exit_code) == ("FAILED", "StorageFull", 0)
        assert job.model is None
        assert f"Its files stay on the server in {job.directory / 'work'} until the job is deleted" in job.message
        bench.runner.stop()  # what follows the end is done, too
        (big,) = (job.directory / "work").rglob("big")
        assert big.stat().st_size == 5000
        bench.registry.delete(job.key)
        assert not job.directory.exists()


@pytest.mark.parametrize("away", ["shutil.rmtree(here)", "os.rename(here, here + '.gone')", "swap()"])
def test_a_job_that_removes_its_work_folder_ends(tmp_path, away):
    script = f"""
import os, shutil
here = os.getcwd()
def swap():
    shutil.rmtree(here)
    os.symlink("/etc", here)
{away}
"""
    with Bench(tmp_path) as bench:
        job = bench.wait(bench.submit(script))
        assert (job.state, job.reason) == ("FAILED", "ModelUnreadable"), bench.log(job)
        assert job.message.startswith("The job succeeded, but its working directory cannot be read: ")
        assert "stay" not in job.message


@pytest.mark.parametrize("names", [["model"], ["model", "model_"]])
def test_a_data_file_that_has_the_name_of_the_model_folder(tmp_path, names):
    """The script reads it, and its model is found first, where MODEL_DIR says."""
    script = (
        "import os, pathlib\nprint(pathlib.Path('model').read_text())\n"
        + WRITE_MODEL
        + "os.makedirs('newer'); open('newer/saved_model.pb', 'w').close()\n"
    )
    with Bench(tmp_path) as bench:
        job = bench.wait(bench.submit(script, files=dict.fromkeys(names, "weights")), timeout=300)
        assert job.state == "SUCCESSFUL", bench.log(job)
        assert bench.log(job).startswith("weights\n")
        assert job.model is not None
        assert job.model["path"] == f"{names[-1]}_/1"
