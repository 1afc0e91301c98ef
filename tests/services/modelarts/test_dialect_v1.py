# SPDX-License-Identifier: Apache-2.0
"""Requests and answers of v1, compared with the procedure of the API's documents."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import BrokenContract, InvalidJob
from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.modelarts.catalogue import CustomImage, ModelArtsEngine
from airflow_provider_jobapi.services.modelarts.dialect_base import FoundJob, ModelArtsKey
from airflow_provider_jobapi.services.modelarts.dialect_v1 import STATES, V1
from airflow_provider_jobapi.services.modelarts.plan import Plan
from airflow_provider_jobapi.training.status import JobState
from tests.harness.modelarts.caller import document

DIALECT = V1()


def answer(body: dict[str, Any]) -> Answer:
    return Answer(200, {}, json.dumps(body).encode(), datetime.now(UTC))


def plan(**fields: Any) -> Plan:
    """The job of the documents' procedure."""
    known: dict[str, Any] = {
        "name": "jobtest_TF",
        "description": "using TensorFlow for handwritten digit recognition",
        "workspace_id": "0",
        "code": "/test-modelarts/mnist-tensorflow-code/",
        "boot_file": "train_mnist_tf.py",
        "data": "/test-modelarts/dataset-mnist/",
        "output": "/test-modelarts/mnist-model/output/",
        "engine": ModelArtsEngine(4, "TensorFlow", "TF-1.8.0-python3.6"),
        "flavor": "modelarts.vm.cpu.8u",
        "nodes": 1,
        "env": (),
    }
    return Plan(**(known | fields))


def body(**fields: Any) -> dict[str, Any]:
    call = DIALECT.create(plan(**fields))[0]
    assert (call.method, call.version, call.path, call.idempotent) == ("POST", "v1", "/training-jobs", False)
    return dict(call.body or {})


def test_request_of_the_procedure() -> None:
    asked = {"notification": {"topic_urn": "", "events": []}}
    assert body(more=asked) == document("create_request")


def test_the_flavour_by_its_code_and_then_by_its_id() -> None:
    """The procedure names it by the code, the reference by ``spec_id``, and neither has both."""
    asked = {"notification": {"topic_urn": "", "events": []}}
    first, second = DIALECT.create(plan(spec_id=27, more=asked))
    assert first.body == document("create_request")
    config = document("create_request")["config"]
    del config["flavor"]
    assert second.body == document("create_request") | {"config": config | {"spec_id": 27}}
    assert len(DIALECT.create(plan(flavor=None, more={"config": {"pool_id": "p"}}))) == 1


def test_env_becomes_parameters_with_names_in_lower_case() -> None:
    config = body(env=(("TEST_DATA", "x y"), ("epochs", "5")))["config"]
    assert config["parameter"] == [{"label": "test_data", "value": "x y"}, {"label": "epochs", "value": "5"}]


def test_custom_image_with_command_and_variables() -> None:
    config = body(engine=CustomImage("swr.eu-de.example.com/me/tf:1"), env=(("TEST_DATA", "x y"),))["config"]
    assert "engine_id" not in config
    assert config["user_image_url"] == "swr.eu-de.example.com/me/tf:1"
    assert config["user_command"] == (
        "bash /home/work/run_train.sh python3 /home/work/user-job-dir/mnist-tensorflow-code/train_mnist_tf.py "
        "--data_url=s3://test-modelarts/dataset-mnist/ --train_url=s3://test-modelarts/mnist-model/output/ "
        "'--test_data=x y'"
    )
    assert config["parameter"] == [{"label": "TEST_DATA", "value": "x y"}]


def test_options_are_merged_and_null_removes_a_field() -> None:
    more = {"config": {"log_url": "/logs/", "parameter": [{"label": "lr", "value": "1"}], "engine_id": None}}
    config = body(more=more, env=(("A", "b"),))["config"]
    assert config["log_url"] == "/logs/"
    assert "engine_id" not in config
    assert config["parameter"] == [{"label": "a", "value": "b"}, {"label": "lr", "value": "1"}]


def test_data_options_replace_the_uploaded_data() -> None:
    config = body(more={"config": {"dataset_id": "d", "dataset_version_id": "v"}})["config"]
    assert "data_source" not in config


def test_a_model_needs_no_code() -> None:
    config = body(engine=None, more={"config": {"model_id": 7}})["config"]
    assert not {"app_url", "boot_file_url", "engine_id"} & set(config)


@pytest.mark.parametrize(
    ("more", "flavor", "engine"),
    [
        ({}, False, False),
        ({"config": {"pool_id": "p"}}, True, False),
        ({"config": {"spec_id": 27}}, True, False),
        ({"config": {"model_id": 1}}, False, True),
        ({"config": {"data_url": "/b/d/"}}, False, False),
    ],
)
def test_options_override_flavor_and_engine(more: dict[str, Any], flavor: bool, engine: bool) -> None:
    named = DIALECT.overrides(more)
    assert (named.flavor, named.engine) == (flavor, engine)


@pytest.mark.parametrize(
    "more", [{"job_name": "x"}, {"workspace_id": "1"}, {"config": {"create_version": False}}, {"config": []}]
)
def test_reserved_options_are_refused(more: dict[str, Any]) -> None:
    with pytest.raises(InvalidJob, match="service_options"):
        DIALECT.overrides(more)


def test_the_created_job_of_the_procedure() -> None:
    assert DIALECT.read_created(answer(document("create"))) == ModelArtsKey("567524", "1108482")


def test_ids_as_strings() -> None:
    assert DIALECT.read_created(answer({"job_id": "10", "version_id": "20"})) == ModelArtsKey("10", "20")


def test_a_created_job_without_a_version_is_refused() -> None:
    with pytest.raises(BrokenContract, match="version"):
        DIALECT.read_created(answer({"job_id": 10}))


def test_the_details_of_the_procedure() -> None:
    read = DIALECT.read_details(answer(document("details")))
    assert (read.phase, read.nodes, read.train_url) == ("COMPLETED", 1, "/test-modelarts/mnist-model/output/")
    status = read.status
    assert (status.status, status.name, status.container_id) == (JobState.SUCCESSFUL, "jobtest_TF", "jobaedef089")
    assert status.submission_time == datetime(2020, 12, 28, 2, 17, 17, tzinfo=UTC)
    assert status.start_time == datetime(2020, 12, 28, 2, 18, 33, tzinfo=UTC)
    assert status.finish_time == datetime(2020, 12, 28, 2, 18, 34, 326_000, tzinfo=UTC)
    assert (status.message, status.reason) == ("", None)


@pytest.mark.parametrize(
    ("code", "state", "reason"),
    [
        ("1", JobState.PENDING, None),
        (8, JobState.RUNNING, None),
        (9, JobState.RUNNING, "Stopped"),
        (10, JobState.SUCCESSFUL, None),
        (20, JobState.RUNNING, None),
        (11, JobState.FAILED, "FAILED"),
        (3, JobState.FAILED, "EnvironmentFailed"),
        (14, JobState.FAILED, "Lost"),
        (12, JobState.STOPPED, "Stopped"),
        (13, JobState.STOPPED, "Stopped"),
        (99, JobState.UNKNOWN, None),
    ],
)
def test_states(code: object, state: JobState, reason: str | None) -> None:
    status = DIALECT.read_details(answer(document("details") | {"status": code})).status
    assert (status.status, status.reason) == (state, reason)
    assert (status.finish_time is not None) is state.ended
    assert status.outlook is (JobState.STOPPED if code == 9 else state)


def test_finish_time_is_unknown_without_a_duration() -> None:
    told = document("details") | {"status": 10}
    assert DIALECT.read_details(answer(told | {"duration": None})).status.finish_time is None
    status = DIALECT.read_details(answer(told | {"duration": 0})).status
    assert status.finish_time == status.start_time is not None


def test_a_search_that_finds_null() -> None:
    assert DIALECT.read_search(answer({"is_success": True, "jobs": None})) == []


def test_table_of_states() -> None:
    """Only COMPLETED is a success; LOST, SUBMIT_FAILED and similar states end the job, too."""
    states = {code: state for code, (_, state) in STATES.items()}
    assert set(states) == set(range(22))
    assert {code for code, state in states.items() if state.ended} == {3, 5, 6, 10, 11, 12, 13, 14, 16, 17, 21}
    assert {code for code, state in states.items() if state is JobState.SUCCESSFUL} == {10}
    assert {code for code, state in states.items() if state is JobState.STOPPED} == {12, 13}


def test_unknown_status_code() -> None:
    assert "status 99" in DIALECT.read_details(answer(document("details") | {"status": 99})).status.message


@pytest.mark.parametrize(
    ("phase", "start", "said"),
    [
        (11, 1609121913000, "ModelArts reports FAILED without a reason; see the end of the job's log."),
        (11, 0, "ModelArts reports FAILED without a reason, and the job did not run, so it has no log: look at the"),
        (3, None, "ModelArts reports IMAGE_FAILED without a reason, and the job did not run, so it has no log: check"),
        (5, 0, "ModelArts reports SUBMIT_FAILED without a reason, and the job did not run, so it has no log: check q"),
    ],
)
def test_a_failure_points_to_the_log_only_where_there_is_one(phase: int, start: int | None, said: str) -> None:
    failed = document("details") | {"status": phase, "start_time": start}
    assert DIALECT.read_details(answer(failed)).status.message.startswith(said)


@pytest.mark.parametrize("listed", [4, "4"])
def test_the_id_of_an_engine_is_a_number(listed: object) -> None:
    assert body(engine=ModelArtsEngine(listed, "TensorFlow", "TF"))["config"]["engine_id"] == 4
    assert body(engine=ModelArtsEngine("tf-1.8", "TensorFlow", "TF"))["config"]["engine_id"] == "tf-1.8"


def test_reason_from_the_service() -> None:
    failed = document("details") | {"status": 11, "error_result": "no\nroom"}
    assert DIALECT.read_details(answer(failed)).status.message == "no room"


def test_a_search() -> None:
    call = DIALECT.search("uuid", "0", 1)
    assert call.params == {"search_content": "uuid", "per_page": "50", "page": "2", "workspace_id": "0"}
    jobs = [{"job_id": "10", "job_name": "n", "version_id": "20", "job_desc": None}]
    assert DIALECT.read_search(answer({"jobs": jobs})) == [FoundJob(ModelArtsKey("10", "20"), "n", "")]


def test_null_removes_a_list() -> None:
    config = body(env=(("A", "b"),), more={"config": {"parameter": None}})["config"]
    assert "parameter" not in config


@pytest.mark.parametrize("names", [["job-a.0", "job-a.1"], "job-a.0,job-a.1", '["job-a.0", "job-a.1"]'])
def test_log_files(names: object) -> None:
    assert DIALECT.read_logs(answer({"log_file_list": names})) == ("job-a.0", "job-a.1")


def test_the_log_of_the_procedure() -> None:
    log = document("log")
    lines = DIALECT.read_tail(answer(log))
    assert len(lines) == int(log["lines"]) == 8
    assert all(lines)
