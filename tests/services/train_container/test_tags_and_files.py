# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import posixpath
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.train_container.export_files import (
    MOST_FILES,
    ExportBudget,
    check_paths,
    is_inside,
    parents,
)
from airflow_provider_jobapi.services.train_container.responses import ResponseProblem
from airflow_provider_jobapi.services.train_container.tags import ImageName, check_next_tag, read_image

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize("tag", ["2", "station.2", "2.7.15-slim-jessie", "a" * 128, "a.-"])
def test_tags(tag: str) -> None:
    assert check_next_tag(tag) == tag


@pytest.mark.parametrize("tag", ["", "A", "a_b", "a b", "a\n", "a/b", "a:b", "-a", ".a", "a" * 129, "é", "..", "@"])
def test_tags_that_are_refused(tag: str) -> None:
    with pytest.raises(ResponseProblem, match=r"next tag cannot be .*: it is 1 to 128 small letters.*\.$"):
        check_next_tag(tag)


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("bmi", ImageName("bmi")),
        ("trains/bmi:station.1", ImageName("trains/bmi", "station.1")),
        ("localhost:5000/bmi", ImageName("localhost:5000/bmi")),
        ("registry.example.com:5000/a/b_c/d--e:V1", ImageName("registry.example.com:5000/a/b_c/d--e", "V1")),
        (f"bmi:1@{DIGEST}", ImageName("bmi", "1", DIGEST)),
        (f"[::1]:5000/bmi@{DIGEST}", ImageName("[::1]:5000/bmi", "", DIGEST)),
    ],
)
def test_names_of_images(name: str, image: ImageName) -> None:
    assert read_image(name) == image
    assert str(image) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "trains/Bmi",
        "bmi:",
        "bmi:a b",
        "bmi\n",
        "/bmi",
        "bmi/",
        "a//b",
        "bmi:" + "a" * 129,
        "bmi@sha256:1",
        "a" * 256,
    ],
)
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(InvalidJob, match=r"image cannot be .*: it is the name of an image"):
        read_image(name)


def test_paths() -> None:
    paths = ["/opt/model/a.json", "/opt/model/b c.bin", "/é"]
    assert check_paths(paths, ["/data"]) == tuple(paths)
    assert check_paths([]) == ()
    assert check_paths(["/database/x"], ["/data"])
    assert check_paths(["/process"])
    assert parents(paths) == ("/opt", "/opt/model")


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("model", "it is not absolute"),
        ("", "it is not absolute"),
        ("./model", "it is not absolute"),
        ("/", "it is a folder"),
        ("/opt/", "it is a folder"),
        ("/opt/../etc/passwd", "write /etc/passwd"),
        ("/opt/./a", "write /opt/a"),
        ("/opt//a", "write /opt/a"),
        ("//opt/a", "write /opt/a"),
        ("/opt/..", "write /"),
        ("/a\n", "cannot be printed"),
        ("/a\0", "cannot be printed"),
        ("/" + "a" * 4_096, "more than 4,096 characters"),
        ("/proc/self/environ", "/proc belongs to the system"),
        ("/dev/sda", "/dev belongs to the system"),
        ("/sys", "/sys belongs to the system"),
        ("/data/rows.csv", "in the station's data (/data)"),
        ("/data", "in the station's data (/data)"),
    ],
)
def test_paths_that_are_refused(path: str, why: str) -> None:
    with pytest.raises(ResponseProblem) as caught:
        check_paths(["/fine", path], ["/mnt", "/data"])
    assert why in str(caught.value)
    assert str(caught.value).startswith("The train cannot export ")
    assert str(caught.value).endswith(".")


def test_paths_together() -> None:
    with pytest.raises(ResponseProblem, match="'/a': the train names it twice"):
        check_paths(["/a", "/b", "/a"])
    with pytest.raises(ResponseProblem, match="'/a/b/c': it would be inside of the export file /a"):
        check_paths(["/a/b/c", "/a"])
    with pytest.raises(ResponseProblem, match="exports 10,001 files, and 10,000 are allowed"):
        check_paths([f"/{i}" for i in range(MOST_FILES + 1)])


@given(st.text(st.sampled_from("/.ab"), max_size=12))
def test_what_is_allowed_is_normal_and_outside_of_the_data(path: str) -> None:
    try:
        check_paths([path], ["/a"])
        allowed = True
    except ResponseProblem:
        allowed = False
    normal = path.startswith("/") and path not in {"/", "//"} and posixpath.normpath(path) == path and path[:2] != "//"
    assert allowed is (normal and not is_inside(path, "/a"))


def test_only_regular_files_within_the_bound() -> None:
    budget = ExportBudget(most=100)
    budget.check("/a", stat.S_IFREG | 0o644, 60)
    for mode, word in (
        (stat.S_IFLNK, "a link"),
        (stat.S_IFDIR, "a folder"),
        (stat.S_IFIFO, "a pipe"),
        (stat.S_IFSOCK, "a socket"),
        (stat.S_IFBLK, "a special file"),
        (stat.S_IFCHR, "a special file"),
    ):
        with pytest.raises(ResponseProblem, match=f"cannot export '/x': it is {word}, and only regular files"):
            budget.check("/x", mode | 0o777, 1)
    budget.check("/b", stat.S_IFREG, 40)
    with pytest.raises(ResponseProblem, match="with it the export files have 101 bytes, and 100 bytes are allowed"):
        budget.check("/c", stat.S_IFREG, 1)


def test_folders_above_are_folders() -> None:
    ExportBudget.check_parent("/opt", stat.S_IFDIR)
    with pytest.raises(ResponseProblem, match="cannot export '/opt': it is a link, and the folders above"):
        ExportBudget.check_parent("/opt", stat.S_IFLNK)
