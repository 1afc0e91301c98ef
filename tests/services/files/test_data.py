# SPDX-License-Identifier: Apache-2.0
"""Folders and globs of data, of this machine and of object stores."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import ObjectStoragePath
from airflow.sdk.io import attach
from upath import UPath

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.files.data import expand, is_glob
from airflow_provider_jobapi.services.files.sources import measure_all
from tests.harness.moto_s3 import BUCKET, MotoS3

FILES = {
    "a.csv": b"1",
    "b.csv": b"22",
    "notes.txt": b"",
    "2026/jan/c.csv": b"333",
    "2026/feb/d.csv": b"4",
    ".gitignore": b"*\n",
    ".git/config": b"",
}


@pytest.fixture(params=["local", "file", "memory", "s3"])
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A folder of data, on this machine and in stores."""
    name = f"d{uuid.uuid4().hex}"
    if request.param == "s3":
        server: MotoS3 = request.getfixturevalue("moto_s3")
        attach("s3", conn_id=name, fs=server.s3fs())
        for path, content in {**FILES, "empty/": b""}.items():
            server.put(f"{name}/{path}", content)
        return ObjectStoragePath(f"s3://{name}@{BUCKET}/{name}")
    place: Any = UPath(f"memory://{name}/rows") if request.param == "memory" else tmp_path / "rows"
    for path, content in FILES.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(content)
    return ObjectStoragePath(f"file://{place}") if request.param == "file" else place


def contents(entries: list[tuple[str, Any]]) -> dict[str, int]:
    """The names of the files, and their sizes as they are read for the upload."""
    return {name: source.size for name, source in measure_all(expand(entries)).items()}


def test_a_folder(rows):
    assert contents([("rows", rows)]) == {
        "rows/.gitignore": 2,
        "rows/2026/feb/d.csv": 1,
        "rows/2026/jan/c.csv": 3,
        "rows/a.csv": 1,
        "rows/b.csv": 2,
        "rows/notes.txt": 0,
    }


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.csv", ["x/a.csv", "x/b.csv"]),
        ("?.csv", ["x/a.csv", "x/b.csv"]),
        ("[a].csv", ["x/a.csv"]),
        ("2026/*/*.csv", ["x/feb/d.csv", "x/jan/c.csv"]),
        ("20*/jan", ["x/2026/jan/c.csv"]),
        ("**/*.csv", ["x/2026/feb/d.csv", "x/2026/jan/c.csv", "x/a.csv", "x/b.csv"]),
    ],
)
def test_a_glob_keeps_the_names_below_its_fixed_part(rows, pattern, names):
    assert sorted(contents([("x", rows / pattern)])) == names


def test_the_working_directory_itself(rows):
    assert contents([(".", rows / "*.csv"), ("more/", rows / "2026"), ("text", "abc"), ("f.bin", rows / "b.csv")]) == {
        "a.csv": 1,
        "b.csv": 2,
        "more/feb/d.csv": 1,
        "more/jan/c.csv": 3,
        "text": 3,
        "f.bin": 2,
    }


def test_what_matches_nothing(rows):
    with pytest.raises(
        InvalidJob, match=r"^data_input\['x'\] matches no file: there is none at .*\.parquet\.$"
    ) as caught:
        expand([("x", rows / "*.parquet")])
    assert caught.value.field == "data_input"
    with pytest.raises(InvalidJob, match=r"x.*cannot be read"):
        measure_all(expand([("x", rows / "gone")]))


def test_two_files_of_one_name(rows):
    with pytest.raises(InvalidJob, match=r"^data_input\['a.csv'\] has a.csv, which is the name of another file"):
        expand([(".", rows / "*.csv"), ("a.csv", "other")])
    assert len(expand([(".", rows / "*.csv"), (".", rows / "**/*.csv")])) == 4


def test_an_empty_folder(tmp_path):
    with pytest.raises(InvalidJob, match=r"^data_input\['x'\] \(.*\) has no file\.$"):
        expand([("x", tmp_path)])


def test_a_name_with_marks_of_a_glob(tmp_path):
    (tmp_path / "a[1].csv").write_text("1")
    assert not is_glob(tmp_path / "a[1].csv")
    assert contents([("a.csv", tmp_path / "a[1].csv")]) == {"a.csv": 1}


def test_data_has_an_ignore_file_of_its_own(tmp_path):
    for name in ("a.csv", "b.tmp", ".env", ".jobapiignore"):
        (tmp_path / name).write_text("*.tmp\n")
    assert sorted(contents([("x", tmp_path)])) == ["x/.env", "x/a.csv"]


def test_links_of_data(tmp_path):
    (tmp_path / "rows").mkdir()
    (tmp_path / "a.csv").write_text("1")
    (tmp_path / "rows" / "link.csv").symlink_to("../a.csv")
    with pytest.raises(InvalidJob, match=r"has link.csv, which is a link to .*, outside of the folder"):
        expand([("x", tmp_path / "rows")])
    assert contents([("x", tmp_path / "rows" / "*.csv")]) == {"x/link.csv": 1}
