# SPDX-License-Identifier: Apache-2.0
"""What an engine says of a container, as the status of a job; and the pure parts of data and successors."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_jobapi.services.train_container import names
from airflow_provider_jobapi.services.train_container.changes import changed_files
from airflow_provider_jobapi.services.train_container.exports import st_mode
from airflow_provider_jobapi.services.train_container.job_status import status_of
from airflow_provider_jobapi.services.train_container.judge import Verdict
from airflow_provider_jobapi.services.train_container.states import moment, read_container
from airflow_provider_jobapi.services.train_container.station_data import MOST_MOUNTS, mounts_of
from airflow_provider_jobapi.training.status import JobState

ZERO = "0001-01-01T00:00:00Z"
GOOD = Verdict(JobState.SUCCESSFUL, message="done")
BAD = Verdict(JobState.FAILED, "NonZeroExit", "run_algorithm ended with the exit code 137.")


def inspected(word: str, **state: Any) -> dict[str, Any]:
    started = ZERO if word == "created" else "2026-11-30T20:25:40.240820374Z"
    return {
        "Id": "a" * 64,
        "Name": "/jobapi-1",
        "Created": "2026-11-30T20:25:39.123456789Z",
        "State": {"Status": word, "StartedAt": started, "FinishedAt": ZERO, "ExitCode": 0, **state},
        "Config": {"Labels": {names.JOB_ID: "1", names.NAME: "bmi"}},
        "Mounts": [{"Destination": "/data", "RW": False}, {"Destination": "/opt/pht_train/model", "RW": True}],
    }


@pytest.mark.parametrize(
    ("word", "verdict", "stop", "state", "reason"),
    [
        ("created", None, None, JobState.PENDING, None),
        ("created", None, ("Stopped", "It was stopped."), JobState.STOPPED, "Stopped"),
        ("running", None, None, JobState.RUNNING, None),
        ("paused", None, None, JobState.RUNNING, None),
        ("restarting", None, None, JobState.RUNNING, None),
        ("stopping", None, None, JobState.RUNNING, None),
        ("hibernated", None, None, JobState.UNKNOWN, None),
        ("exited", GOOD, None, JobState.SUCCESSFUL, None),
        ("stopped", GOOD, None, JobState.SUCCESSFUL, None),
        ("exited", GOOD, ("Stopped", "It was stopped."), JobState.SUCCESSFUL, None),
        ("exited", BAD, None, JobState.FAILED, "NonZeroExit"),
        ("exited", BAD, ("Stopped", "It was stopped."), JobState.STOPPED, "Stopped"),
        ("exited", BAD, ("CompletionTimeExceeded", "Too long."), JobState.FAILED, "CompletionTimeExceeded"),
        ("dead", None, None, JobState.FAILED, "Lost"),
        ("removing", None, None, JobState.FAILED, "Lost"),
    ],
)
def test_the_states_of_a_container(
    word: str, verdict: Verdict | None, stop: tuple[str, str] | None, state: JobState, reason: str | None
) -> None:
    status = status_of(read_container(inspected(word)), verdict, stop)
    assert (status.status, status.reason, status.name, status.job_id) == (state, reason, "bmi", "1")
    assert status.start_time is None if word == "created" else status.start_time is not None
    assert (status.exit_code is None) is not (word in {"exited", "stopped", "dead", "removing"})


def test_a_kill_may_be_for_memory() -> None:
    podman = read_container(inspected("exited", ExitCode=137, OOMKilled=False))
    assert "use of memory" in status_of(podman, BAD, None).message
    docker = read_container(inspected("exited", ExitCode=137, OOMKilled=True))
    assert docker.out_of_memory
    assert "use of memory" not in status_of(docker, BAD, None).message


def test_a_kill_may_be_of_the_engine() -> None:
    ended = read_container(inspected("exited", ExitCode=143))
    assert "by its engine, as Docker does after a crash of its own." in status_of(ended, BAD, None).message
    assert "daemon of Docker was down" not in status_of(ended, BAD, None).message
    silent = Verdict(JobState.FAILED, "NoResponse", "It has printed no response.")
    ended = read_container(inspected("exited", ExitCode=0))
    assert status_of(ended, silent, None).message.endswith(
        "Where the daemon of Docker was down when the train ended, what it printed meanwhile is lost."
    )


def test_the_data_of_a_container_are_what_it_cannot_write() -> None:
    container = read_container(inspected("exited"))
    assert container.data == ("/data",)
    assert container.mounts == ("/data", "/opt/pht_train/model")


@pytest.mark.parametrize("text", [None, "", ZERO, "0001-01-01T00:00:00.5Z", "soon", 7])
def test_a_time_that_is_not_set(text: Any) -> None:
    assert moment(text) is None


def test_the_kinds_of_go() -> None:
    assert stat.S_ISREG(st_mode(0o644))
    assert stat.S_ISLNK(st_mode(134218239))
    assert stat.S_ISDIR(st_mode(2147484141))
    assert stat.S_ISFIFO(st_mode(33554852))
    assert stat.S_ISCHR(st_mode(1 << 26 | 1 << 21 | 0o666))
    assert stat.S_IMODE(st_mode(0o755)) == 0o755


def test_what_a_container_has_changed() -> None:
    diff = [
        ("/etc", 0), ("/etc/group", 2), ("/etc/hosts", 0), ("/opt", 0), ("/opt/a", 1), ("/opt/dir", 1),
        ("/opt/dir/x", 1), ("/data", 1), ("/data/rows.csv", 1), ("/proc/x", 1), ("/database", 1),
    ]  # fmt: skip
    assert changed_files(diff, ["/data"]) == (["/database", "/opt/a", "/opt/dir/x"], ["/etc/group"])


def test_the_mounts_of_files(tmp_path: Path) -> None:
    for name in ("rows/a.csv", "rows/deep/b.csv", "one.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    whole = {path: tmp_path / path for path in ("rows/a.csv", "rows/deep/b.csv", "one.csv")}
    found = mounts_of(whole, "/data")
    assert found is not None
    assert {(each["Source"], each["Target"]) for each in found} == {
        (str(tmp_path / "rows"), "/data/rows"),
        (str(tmp_path / "one.csv"), "/data/one.csv"),
    }
    assert all(each["ReadOnly"] is True for each in found)
    (tmp_path / "rows" / "secret.csv").write_text("not given")
    found = mounts_of(whole, "/data")
    assert found is not None
    assert str(tmp_path / "rows") not in {each["Source"] for each in found}
    renamed = mounts_of({"rows/b.csv": tmp_path / "rows" / "a.csv"}, "/data")
    assert renamed is not None
    assert [each["Target"] for each in renamed] == ["/data/rows/b.csv"]


def test_a_folder_that_only_its_owner_may_enter_is_not_mounted_whole(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir(mode=0o700)
    for name in ("a.csv", "b.csv"):
        (tmp_path / "rows" / name).write_text("1")
    found = mounts_of({f"rows/{name}": tmp_path / "rows" / name for name in ("a.csv", "b.csv")}, "/data")
    assert found is not None
    assert {each["Target"] for each in found} == {"/data/rows/a.csv", "/data/rows/b.csv"}


def test_what_cannot_be_mounted(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "private").write_text("1")
    (tmp_path / "private").chmod(0o640)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    many = {f"{number}.csv": tmp_path / "a" for number in range(MOST_MOUNTS + 1)}
    for data in (
        {},
        {"a": "text"},
        {"a": b"bytes"},
        {"a": tmp_path / "link"},
        {"a": tmp_path / "none"},
        many,
        {"a": tmp_path / "private"},
    ):
        assert mounts_of(data, "/data") is None
