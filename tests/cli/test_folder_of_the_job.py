# SPDX-License-Identifier: Apache-2.0
"""Which files of a folder a job gets, and which folders are refused."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_jobapi.cli import submission
from airflow_provider_jobapi.cli.submission import prepare, read_folder
from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.job_file import JobFile


def make(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    return root


def refused(root: Path) -> str:
    with pytest.raises(InvalidJob) as caught:
        read_folder(root)
    said = str(caught.value)
    assert said.endswith(".")
    assert "\n" not in said
    return said


def test_the_rule(tmp_path):
    make(
        tmp_path, "b.py", "a/z.csv", "a/.hidden", ".git/x", "a/__pycache__/y.pyc", "requirements.txt", "__pycache__x/k"
    )
    found = read_folder(tmp_path)
    assert list(found.files) == ["__pycache__x/k", "a/z.csv", "b.py", "requirements.txt"]
    assert found.files["a/z.csv"] == tmp_path / "a" / "z.csv"
    assert found.left_out == [".git", "a/.hidden", "a/__pycache__"]


def test_a_folder_that_is_reached_by_a_link_is_a_folder(tmp_path):
    make(tmp_path / "real", "x")
    (tmp_path / "link").symlink_to("real")
    assert list(read_folder(tmp_path / "link").files) == ["x"]


@pytest.mark.parametrize("target", ["x", "sub", "nowhere", ".."])
def test_a_link_is_refused(tmp_path, target):
    make(tmp_path, "x", "sub/y")
    (tmp_path / "sub" / "link").symlink_to(target)
    assert refused(tmp_path) == f"{tmp_path}/sub/link is a symbolic link; put in its place what it leads to."


def test_a_link_that_is_left_out_is_none(tmp_path):
    make(tmp_path, "x")
    (tmp_path / ".venv").symlink_to("/usr")
    assert list(read_folder(tmp_path).files) == ["x"]


def test_pipes_and_sockets_are_refused_and_not_waited_for(tmp_path):
    make(tmp_path, "x")
    os.mkfifo(tmp_path / "pipe")
    assert "pipe is neither a file nor a folder" in refused(tmp_path)
    (tmp_path / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        assert "socket is neither a file nor a folder" in refused(tmp_path)


@pytest.mark.parametrize("name", ["a\\b", "a\nb", "a\x1bb", os.fsdecode(b"a\xffb")])
def test_a_name_that_no_job_can_have(tmp_path, name):
    (tmp_path / name).write_text("x")
    said = refused(tmp_path)
    assert said.startswith(ascii(name))
    assert said.isprintable()


def test_an_empty_folder_and_none_at_all(tmp_path):
    make(tmp_path, ".hidden")
    assert refused(tmp_path) == f"{tmp_path} holds no file for the job; what begins with a dot is left out."
    assert refused(tmp_path / "none") == f"The folder {tmp_path}/none cannot be read: No such file or directory."
    assert refused(tmp_path / ".hidden").endswith("cannot be read: Not a directory.")


def test_folders_in_folders_without_end(tmp_path):
    def deeper(folder: Path, levels: int) -> None:
        (folder / "d").mkdir()
        if levels:
            deeper(folder / "d", levels - 1)

    deeper(tmp_path, 600)
    said = refused(tmp_path)
    assert said.startswith("'d/d/d/")
    assert "it has at most 1,024 bytes" in said
    shutil.rmtree(tmp_path / "d")


def test_more_files_than_a_job_has(tmp_path, monkeypatch):
    monkeypatch.setattr(submission, "MOST_FILES", 3)
    make(tmp_path, "1", "2", "3")
    assert len(read_folder(tmp_path).files) == 3
    make(tmp_path, "sub/4")
    assert "The folder has more than 3 files" in refused(tmp_path)


@pytest.fixture
def ours() -> Iterator[Path]:
    """A folder of a user who is not root, who reads everything."""
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        if root:
            os.seteuid(65_534)
        try:
            yield Path(folder)
        finally:
            if root:
                os.seteuid(0)


def test_what_may_not_be_read(ours):
    make(ours, "files/sub/x")
    (ours / "files" / "sub" / "x").chmod(0)
    job_file = JobFile.parse("job: {name: x, execution: {command: ls}}")
    with pytest.raises(InvalidJob, match=r"sub/x .*cannot be read: Permission denied\."):
        prepare(job_file, str(ours / "files"), None, lambda _: None)
    (ours / "files" / "sub").chmod(0)
    assert "sub cannot be read: Permission denied." in refused(ours / "files")
    (ours / "files" / "sub").chmod(0o700)
