# SPDX-License-Identifier: Apache-2.0
"""Requests and answers of v2, compared with the reference."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import BrokenContract, InvalidJob
from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.modelarts.catalogue import CustomImage, ModelArtsEngine
from airflow_provider_jobapi.services.modelarts.dialect_base import FoundJob, ModelArtsKey
from airflow_provider_jobapi.services.modelarts.dialect_v2 import V2
from airflow_provider_jobapi.services.modelarts.plan import Plan
from airflow_provider_jobapi.training.status import JobState, JobStatus
from tests.harness.modelarts.caller import document

DIALECT = V2()
ID = "3faf5c03-aaa1-4cbe-879d-24b05d997347"


def answer(body: dict[str, Any]) -> Answer:
    return Answer(200, {}, json.dumps(body).encode(), datetime.now(UTC))


def body(**fields: Any) -> dict[str, Any]:
    known: dict[str, Any] = {
        "name": "trainjob--py14_mem06-108",
        "description": "",
        "workspace_id": "0",
        "code": "/test/economic_test/py_minist/",
        "boot_file": "minist_common.py",
        "data": "/test/data/py_minist/",
        "output": "/test/train_output/",
        "engine": ModelArtsEngine("pytorch-cp36-1.4.0-v2", "PyTorch", "PyTorch-1.4.0-python3.6-v2"),
        "flavor": "modelarts.vm.pnt1.large.eco",
        "nodes": 1,
        "env": (),
    }
    (call,) = DIALECT.create(Plan(**(known | fields)))
    assert (call.method, call.version, call.path, call.idempotent) == ("POST", "v2", "/training-jobs", False)
    return dict(call.body or {})


def details(**standing: Any) -> dict[str, Any]:
    """Return the status of the reference's job with other values."""
    sample = document("v2_details")
    sample["status"] |= standing
    return dict(sample)


def status(**standing: Any) -> JobStatus:
    return DIALECT.read_details(answer(details(**standing))).status


def test_the_job_of_the_reference() -> None:
    assert body(env=(("EPOCHS", "5"),)) == {
        "kind": "job",
        "metadata": {"name": "trainjob--py14_mem06-108", "description": "", "workspace_id": "0"},
        "algorithm": {
            "code_dir": "/test/economic_test/py_minist/",
            "boot_file": "/test/economic_test/py_minist/minist_common.py",
            "parameters": [{"name": "epochs", "value": "5"}],
            "inputs": [{"name": "data_url", "remote": {"obs": {"obs_url": "/test/data/py_minist/"}}}],
            "outputs": [{"name": "train_url", "remote": {"obs": {"obs_url": "/test/train_output/"}}}],
            "engine": {
                "engine_id": "pytorch-cp36-1.4.0-v2",
                "engine_name": "PyTorch",
                "engine_version": "PyTorch-1.4.0-python3.6-v2",
            },
        },
        "spec": {"resource": {"node_count": 1, "flavor_id": "modelarts.vm.pnt1.large.eco"}},
    }


def test_custom_image_with_command() -> None:
    algorithm = body(engine=CustomImage("swr.eu-de.example.com/me/tf:1"))["algorithm"]
    assert algorithm["engine"] == {"image_url": "swr.eu-de.example.com/me/tf:1"}
    assert algorithm["command"] == 'python3 "${MA_JOB_DIR}/py_minist/minist_common.py"'
    assert "boot_file" not in algorithm


def test_options_are_merged_and_null_removes_a_field() -> None:
    more = {
        "algorithm": {"parameters": [{"name": "lr", "value": "1"}], "engine": {"engine_id": None}},
        "spec": {"log_export_path": {"obs_url": "/test/logs/"}},
    }
    asked = body(more=more, env=(("A", "b"),))
    assert asked["algorithm"]["parameters"] == [{"name": "a", "value": "b"}, {"name": "lr", "value": "1"}]
    assert "engine_id" not in asked["algorithm"]["engine"]
    assert asked["spec"]["log_export_path"] == {"obs_url": "/test/logs/"}
    assert asked["spec"]["resource"]["node_count"] == 1


def test_own_algorithm_without_code() -> None:
    algorithm = body(engine=None, more={"algorithm": {"id": "a-1"}})["algorithm"]
    assert algorithm["id"] == "a-1"
    assert not {"code_dir", "boot_file", "engine"} & set(algorithm)


@pytest.mark.parametrize(
    ("more", "flavor", "engine"),
    [
        ({}, False, False),
        ({"spec": {"resource": {"pool_id": "p"}}}, True, False),
        ({"algorithm": {"id": "x"}}, False, True),
        ({"algorithm": {"inputs": []}}, False, False),
    ],
)
def test_options_override_flavor_and_engine(more: dict[str, Any], flavor: bool, engine: bool) -> None:
    named = DIALECT.overrides(more)
    assert (named.flavor, named.engine) == (flavor, engine)


@pytest.mark.parametrize(
    "more", [{"metadata": {"name": "x"}}, {"metadata": {"description": "x"}}, {"algorithm": {"outputs": []}}]
)
def test_reserved_options_are_refused(more: dict[str, Any]) -> None:
    with pytest.raises(InvalidJob, match="service_options"):
        DIALECT.overrides(more)


def test_the_details_of_the_reference() -> None:
    sample = document("v2_details")
    read = DIALECT.read_details(answer(sample))
    assert (read.phase, read.nodes, read.train_url, read.tasks) == (
        "Abnormal", 1, "/test/train_output/", ("worker-0",),
    )  # fmt: skip
    assert DIALECT.read_created(answer(sample)) == ModelArtsKey(ID)
    found = read.status
    assert (found.status, found.reason, found.container_id) == (JobState.FAILED, "Abnormal", ID)
    assert found.message == "ModelArts reports Abnormal (CreateFailed)."
    assert found.submission_time == datetime(2021, 11, 9, 8, 42, 26, 315_000, tzinfo=UTC)
    assert (found.start_time, found.finish_time) == (None, found.submission_time)


def test_the_task_that_failed_gives_the_reason() -> None:
    tasks = [
        {"task": "worker-0", "exit_code": 0, "message": ""},
        {"task": "worker-1", "exit_code": "3", "message": "Training job failed: task worker-1 exit with 3."},
    ]
    found = status(phase="Failed", secondary_phase="Failed", task_statuses=tasks)
    assert (found.status, found.exit_code, found.reason) == (JobState.FAILED, 3, "NonZeroExit")
    assert found.message == ("ModelArts reports Failed. worker-1: Training job failed: task worker-1 exit with 3.")


@pytest.mark.parametrize(
    ("codes", "code", "reason"),
    [
        ([143, 3], 3, "NonZeroExit"),
        ([137, 1], 1, "NonZeroExit"),
        ([143, 137], 137, "OutOfMemory"),
        ([None, 0, 143], 143, "NonZeroExit"),
    ],
)
def test_exit_code_of_the_task_that_failed_first(codes: list[int | None], code: int, reason: str) -> None:
    tasks = [{"task": f"worker-{code}", "exit_code": code, "message": f"exit with {code}."} for code in codes]
    found = status(phase="Failed", secondary_phase="Failed", task_statuses=tasks)
    assert (found.exit_code, found.reason) == (code, reason)
    assert found.message == f"ModelArts reports Failed. worker-{code}: exit with {code}."


@pytest.mark.parametrize(
    ("phase", "state"),
    [
        ("Creating", JobState.PENDING),
        ("Pending", JobState.PENDING),
        ("Running", JobState.RUNNING),
        ("Terminating", JobState.RUNNING),
        ("Completed", JobState.SUCCESSFUL),
        ("Terminated", JobState.STOPPED),
        ("Abnormal", JobState.FAILED),
        ("Dancing", JobState.UNKNOWN),
    ],
)
def test_phases(phase: str, state: JobState) -> None:
    found = status(phase=phase, start_time="1636447756000", duration="1500")
    assert found.status is state
    assert found.outlook is (JobState.STOPPED if phase == "Terminating" else state)
    assert found.start_time == datetime(2021, 11, 9, 8, 49, 16, tzinfo=UTC)
    assert found.finish_time == (datetime(2021, 11, 9, 8, 49, 17, 500_000, tzinfo=UTC) if state.ended else None)


@pytest.mark.parametrize(("code", "reason"), [(124, "NonZeroExit"), (137, "OutOfMemory"), (1, "NonZeroExit")])
def test_reason_of_an_exit_code(code: int, reason: str) -> None:
    found = status(phase="Failed", task_statuses=[{"task": "worker-0", "exit_code": code, "message": ""}])
    assert (found.exit_code, found.reason) == (code, reason)


@pytest.mark.parametrize(
    ("tasks", "read"), [(["a", "b"], ("a", "b")), ("worker-0", ("worker-0",)), (None, ()), (["", "a"], ("a",))]
)
def test_the_tasks(tasks: object, read: tuple[str, ...]) -> None:
    assert DIALECT.read_details(answer(details(phase="Running", tasks=tasks))).tasks == read


def test_finish_time_is_unknown_without_a_duration() -> None:
    assert status(phase="Completed", start_time="1636447756000", duration=None).finish_time is None


def test_a_job_without_a_phase_is_refused() -> None:
    with pytest.raises(BrokenContract, match="dialect"):
        status(phase=None)


def test_a_search() -> None:
    call = DIALECT.search("uuid", "0", 0)
    assert call.body == {
        "offset": 0,
        "limit": 50,
        "filters": [{"key": "name", "operator": "like", "value": ["uuid"]}],
    }
    found = DIALECT.read_search(answer({"items": [document("v2_details")]}))
    assert found == [FoundJob(ModelArtsKey(ID), "trainjob--py14_mem06-108", "")]


def test_the_end_of_a_log() -> None:
    assert DIALECT.tail(ModelArtsKey(ID), "worker-0", 20).path == f"/training-jobs/{ID}/tasks/worker-0/logs/preview"
    assert DIALECT.read_tail(answer({"content": "a\nb\n", "current_size": 4, "full_size": 4})) == ("a", "b")
