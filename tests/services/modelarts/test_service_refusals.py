# SPDX-License-Identifier: Apache-2.0
"""Errors between submit and fetch: exception, message, and no job left running."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import (
    BrokenContract,
    ConnectionProblem,
    InvalidJob,
    JobConflict,
    JobGone,
    JobNotFound,
    NoSavedModel,
    QuotaReached,
    ServiceUnavailable,
    TrainingError,
)
from airflow_provider_jobapi.services.modelarts import plan
from airflow_provider_jobapi.services.modelarts.service import ModelArtsService
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.training.status import JobState
from tests.harness.client import MODEL
from tests.harness.modelarts.caller import Caller
from tests.harness.modelarts.double import ModelArts
from tests.harness.modelarts.samples import V1, V2, Samples
from tests.harness.modelarts.service import created, ended, job, posted, service, started

pytestmark = pytest.mark.usefixtures("no_waits")

WAITS = "import time\nprint('begun', flush=True)\ntime.sleep(600)\n"


def sent(double: ModelArts, job_id: str) -> list[str]:
    """Return the uploaded files of a job id."""
    return [name for name in double.objects(f"/{double.bucket}/jobs/") if job_id in name]


def run(modelarts_service: ModelArtsService, job_id: str, **fields: Any) -> None:
    assert (
        ended(modelarts_service, modelarts_service.submit(job(**fields), job_id).handle).status is JobState.SUCCESSFUL
    )


def test_a_lost_answer_makes_no_second_job(
    modelarts_service: ModelArtsService, modelarts: ModelArts, job_id: str
) -> None:
    modelarts.inject_fault("lost_answer")
    handle = modelarts_service.submit(job(), job_id).handle
    assert modelarts_service.find(job_id).handle == handle
    assert len(posted(modelarts, job_id)) == 1
    assert ended(modelarts_service, handle).status is JobState.SUCCESSFUL


def test_temporary_errors_are_retried(modelarts_service: ModelArtsService, modelarts: ModelArts, job_id: str) -> None:
    modelarts.inject_fault("too_many_requests", every=3, retry_after=0)
    modelarts.inject_fault("unavailable", times=2)
    modelarts.inject_fault("bad_gateway", times=1)
    run(modelarts_service, job_id)
    assert len(created(modelarts, job_id)) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_token_expired(modelarts_service: ModelArtsService, modelarts: ModelArts, job_id: str, status: int) -> None:
    with pytest.raises(JobNotFound):
        modelarts_service.find(job_id)
    modelarts.inject_fault("expired_token", status=status)
    run(modelarts_service, job_id)


@pytest.mark.parametrize("fault", ["string_numbers", "soft_failures", "error_key", "log_file_list"])
def test_contradictory_formats_of_the_documents(
    modelarts_service: ModelArtsService, modelarts: ModelArts, job_id: str, fault: str
) -> None:
    modelarts.inject_fault(fault)
    handle = modelarts_service.submit(job(), job_id).handle
    assert ended(modelarts_service, handle).status is JobState.SUCCESSFUL
    assert "hello" in modelarts_service.last_lines(handle, 20)
    modelarts_service.stop(handle)
    with pytest.raises(NoSavedModel, match="MODEL_DIR"):
        modelarts_service.fetch_model(handle, "/nowhere")


def test_the_same_id_with_other_content(modelarts_service: ModelArtsService, job_id: str) -> None:
    modelarts_service.submit(job(), job_id)
    with pytest.raises(JobConflict, match="another script, data or options"):
        modelarts_service.submit(job("print('another')"), job_id)


def test_name_in_use_by_another_job(modelarts: ModelArts, caller: Caller, dialect: str, job_id: str) -> None:
    samples = Samples(caller)
    folder = samples.place()
    name = plan.job_name("test", job_id)
    if dialect == "v1":
        caller.ok("POST", V1, samples.v1(folder) | {"job_name": name})
    else:
        body = samples.v2(folder)
        body["metadata"]["name"] = name
        caller.ok("POST", V2, body)
    modelarts_service = service(modelarts, dialect)
    with pytest.raises(JobNotFound):
        modelarts_service.find(job_id)
    with pytest.raises(InvalidJob, match=r"ModelArts\.(0103|2751).*does not belong to this task"):
        modelarts_service.submit(job(), job_id)


def test_deleted_job(
    modelarts_service: ModelArtsService, modelarts: ModelArts, caller: Caller, dialect: str, job_id: str, tmp_path: Path
) -> None:
    handle = modelarts_service.submit(job(WAITS), job_id).handle
    started(modelarts_service, handle)
    caller.ok("DELETE", f"/{dialect}/{{project_id}}/training-jobs/{handle['modelarts_id']}")
    with pytest.raises(JobGone, match=r"ModelArts\.(0102|2775).*it was deleted"):
        modelarts_service.status(handle)
    with pytest.raises(JobGone):
        modelarts_service.fetch_model(handle, tmp_path)
    assert modelarts_service.last_lines(handle, 5) == ()
    modelarts_service.stop(handle)
    with pytest.raises(JobGone):
        modelarts_service.find(job_id)


def test_no_model_before_the_end(modelarts_service: ModelArtsService, job_id: str, tmp_path: Path) -> None:
    handle = modelarts_service.submit(job(WAITS), job_id).handle
    with pytest.raises(JobConflict, match="has not ended"):
        modelarts_service.fetch_model(handle, tmp_path, version=1)
    modelarts_service.stop(handle)


def test_sold_out(modelarts: ModelArts, job_id: str) -> None:
    modelarts.inject_fault("sold_out")
    with pytest.raises(QuotaReached, match=r"sold out.*modelarts\.vm\.cpu\.8u"):
        service(modelarts, "v1").submit(job(), job_id)
    assert sent(modelarts, job_id) == []


@pytest.mark.parametrize("code", ["3952", "3976", "4992"])
def test_sold_out_at_the_creation(
    modelarts_service: ModelArtsService, modelarts: ModelArts, job_id: str, code: str
) -> None:
    modelarts.inject_fault("refusal", path="^POST .*/training-jobs$", code=code, message="No resources.")
    said = (
        rf"ModelArts\.{code}: No resources\): the flavour is sold out; run the task later or set another flavour; "
        r"flavours that fit: modelarts\.vm\.cpu\.2u \(2 CPUs, 8 GB\), modelarts\.vm\.cpu\.8u .*\)\.$"
    )
    with pytest.raises(QuotaReached, match=said):
        modelarts_service.submit(job(), job_id)
    assert created(modelarts, job_id) == []


def test_sold_out_at_the_creation_without_a_list_of_flavors(modelarts: ModelArts, job_id: str) -> None:
    modelarts_service = service(modelarts, "v1", retry=Retry(attempts=1))
    modelarts_service.submit(job(), str(uuid.uuid4()))
    modelarts.inject_fault("refusal", path="^POST .*/training-jobs$", code="3976", message="No resources.")
    modelarts.inject_fault("unavailable", path="resource-specs", times=9)
    with pytest.raises(QuotaReached, match=r"run the task later or set another flavour\.$"):
        modelarts_service.submit(job(), job_id)


@pytest.mark.parametrize("code", ["0101", "0104", "2763"])
@pytest.mark.parametrize(("takes", "attempts"), [("flavor", 1), ("spec_id", 2)])
@pytest.mark.parametrize("options", [{}, {"flavor": "modelarts.vm.cpu.2u"}])
def test_a_service_that_takes_one_field_for_the_flavor(
    modelarts: ModelArts, job_id: str, takes: str, attempts: int, code: str, options: dict[str, str]
) -> None:
    """The procedure of v1 has ``flavor.code``, and its reference ``spec_id``, which it calls mandatory."""
    modelarts.inject_fault("flavor_field", takes=takes, code=code)
    modelarts_service = service(modelarts, "v1")
    handle = modelarts_service.submit(job(service_options=options), job_id).handle
    assert len(posted(modelarts, job_id)) == attempts
    config = json.loads(created(modelarts, job_id)[0])["config"]
    asked = {name: config.get(name) for name in ("flavor", "spec_id")}
    assert asked == {"flavor": {"code": "modelarts.vm.cpu.2u"}, "spec_id": None} | (
        {"flavor": None, "spec_id": 7} if takes == "spec_id" else {}
    )
    assert ended(modelarts_service, handle).status is JobState.SUCCESSFUL


def test_a_lost_answer_to_the_second_attempt_makes_no_second_job(modelarts: ModelArts, job_id: str) -> None:
    modelarts.inject_fault("flavor_field", takes="spec_id")
    modelarts.inject_fault("lost_answer", every=2)
    modelarts_service = service(modelarts, "v1")
    handle = modelarts_service.submit(job(), job_id).handle
    assert modelarts_service.find(job_id).handle == handle
    assert [each["status"] for each in posted(modelarts, job_id)] == [400, None]


def test_both_fields_for_the_flavor_are_refused(modelarts: ModelArts, job_id: str) -> None:
    modelarts.inject_fault("flavor_field", takes="neither", code="2781")
    with pytest.raises(InvalidJob) as caught:
        service(modelarts, "v1").submit(job(), job_id)
    flavors = r"flavours that fit: modelarts\.vm\.cpu\.2u \(2 CPUs, 8 GB\)"
    assert re.search(
        rf"ModelArts\.2781.* the request was for flavour modelarts\.vm\.cpu\.2u; {flavors}", str(caught.value)
    )
    assert [each["status"] for each in posted(modelarts, job_id)] == [400, 400]
    modelarts.inject_fault("refusal", path="^POST .*/training-jobs$", code="0104", message="The app_url is odd.")
    modelarts.inject_fault("flavor_field", takes="flavor")
    with pytest.raises(InvalidJob, match=r"The app_url is odd.*With spec_id in place of flavor\.code: .*mandatory"):
        service(modelarts, "v1").submit(job(), job_id)


def test_a_refused_flavor_is_named(modelarts_service: ModelArtsService, modelarts: ModelArts, job_id: str) -> None:
    modelarts.inject_fault("refusal", path="^POST .*/training-jobs$", code="2763", message="Invalid.", times=2)
    with pytest.raises(InvalidJob, match=r"the request was for flavour modelarts\.vm\.cpu\.2u; flavours that fit: "):
        modelarts_service.submit(job(), job_id)


def test_the_cheapest_available_flavor(modelarts: ModelArts, job_id: str) -> None:
    modelarts.inject_fault("sold_out", flavor="modelarts.vm.cpu.2u")
    modelarts_service = service(modelarts, "v1")
    modelarts_service.submit(job(), job_id)
    assert '"modelarts.vm.cpu.8u"' in created(modelarts, job_id)[0]


def test_the_quota(modelarts_service: ModelArtsService, modelarts: ModelArts, job_id: str) -> None:
    modelarts.inject_fault("quota", jobs=0)
    with pytest.raises(QuotaReached, match=r"ModelArts\.(0118|2815).*larger quota"):
        modelarts_service.submit(job(), job_id)


def test_no_agency(modelarts_service: ModelArtsService, modelarts: ModelArts, job_id: str) -> None:
    modelarts.inject_fault("no_agency")
    with pytest.raises(ConnectionProblem, match=r"ModelArts\.0428.*agency"):
        modelarts_service.submit(job(), job_id)


def test_too_much_code(modelarts_service: ModelArtsService, modelarts: ModelArts, job_id: str) -> None:
    modelarts.inject_fault("code_limits", bytes=100)
    with pytest.raises(InvalidJob, match=r"ModelArts\.2761.*pass data with data_input"):
        modelarts_service.submit(job(), job_id)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"project": "another"}, "login, password, domain and project"),
        ({"domain": "another"}, "login, password, domain and project"),
        ({"password": "another-word"}, "login, password, domain and project"),
        ({"login": "another"}, "login, password, domain and project"),
        ({"bucket": "no-such-bucket"}, "has no bucket .*/no-such-bucket .*check the connection's .*bucket"),
        ({"obs_secret_key": "another-word"}, "obs_secret_key"),
        ({"engine": "TensorFlow:99"}, "TF-1.8.0-python3.6"),
    ],
)
def test_wrong_connection(modelarts: ModelArts, dialect: str, job_id: str, wrong: dict[str, str], said: str) -> None:
    with pytest.raises((ConnectionProblem, InvalidJob), match=said) as caught:
        service(modelarts, dialect, **wrong).submit(job(), job_id)
    assert "another-word" not in str(caught.value)
    assert created(modelarts, job_id) == []


def test_an_iam_of_another_region(modelarts: ModelArts, dialect: str, job_id: str) -> None:
    modelarts.inject_fault("refusal", path="/v[12]/", status=404, code="2786", message="Project mismatch.")
    with pytest.raises(ConnectionProblem, match=r"ModelArts\.2786.*the same region"):
        service(modelarts, dialect).find(job_id)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"service_options": {"flavor": "modelarts.vm.none"}}, r"no flavour 'modelarts\.vm\.none'.*cpu\.2u"),
        ({"service_options": {"engine": "TensorFlow:99"}}, r"TF-1\.8\.0-python3\.6"),
        ({"service_options": {"nodes": 99}}, r"99 nodes, and each flavour that fits has at most 16; set fewer nodes"),
        ({"resources": {"cpus": 1000}}, "No flavour of ModelArts has 1000 CPUs.*change job_resources"),
        ({"env": {"TRAIN_URL": "x"}}, "--train_url itself"),
    ],
)
def test_invalid_jobs(
    modelarts_service: ModelArtsService, modelarts: ModelArts, job_id: str, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidJob, match=said):
        modelarts_service.submit(job(**fields), job_id)
    assert posted(modelarts, job_id) == sent(modelarts, job_id) == []


@pytest.mark.parametrize("code", ["modelarts.vm.cpu.2u", "modelarts.vm.gpu.v100"])
def test_more_nodes_than_a_flavor_has_are_refused_before_the_upload(
    modelarts_service: ModelArtsService, modelarts: ModelArts, job_id: str, code: str
) -> None:
    most = 4 if "gpu" in code else 1
    with pytest.raises(InvalidJob, match=rf"has {most + 1} nodes, and flavour {re.escape(code)} has at most {most};"):
        modelarts_service.submit(job(nodes=most + 1, service_options={"flavor": code}), job_id)
    assert posted(modelarts, job_id) == sent(modelarts, job_id) == []


def test_nodes_in_the_fields_of_the_request_are_refused_before_the_upload(
    modelarts_service: ModelArtsService, modelarts: ModelArts, dialect: str, job_id: str
) -> None:
    options = {"v1": {"config": {"worker_server_num": 99}}, "v2": {"spec": {"resource": {"node_count": 99}}}}[dialect]
    with pytest.raises(InvalidJob, match="has 99 nodes, and each flavour that fits has at most 16"):
        modelarts_service.submit(job(service_options=options), job_id)
    assert posted(modelarts, job_id) == sent(modelarts, job_id) == []


def test_lists_whose_numbers_are_strings(modelarts: ModelArts, job_id: str) -> None:
    """The samples of the reference have ids as strings; a request has them as numbers nevertheless."""
    modelarts.inject_fault("string_numbers")
    modelarts.inject_fault("flavor_field", takes="spec_id")
    modelarts_service = service(modelarts, "v1")
    handle = modelarts_service.submit(job(image="tensorflow/tensorflow:1.8.0"), job_id).handle
    config = json.loads(created(modelarts, job_id)[0])["config"]
    assert (config["engine_id"], config["spec_id"]) == (4, 7)
    assert ended(modelarts_service, handle).status is JobState.SUCCESSFUL


def test_a_service_without_a_list_of_jobs(
    modelarts_service: ModelArtsService, modelarts: ModelArts, dialect: str, job_id: str, tmp_path: Path
) -> None:
    """The procedure of the documents has none: a job is found by its object in OBS."""
    modelarts.inject_fault("no_job_list")
    with pytest.raises(JobNotFound):
        modelarts_service.find(job_id)
    made = job(MODEL)
    handle = modelarts_service.submit(made, job_id).handle
    again = service(modelarts, dialect)
    assert again.find(job_id).handle == again.submit(made, job_id).handle == handle
    assert len(posted(modelarts, job_id)) == 1
    assert ended(again, handle).status is JobState.SUCCESSFUL
    assert len(again.fetch_model(handle, tmp_path).files) == 2


def test_a_lost_answer_of_a_service_without_a_list_of_jobs(
    modelarts_service: ModelArtsService, modelarts: ModelArts, job_id: str
) -> None:
    modelarts.inject_fault("no_job_list")
    modelarts.inject_fault("lost_answer")
    with pytest.raises(InvalidJob, match=rf"no list of jobs.*the job test-{job_id} is this task's: stop and delete it"):
        modelarts_service.submit(job(), job_id)
    assert len(created(modelarts, job_id)) == 1


def test_a_host_without_this_api_is_no_service_without_a_list(
    modelarts_service: ModelArtsService, modelarts: ModelArts, job_id: str
) -> None:
    modelarts.inject_fault("refusal", path="/v[12]/", status=404, code="2836", message="Path not found.", times=9)
    with pytest.raises(ConnectionProblem, match=r"does not know the list of its jobs.*check the connection's host"):
        modelarts_service.find(job_id)


def test_a_long_name_is_cut(modelarts_service: ModelArtsService, job_id: str) -> None:
    handle = modelarts_service.submit(job(name="a.very_long-name" * 6), job_id).handle
    assert handle["name"] == f"a-very_long-namea-very_long-{job_id}"
    assert modelarts_service.find(job_id).handle == handle


def test_unreachable_service(modelarts: ModelArts, job_id: str) -> None:
    modelarts_service = service(modelarts, "v2", retry=Retry(attempts=2))
    modelarts.kill()
    try:
        with pytest.raises(ServiceUnavailable, match="cannot be reached"):
            modelarts_service.find(job_id)
    finally:
        modelarts.restart()


def test_a_handle_of_another_service(modelarts: ModelArts) -> None:
    with pytest.raises(BrokenContract, match="not a handle of ModelArts"):
        service(modelarts, "v2").status({"job_id": "1"})


def test_undocumented_code(modelarts_service: ModelArtsService, modelarts: ModelArts, job_id: str) -> None:
    """The message has the code and the service's own message."""
    modelarts.inject_fault("refusal", path="^POST .*/training-jobs$", status=409, code="9999", message="Odd.")
    with pytest.raises(TrainingError, match=r"ModelArts\.9999: Odd"):
        modelarts_service.submit(job(), job_id)
