# SPDX-License-Identifier: Apache-2.0
"""Messages of errors, literally: the code, the service's message, and what to do."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import (
    ConnectionProblem,
    InvalidJob,
    JobGone,
    QuotaReached,
    ServiceUnavailable,
    TrainingError,
)
from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.modelarts.calls import Call
from airflow_provider_jobapi.services.modelarts.dialect_base import Dialect, ModelArtsKey
from airflow_provider_jobapi.services.modelarts.dialects import dialect_of
from airflow_provider_jobapi.services.modelarts.errors import error_of
from airflow_provider_jobapi.services.modelarts.service import ModelArtsService
from airflow_provider_jobapi.services.retry import Retry
from tests.harness.modelarts.caller import Caller
from tests.harness.modelarts.double import ModelArts
from tests.harness.modelarts.service import job, service, started

pytestmark = pytest.mark.usefixtures("no_waits")

REJECTED = "ModelArts rejected the request for"
WHO = "IAM refused user 'user'"
NO_PROJECT = "HTTP 401: The project is wrong, or the user has no access to it"
NO_USER = "HTTP 401: The username or password is wrong"
WORKSPACE = "check the connection's workspace_id."
PROJECT = "check that the connection's project, iam_url and host belong to the same region."
TOKEN = "it rejects tokens of the connection's IAM; check that iam_url and host belong to the same region."
IAM = "check the connection's login, password, domain and project."
STORAGE = "check the connection's obs_endpoint, obs_access_key, obs_secret_key, bucket and region."
SOLD_OUT = (
    "3976: No resources): the flavour is sold out; run the task later or set another flavour; flavours that fit: "
    "modelarts.vm.cpu.2u (2 CPUs, 8 GB), modelarts.vm.cpu.8u (8 CPUs, 32 GB)"
)
GPUS = "modelarts.vm.gpu.v100 (8 CPUs, 64 GB, 1 GPUs), modelarts.vm.gpu.4v100 (32 CPUs, 256 GB, 4 GPUs"
AGENCY = "ask an administrator to give ModelArts an agency for OBS in the settings of its console."
QUOTA = "wait until other jobs end, delete unneeded jobs, or request a larger quota."
SMALL = "keep the code folder small and pass data with data_input."
FLAVORS = "modelarts.vm.cpu.2u (2 CPUs, 8 GB), modelarts.vm.cpu.8u (8 CPUs, 32 GB), "


def refused(modelarts_service: ModelArtsService, job_id: str, **fields: Any) -> TrainingError:
    with pytest.raises(TrainingError) as caught:
        modelarts_service.submit(job(**fields), job_id)
    assert "\n" not in str(caught.value)
    return caught.value


def nothing_is_left(double: ModelArts, job_id: str) -> None:
    """Assert that no job was created."""
    created = [each for each in double.requests() if each["path"].endswith("/training-jobs") and job_id in str(each)]
    assert not [each for each in created if each["method"] == "POST" and each["status"] in {None, 200, 201}]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            {"project": "another"},
            f"{WHO} of domain 'domain' access to project 'another' ({NO_PROJECT}); {IAM}",
        ),
        (
            {"domain": "another"},
            f"{WHO} of domain 'another' access to project 'project' ({NO_USER}); {IAM}",
        ),
        ({"bucket": "missing"}, f"The storage has no bucket {{obs}}/missing (NoSuchBucket); {STORAGE}"),
        (
            {"obs_secret_key": "another"},
            (
                "The storage {obs}/data denies access to jobs/created/{id}.json with the keys from the connection "
                f"(SignatureDoesNotMatch); {STORAGE}"
            ),
        ),
        (
            {"workspace_id": "7"},
            f"{REJECTED} the job test-{{id}} (ModelArts.0102: The workspace does not exist): {WORKSPACE}",
        ),
    ],
)
def test_wrong_connection(modelarts: ModelArts, dialect: str, job_id: str, wrong: dict[str, str], said: str) -> None:
    error = refused(service(modelarts, dialect, **wrong), job_id)
    assert isinstance(error, ConnectionProblem)
    assert str(error) == said.replace("{obs}", modelarts.s3_url).replace("{id}", job_id)
    nothing_is_left(modelarts, job_id)


@pytest.mark.parametrize(
    ("status", "code", "words", "said"),
    [
        (404, "2786", "Not the token's project.", PROJECT),
        (403, "2784", "Invalid token.", TOKEN),
        (401, "0203", "Invalid token.", TOKEN),
        (403, "0112", "Policy.", "ask an administrator to give the connection's user the permission for ModelArts."),
        (400, "0102", "The workspace does not exist.", WORKSPACE),
        (403, "2785", "You have not authorized ModelArts.", AGENCY),
    ],
)  # fmt: skip
def test_missing_permission(
    modelarts: ModelArts, dialect: str, job_id: str, status: int, code: str, words: str, said: str
) -> None:
    """Before anything is uploaded."""
    modelarts.inject_fault("refusal", path="/v[12]/", status=status, code=code, message=words, times=9)
    error = refused(service(modelarts, dialect), job_id)
    assert isinstance(error, ConnectionProblem)
    about = f"ModelArts rejected the request for the list of its jobs (ModelArts.{code}: {words.rstrip('.')})"
    assert str(error) == f"{about}: {said}"
    assert not [name for name in modelarts.objects(f"/{modelarts.bucket}/jobs/") if job_id in name]


def test_a_gateway_that_refuses_a_new_token(modelarts: ModelArts, dialect: str, job_id: str) -> None:
    words = "Incorrect IAM authentication information: verify aksk signature fail"
    modelarts.inject_fault("refusal", path="/v[12]/", status=401, code="APIG.0301", message=words, times=9)
    error = refused(service(modelarts, dialect), job_id)
    assert isinstance(error, ConnectionProblem)
    assert str(error) == (
        f"ModelArts denied the connection's user access to the list of its jobs (APIG.0301: {words}): check the user's "
        f"permissions and the connection's project. A new token was refused, too: the gateway at {modelarts.url} takes "
        f"tokens of its own region; check that the host, {modelarts.iam_url} and the project 'project' belong to one "
        "region."
    )


@pytest.mark.parametrize(
    ("fault", "how", "kind", "v1", "v2"),
    [
        ("no_agency", {}, ConnectionProblem, f"0428: The user authorization does not exist): {AGENCY}", None),
        (
            "quota",
            {},
            QuotaReached,
            f"0118: The expected training job exceeds the quota limit): {QUOTA}",
            f"2815: Exceed quota limit of resource(training job)): {QUOTA}",
        ),
        (
            "code_limits",
            {"files": 1},
            InvalidJob,
            f"2759: Insufficient quota, too many code files, upport uploading up to 1 files): {SMALL}",
            None,
        ),
        (
            "refusal",
            {"path": "^POST .*/training-jobs$"},
            QuotaReached,
            f"{SOLD_OUT}, modelarts.vm.cpu.16u (16 CPUs, 64 GB), {GPUS}, sold out).",
            f"{SOLD_OUT}, {GPUS}).",
        ),
        (
            "refusal",
            {"path": "^POST .*/training-jobs$", "code": "4311", "message": "Bucket (b) does not exist."},
            ConnectionProblem,
            "4311: Bucket (b) does not exist): check the connection's bucket, and that it is in ModelArts' region.",
            None,
        ),
        (
            "refusal",
            {"path": "^POST .*/training-jobs$", "code": "2890", "message": "Pool (p) does not exist", "status": 404},
            InvalidJob,
            "2890: Pool (p) does not exist): set another pool_id in service_options.",
            None,
        ),
    ],
)
def test_a_job_that_is_refused(
    modelarts: ModelArts,
    dialect: str,
    job_id: str,
    fault: str,
    how: dict[str, Any],
    kind: type[TrainingError],
    v1: str,
    v2: str | None,
) -> None:
    modelarts.inject_fault(fault, **how)
    error = refused(service(modelarts, dialect), job_id)
    assert isinstance(error, kind)
    assert str(error) == f"{REJECTED} the job test-{job_id} (ModelArts.{v1 if dialect == 'v1' else v2 or v1}"
    nothing_is_left(modelarts, job_id)


def test_missing_flavor_and_engine(modelarts: ModelArts, job_id: str) -> None:
    modelarts_service = service(modelarts, "v2", engine="")
    there = f"{FLAVORS}modelarts.vm.gpu.v100 (8 CPUs, 64 GB, 1 GPUs), modelarts.vm.gpu.4v100 (32 CPUs, 256 GB, 4 GPUs)"
    error = refused(modelarts_service, job_id, service_options={"flavor": "modelarts.vm.none"})
    assert str(error) == f"ModelArts has no flavour 'modelarts.vm.none'; flavours that fit: {there}."
    error = refused(modelarts_service, job_id, resources={"cpus": 999})
    assert str(error) == (
        f"No flavour of ModelArts has 999 CPUs, 0 GPUs and 2048 MB; change job_resources; available flavours: {there}."
    )
    error = refused(modelarts_service, job_id, image="python:3.12")
    assert str(error).startswith(
        "ModelArts has no engine for the image 'python:3.12' of the job; use one of: TensorFlow:TF-1.8.0"
    )
    nothing_is_left(modelarts, job_id)


def test_deleted_job(modelarts: ModelArts, caller: Caller, dialect: str, job_id: str) -> None:
    modelarts_service = service(modelarts, dialect)
    handle: Any = modelarts_service.submit(job("import time\ntime.sleep(600)\n"), job_id).handle
    started(modelarts_service, handle)
    there = handle["modelarts_id"]
    caller.ok("DELETE", f"/{dialect}/{{project_id}}/training-jobs/{there}")
    with pytest.raises(JobGone) as caught:
        modelarts_service.status(handle)
    assert str(caught.value) == (
        f"ModelArts no longer has the job {there} (ModelArts.2775: Training job (ID: {there}) not found): it "
        "was deleted. A retry of the task starts a new job."
    )


def test_host_without_this_api(dialect: str) -> None:
    """Codes of the gateway mean other things: APIG.0101 is an unknown path, ModelArts.0101 a wrong argument."""
    said = {"error_code": "APIG.0101", "error_msg": "The API does not exist or has not been published"}
    error = error_of(_answer(404, said), dialect_of(dialect).flavors())
    assert isinstance(error, ConnectionProblem)
    assert str(error) == (
        "ModelArts does not know the list of its flavours (APIG.0101: The API does not exist or has not been "
        "published): check the connection's host and dialect."
    )


def _answer(status: int, body: Any) -> Answer:
    return Answer(status, {}, json.dumps(body).encode(), datetime.now(UTC))


def _calls(dialect: Dialect) -> list[Call]:
    return [dialect.flavors(), dialect.engines(), dialect.search("id", "7", 0)]


def test_only_a_job_can_be_gone(dialect: str) -> None:
    """A refused list does not mean that a job was deleted."""
    spoken = dialect_of(dialect)
    for code in ("0102", "2775"):
        answer = _answer(400, {"error_code": f"ModelArts.{code}", "error_msg": "Not there."})
        assert not [call for call in _calls(spoken) if isinstance(error_of(answer, call), JobGone)]
        assert isinstance(error_of(answer, spoken.details(ModelArtsKey("1", "2"))), JobGone)


def test_too_many_requests(modelarts: ModelArts, dialect: str, job_id: str) -> None:
    modelarts.inject_fault("too_many_requests", every=1, retry_after=0)
    error = refused(service(modelarts, dialect, retry=Retry(attempts=2)), job_id)
    assert isinstance(error, ServiceUnavailable)
    assert (
        str(error)
        == "ModelArts is temporarily unable to serve the list of its jobs (ModelArts.2799: Too many requests)."
    )
