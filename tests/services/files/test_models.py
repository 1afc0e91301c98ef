# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.files.models import read_listing


def entry(path: Any, **other: Any) -> dict[str, Any]:
    return {"path": path, "key": "jobs/t-1/model/x", "size": 1, "sha256": "0" * 64, **other}


PB = entry("saved_model.pb")


def test_an_honest_listing() -> None:
    keys = read_listing(
        [entry("variables/variables.index", key="jobs/t-1/model/variables/variables.index", size=0), PB]
    )
    assert {file.path: key for file, key in keys.items()} == {
        "variables/variables.index": "jobs/t-1/model/variables/variables.index",
        "saved_model.pb": "jobs/t-1/model/x",
    }


@pytest.mark.parametrize(
    "path",
    [
        "../up", "a/../../up", "/etc/passwd", "a\\b", "a\nb", "a\0b", "", ".",
        "a//b", "a/./b", "a/", None, 5, "\ud800", "x" * 2000,
    ],
)  # fmt: skip
def test_hostile_names_are_refused(path: Any) -> None:
    with pytest.raises(BrokenContract, match=r"nothing was fetched\.$"):
        read_listing([PB, entry(path)])
    with pytest.raises(BrokenContract, match=r"whose key is .*nothing was fetched\.$"):
        read_listing([PB, entry("x", key=path)])


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([PB, PB], "twice"),
        ([PB, entry("a"), entry("a/b")], "'a' as a file and as a directory"),
        ([PB, entry("a/b/c"), entry("a/b")], "'a/b' as a file and as a directory"),
        ([], "without a saved_model.pb"),
        ([entry("model/saved_model.pb")], "without a saved_model.pb"),
        ([entry("saved_model.pb", size=-1)], "without a size"),
        ([entry("saved_model.pb", size="1")], "without a size"),
        ([entry("saved_model.pb", size=True)], "without a size"),
        ([entry("saved_model.pb", sha256="0" * 63)], "with an invalid SHA-256"),
        ([entry("saved_model.pb", sha256=5)], "with an invalid SHA-256"),
        ([entry("saved_model.pb", sha256="A" * 64)], "with an invalid SHA-256"),
    ],
)
def test_listings_that_are_no_saved_model(entries: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(BrokenContract, match=words):
        read_listing(entries)


@given(st.lists(st.text(st.sampled_from("ab./\\ \n\0\x7f~ü"), max_size=8), max_size=5))
def test_whatever_is_taken_stays_below_its_directory(paths: list[str]) -> None:
    try:
        keys = read_listing([PB, *map(entry, paths)])
    except BrokenContract:
        return
    root = Path("/destination/1")
    for file in keys:
        assert ".." not in PurePosixPath(file.path).parts
        assert (root / file.path).is_relative_to(root)
        assert (root / file.path).as_posix() == f"{root}/{file.path}"


def test_a_model_of_another_kind_without_hashes() -> None:
    (file,) = read_listing([{"path": "model.onnx", "key": "jobs/t-1/model/x", "size": 1}], "onnx")
    assert (file.path, file.size, file.sha256) == ("model.onnx", 1, None)
