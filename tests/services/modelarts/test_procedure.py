# SPDX-License-Identifier: Apache-2.0
"""The procedure of the API's documents through the service: its requests, compared with the printed ones."""

from __future__ import annotations

import json
import re
import uuid
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import JobConflict, JobGone, QuotaReached
from airflow_provider_jobapi.services.base import Handle
from airflow_provider_jobapi.services.modelarts.service import ModelArtsService
from airflow_provider_jobapi.training.job import TrainingJob
from airflow_provider_jobapi.training.status import JobState
from tests.harness.client import MODEL
from tests.harness.modelarts.caller import document
from tests.harness.modelarts.double import ModelArts
from tests.harness.modelarts.service import ended, job, service, started

pytestmark = pytest.mark.usefixtures("no_cached_sessions")

DIGITS = f"print(open('train-images-idx3-ubyte').read())\n{MODEL}print('Done exporting!')\n"
WAITS = "import time\ntime.sleep(600)\n"
ENGINE = "TensorFlow:TF-1.8.0-python3.6"
SPAN = {"cpus": 8, "memory": 32_000}  # the procedure's modelarts.vm.cpu.8u is the smallest that has it


class Walk:
    """A new service, and the requests that the double has received from it."""

    def __init__(self, double: ModelArts, dialect: str, **options: Any) -> None:
        self.double = double
        self._version = f"{dialect}/"
        self.service: ModelArtsService = service(double, dialect, engine="", **options)
        self.job_id = str(uuid.uuid4())
        self._before = len(double.requests())

    def job(self, script: str = DIGITS, **fields: Any) -> TrainingJob:
        known: dict[str, Any] = {
            "name": "jobtest_TF",
            "image": ENGINE,
            "resources": SPAN,
            "data": {"train-images-idx3-ubyte": "images"},
        }
        return job(script, **(known | fields))

    def requests(self) -> list[dict[str, Any]]:
        """Return the requests since the last call; repetitions of one request count once."""
        new = self.double.requests()[self._before :]
        self._before += len(new)
        told = [each | {"body": json.loads(each["body"] or "null")} for each in new]
        return [next(same) for _, same in groupby(told, lambda each: (each["method"], each["path"]))]

    def calls(self) -> list[tuple[str, str, dict[str, str]]]:
        """Method, path and query of each."""
        return [(each["method"], _beneath(each["path"], self._version), each["query"]) for each in self.requests()]


def _beneath(path: str, version: str) -> str:
    """A path without the project's id, which the procedure prints as ``{project_id}``."""
    return path.partition(f"/{version}")[2].partition("/")[2] if path.startswith(f"/{version}") else path


@pytest.fixture(params=["v1", "v2"])
def walk(request: pytest.FixtureRequest, modelarts: ModelArts) -> Walk:
    return Walk(modelarts, request.param)


def test_the_procedure_in_v1(modelarts: ModelArts, tmp_path: Path) -> None:
    walk = Walk(modelarts, "v1")
    handle: dict[str, Any] = walk.service.submit(
        walk.job(service_options={"notification": {"topic_urn": "", "events": []}}), walk.job_id
    ).handle
    login, search, specs, engines, create = walk.requests()

    # Step 1. The project is named within its domain, since two domains may have one of the same name.
    token = document("token_request")
    token["auth"]["identity"]["password"]["user"] |= {"name": "user", "domain": {"name": "domain"}}
    token["auth"]["scope"]["project"] = {"name": "project", "domain": {"name": "domain"}}
    assert (login["method"], login["path"], login["body"]) == ("POST", "/v3/auth/tokens", token)

    # Not in the procedure: whether the job is there already, as it is after a worker was lost.
    root = search["path"].removesuffix("/training-jobs")
    assert search["method"] == "GET"
    assert search["query"]["search_content"] == walk.job_id

    # Steps 2 and 3.
    train = {"job_type": "train"}
    assert (specs["method"], specs["path"], specs["query"]) == ("GET", f"{root}/job/resource-specs", train)
    assert (engines["method"], engines["path"], engines["query"]) == ("GET", f"{root}/job/ai-engines", train)

    # Step 4, with the job id in name and description, the folders of the job, and the provider's boot file.
    folder = f"/{modelarts.bucket}/jobs/jobtest_TF-{walk.job_id}/{_digest(create)}/"
    body = document("create_request")
    body |= {"job_name": f"jobtest_TF-{walk.job_id}", "job_desc": create["body"]["job_desc"]}
    body["config"] |= {
        "train_url": f"{folder}output/",
        "app_url": f"{folder}code/",
        "boot_file_url": f"{folder}code/modelarts_boot.py",
        "data_source": [{"type": "obs", "data_url": f"{folder}data/"}],
    }
    assert (create["method"], create["path"], create["status"]) == ("POST", f"{root}/training-jobs", 200)
    assert create["body"] == body
    assert body["job_desc"].startswith(f"airflow:{walk.job_id} sha256:")

    # Step 5.
    version = f"training-jobs/{handle['modelarts_id']}/versions/{handle['version_id']}"
    status = ended(walk.service, handle)
    assert status.status is JobState.SUCCESSFUL
    assert walk.calls() == [("GET", version, {})]

    # Steps 6 and 7.
    log = f"job-jobtest-tf-{walk.job_id}.0"
    lines = walk.service.last_lines(handle, 8)
    assert walk.calls() == [
        ("GET", f"{version}/log/file-names", {}),
        ("GET", f"{version}/aom-log", {"log_file": log, "lines": "8", "order": "desc"}),
    ]
    told = [line.replace("jobtest_TF", handle["name"]) for line in _lines_of_the_procedure()]
    assert [line.partition("length: ")[0] for line in lines] == [line.partition("length: ")[0] for line in told]

    # The output of step 4.
    model = walk.service.fetch_model(handle, tmp_path)
    assert {file.path for file in model.files} == {"saved_model.pb", "variables/variables.index"}
    assert walk.calls() == [("GET", version, {})]

    # Step 8, which the procedure prints as GET and its own reference as DELETE. A job that goes on is not deleted, so
    # where it stands is asked first.
    walk.service.delete(handle)
    assert walk.calls() == [("GET", version, {}), ("DELETE", f"training-jobs/{handle['modelarts_id']}", {})]
    with pytest.raises(JobGone, match=r"ModelArts\.2775"):
        walk.service.status(handle)


def _digest(create: dict[str, Any]) -> str:
    """Return the part of a job's folder that depends on its content."""
    found = re.search(r" sha256:([0-9a-f]{12})", json.dumps(create["body"]))
    assert found
    return found[1]


def _lines_of_the_procedure() -> list[str]:
    return [line for line in str(document("log")["content"]).split("\n") if line]


def test_the_procedure_in_v2(modelarts: ModelArts, tmp_path: Path) -> None:
    walk = Walk(modelarts, "v2")
    handle: dict[str, Any] = walk.service.submit(walk.job(), walk.job_id).handle
    login, search, flavors, engines, create = walk.requests()
    assert (login["method"], login["path"]) == ("POST", "/v3/auth/tokens")
    root = create["path"].removesuffix("/training-jobs")
    assert (search["method"], search["path"]) == ("POST", f"{root}/training-job-searches")
    assert search["body"] == {
        "offset": 0,
        "limit": 50,
        "filters": [{"key": "name", "operator": "like", "value": [walk.job_id]}],
    }
    assert set(search["body"]) <= set(document("v2_search_request"))
    assert (flavors["method"], flavors["path"]) == ("GET", f"{root}/training-job-flavors")
    assert (engines["method"], engines["path"]) == ("GET", f"{root}/training-job-engines")
    folder = f"/{modelarts.bucket}/jobs/jobtest_TF-{walk.job_id}/{_digest(create)}/"
    assert (create["method"], create["status"]) == ("POST", 201)
    assert create["body"] == {
        "kind": "job",
        "metadata": {
            "name": f"jobtest_TF-{walk.job_id}",
            "description": create["body"]["metadata"]["description"],
            "workspace_id": "0",
        },
        "algorithm": {
            "code_dir": f"{folder}code/",
            "boot_file": f"{folder}code/modelarts_boot.py",
            "engine": {
                "engine_id": "tensorflow-cp36-1.8.0",
                "engine_name": "TensorFlow",
                "engine_version": "TF-1.8.0-python3.6",
            },
            "parameters": [],
            "inputs": [{"name": "data_url", "remote": {"obs": {"obs_url": f"{folder}data/"}}}],
            "outputs": [{"name": "train_url", "remote": {"obs": {"obs_url": f"{folder}output/"}}}],
        },
        "spec": {"resource": {"node_count": 1, "flavor_id": "modelarts.vm.cpu.8u"}},
    }

    path = f"training-jobs/{handle['modelarts_id']}"
    assert ended(walk.service, handle).status is JobState.SUCCESSFUL
    assert walk.calls() == [("GET", path, {})]

    assert "Done exporting!" in walk.service.last_lines(handle, 20)
    assert walk.calls() == [("GET", path, {}), ("GET", f"{path}/tasks/worker-0/logs/preview", {})]

    assert len(walk.service.fetch_model(handle, tmp_path).files) == 2
    assert walk.calls() == [("GET", path, {})]

    walk.service.delete(handle)
    assert walk.calls() == [("GET", path, {}), ("DELETE", path, {})]
    with pytest.raises(JobGone, match=r"ModelArts\.2775"):
        walk.service.status(handle)


def _ask_to_stop(walk: Walk, handle: Handle) -> list[dict[str, Any]]:
    walk.requests()
    walk.service.stop(handle)
    return walk.requests()


def test_a_stop_and_then_a_delete(walk: Walk) -> None:
    handle: Any = walk.service.submit(walk.job(WAITS), walk.job_id).handle
    started(walk.service, handle)
    walk.requests()
    with pytest.raises(JobConflict, match=f"{walk.job_id} is RUNNING and was not deleted: stop it"):
        walk.service.delete(handle)
    assert [each["method"] for each in walk.requests()] == ["GET"]

    (stop,) = _ask_to_stop(walk, handle)
    assert stop["method"] == "POST"
    if walk.service.connection.dialect == "v1":
        version = f"training-jobs/{handle['modelarts_id']}/versions/{handle['version_id']}"
        assert stop["path"].endswith(f"/{version}/stop")
        assert stop["body"] is None
    else:
        assert stop["path"].endswith(f"/training-jobs/{handle['modelarts_id']}/actions")
        assert stop["body"] == {"action_type": "terminate"}
    assert ended(walk.service, handle).status is JobState.STOPPED
    _ask_to_stop(walk, handle)  # one that has ended is no error

    walk.service.delete(handle)
    walk.service.delete(handle)  # nor is one that is gone
    walk.service.stop(handle)


@pytest.mark.parametrize(("status", "code"), [(400, "0102"), (404, "2775"), (409, "6357")])
def test_delete_of_a_deleted_job(walk: Walk, status: int, code: str) -> None:
    handle = walk.service.submit(walk.job("print('hello')"), walk.job_id).handle
    ended(walk.service, handle)
    walk.double.inject_fault("refusal", path="^DELETE ", status=status, code=code, message="Not there.")
    walk.service.delete(handle)


def test_one_login_and_one_request_for_each_list(walk: Walk) -> None:
    for _ in range(3):
        walk.service.submit(walk.job("print('hello')"), str(uuid.uuid4()))
    told = [Path(path).name for _, path, _ in walk.calls()]
    assert told.count("tokens") == 1
    lists = {"resource-specs", "ai-engines", "training-job-flavors", "training-job-engines"}
    assert len([name for name in told if name in lists]) == 2


def test_no_lists_are_requested_for_ids(walk: Walk) -> None:
    options: dict[str, Any] = (
        {"config": {"spec_id": 27, "engine_id": 4}}
        if walk.service.connection.dialect == "v1"
        else {
            "spec": {"resource": {"flavor_id": "modelarts.vm.cpu.8u"}},
            "algorithm": {"engine": {"engine_id": "tensorflow-cp36-1.8.0"}},
        }
    )
    walk.service.submit(walk.job("print('hello')", service_options=options), walk.job_id)
    assert len(walk.calls()) == 3  # login, search, create


def test_an_image_of_a_registry_needs_no_engines(walk: Walk) -> None:
    walk.service.submit(walk.job("print('hello')", image="swr.example.com/me/tf:1"), walk.job_id)
    assert not [path for _, path, _ in walk.calls() if path.endswith("engines")]


def test_a_cached_list_refuses_no_job(modelarts: ModelArts) -> None:
    walk = Walk(modelarts, "v1")
    modelarts.inject_fault("sold_out", flavor="modelarts.vm.cpu.2u")
    little = {"service_options": {"flavor": "modelarts.vm.cpu.2u"}}
    with pytest.raises(QuotaReached, match="sold out"):
        walk.service.submit(walk.job("print('hello')", **little), walk.job_id)
    modelarts.clear_faults()
    walk.service.submit(walk.job("print('hello')", **little), walk.job_id)

    modelarts.inject_fault("refusal", path="^POST .*/training-jobs$", code="3976", message="No resources.")
    with pytest.raises(QuotaReached, match="3976"):
        walk.service.submit(walk.job("print('hello')"), str(uuid.uuid4()))
    walk.requests()
    for _ in range(2):
        walk.service.submit(walk.job("print('hello')"), str(uuid.uuid4()))
    assert [path for _, path, _ in walk.calls()].count("job/resource-specs") == 1


def test_a_list_is_cached_for_its_lifetime(modelarts: ModelArts) -> None:
    walk = Walk(modelarts, "v1", list_lifetime=0.0)
    for _ in range(2):
        walk.service.submit(walk.job("print('hello')"), str(uuid.uuid4()))
    assert [path for _, path, _ in walk.calls()].count("job/resource-specs") == 2
