# SPDX-License-Identifier: Apache-2.0
"""What a job wrote that left no model: what is kept of it, what is said, what can be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from airflow_provider_jobapi.server.errors import UnknownFile
from airflow_provider_jobapi.server.run import verdict
from airflow_provider_jobapi.server.store import kept_work
from tests.server.store.test_model_files import leave

__all__ = ["leave"]


def names(left) -> list[str]:
    return sorted(path.relative_to(left.work).as_posix() for path in left.work.rglob("*") if not path.is_dir())


def test_the_largest_files_are_named_and_all_are_counted(leave):
    left = leave()
    for number in range(7):
        left.write(f"out/{number}.bin", b"x" * (1000 * number + 1))
    written = kept_work.keep_written(left.job)
    assert written is not None
    assert written.sentence() == (
        "Its working directory has 7 files, 21.0 kB: out/6.bin (6.0 kB), out/5.bin (5.0 kB), out/4.bin (4.0 kB), "
        "out/3.bin (3.0 kB), out/2.bin (2.0 kB), …."
    )


def test_unchanged_inputs_and_the_cache_go_and_all_else_stays(leave):
    left = leave({"data/given.csv": b"1,2", "data/changed.csv": b"1,2"})
    left.write("data/changed.csv", b"1,3")
    left.write(".cache/huggingface/model.bin")
    left.write(".config/settings")
    left.write("__pycache__/helper.cpython-311.pyc")
    left.write("result.pkl", b"12345")
    written = kept_work.keep_written(left.job)
    assert written is not None
    assert written.files == (("result.pkl", 5), ("data/changed.csv", 3))
    assert names(left) == [".config/settings", "__pycache__/helper.cpython-311.pyc", "data/changed.csv", "result.pkl"]
    assert kept_work.keep_written(left.job) == written


def test_a_job_that_wrote_nothing_but_caches_leaves_nothing(leave):
    left = leave({"data.csv": b"1,2", "helper.py": b"x = 1"})
    for path in ("__pycache__/helper.cpython-311.pyc", "helper.pyc", ".cache/x", ".keras/keras.json"):
        left.write(path)
    assert kept_work.keep_written(left.job) is None


def test_the_cache_behind_a_link_is_left_alone(leave, tmp_path):
    left = leave()
    (tmp_path / "theirs").write_text("theirs")
    (left.work / ".cache").symlink_to(tmp_path)
    mode = tmp_path.stat().st_mode
    assert kept_work.keep_written(left.job) is None
    assert (tmp_path / "theirs").exists()
    assert tmp_path.stat().st_mode == mode


def test_nothing_is_removed_behind_a_link_in_place_of_the_work_folder(leave, tmp_path):
    left = leave()
    (tmp_path / "theirs" / ".cache").mkdir(parents=True)
    (tmp_path / "theirs" / ".cache" / "file").write_text("theirs")
    left.work.rmdir()
    left.work.symlink_to(tmp_path / "theirs")
    assert kept_work.keep_written(left.job) is None
    assert (tmp_path / "theirs" / ".cache" / "file").exists()


def test_what_cannot_be_read_is_kept_on_doubt(leave, monkeypatch):
    left = leave()
    left.write("closed/result.pkl")
    scan = os.scandir

    def refuse(handle):
        if isinstance(handle, int) and str(Path(f"/proc/self/fd/{handle}").readlink()).endswith("/work/closed"):
            raise PermissionError(13, "Permission denied")
        return scan(handle)

    monkeypatch.setattr(os, "scandir", refuse)
    written = kept_work.keep_written(left.job)
    assert written is not None
    assert written.sentence() == "Its working directory has files that the server cannot read."


def test_a_listing_has_what_a_client_can_write(leave):
    left = leave()
    left.write("b/c.txt", b"12")
    left.write("a.txt", b"1")
    left.write("nets/__pycache__/run.cpython-311.pyc", b"1")
    left.write("new\nline", b"1")
    left.write("back\\slash", b"1")
    (left.work / "link").symlink_to("a.txt")
    os.mkfifo(left.work / "pipe")
    found = kept_work.listing(left.job.directory)
    assert found is not None
    assert found.files == (("a.txt", 1), ("b/c.txt", 2))
    assert found.left_out == 4
    handle = kept_work.open_file(left.job.directory, "b/c.txt")
    assert os.read(handle, 10) == b"12"
    os.close(handle)
    for path in ("link", "pipe", "b", "none", "../log", "/etc/passwd", "", "b/../a.txt"):
        with pytest.raises(UnknownFile):
            kept_work.open_file(left.job.directory, path)


def test_no_working_directory_has_no_listing(leave):
    left = leave()
    assert kept_work.listing(left.job.directory) is None
    left.work.rmdir()
    assert kept_work.listing(left.job.directory) is None
    assert kept_work.keep_written(left.job) is None


def test_a_notice_is_appended_once_and_after_the_last_record(tmp_path):
    log = tmp_path / "log"
    late = "2999-01-01T00:00:00.000000Z"
    log.write_text(f"{late} hello\n")
    for _ in range(2):  # a server that was killed does it again
        verdict.add_notice(tmp_path, "No model.")
    assert log.read_text() == f"{late} hello\n{late} jobapi: No model.\n"
    log.write_text("")
    verdict.add_notice(tmp_path, "No model.\nReally.")
    assert log.read_text().endswith("Z jobapi: No model.Really.\n")
    assert log.read_text().count("\n") == 1
    log.unlink()
    verdict.add_notice(tmp_path, "No model.")
    assert not log.exists()
