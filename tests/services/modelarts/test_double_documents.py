# SPDX-License-Identifier: Apache-2.0
"""The double against literal samples of the API's documents: v2, error bodies, limits (see also the procedure)."""

from __future__ import annotations

import copy
import uuid
from typing import Any

import pytest

from tests.harness.modelarts.caller import Caller, document
from tests.harness.modelarts.samples import V1, V2, Samples

PATH = "/v2/{project_id}"


def test_flavors_and_engines_of_v2(caller: Caller) -> None:
    assert caller.ok("GET", f"{PATH}/training-job-flavors?flavor_type=CPU") == document("v2_flavors_cpu")
    engines = caller.ok("GET", f"{PATH}/training-job-engines")
    assert engines["total"] == len(engines["items"])
    assert engines["items"][-1] == {
        "engine_id": "xgboost-sklearn-python3.6",
        "engine_name": "XGBoost-Sklearn",
        "engine_version": "XGBoost-0.80-Sklearn-0.18.1-python3.6",
        "v1_compatible": True,
        "run_user": "",
        "image_info": {
            "cpu_image_url": "modelarts-job-dev-image/python-train-py36:secure",
            "gpu_image_url": "",
            "image_version": "2.0.10-20211101113705",
        },
    }


def missing(sample: Any, answer: Any, where: str = "") -> list[str]:
    """Return the fields of a sample that an answer does not have, or has with another type."""
    if isinstance(sample, dict) and isinstance(answer, dict):
        lacking = [f"{where}.{name}" for name in sample.keys() - answer.keys()]
        return lacking + [
            each
            for name in sample.keys() & answer.keys()
            for each in missing(sample[name], answer[name], f"{where}.{name}")
        ]
    if isinstance(sample, list) and isinstance(answer, list):
        return [each for item in answer[:1] for each in missing(sample[0], item, f"{where}[]")]
    return [] if type(sample) is type(answer) else [f"{where}: {type(answer).__name__}"]


def test_creation_details_search_and_deletion_in_v2(caller: Caller, samples: Samples) -> None:
    body = samples.v2(samples.place(), resource={"flavor_id": "modelarts.vm.gpu.v100"})
    answer = caller.send("POST", V2, body)
    assert answer.status_code == 201
    created = answer.json()
    assert created["metadata"] | body["metadata"] == created["metadata"]
    assert created["status"] == {
        "phase": "Creating",
        "secondary_phase": "Creating",
        "duration": 0,
        "start_time": 0,
        "node_count_metrics": None,
        "tasks": ["worker-0"],
    }
    job = f"{V2}/{created['metadata']['id']}"
    details = caller.wait(job, "Completed")
    assert missing(document("v2_details"), details) == [
        ".status.running_records"
    ]  # node faults, which it does not have
    assert details["status"]["task_statuses"] == [{"task": "worker-0", "exit_code": 0, "message": ""}]

    found = caller.ok("POST", f"{PATH}/training-job-searches?limit=1", document("v2_search_request"))
    assert (found["count"], found["items"]) == (0, [])
    every = document("v2_search_request")
    every["filters"][0]["value"] = [body["metadata"]["name"]]
    every["filters"][-1]["value"] = []
    assert caller.ok("POST", f"{PATH}/training-job-searches", every)["items"] == [details]

    answer = caller.send("DELETE", job)
    assert (answer.status_code, answer.text) == (202, '""')
    assert caller.no("GET", job) == (400, "2775")


def test_pages_of_a_log_in_v2(caller: Caller, samples: Samples) -> None:
    """The reference: ``asc`` from old to new, ``desc`` from new to old and the default, 1 to 500 lines."""
    job = samples.start_v2("for number in range(6): print(number)")
    caller.wait(job, "Completed")
    texts = caller.ok("GET", f"{job}/logs/worker-0?order=asc&lines=500")["content"].splitlines()
    assert texts[1:7] == ["0", "1", "2", "3", "4", "5"]
    newest = caller.ok("GET", f"{job}/logs/worker-0?lines=2")
    assert newest["content"].splitlines() == texts[:-3:-1]
    for wrong in ("lines=0", "lines=501", "order=up", "base_line=x"):
        assert caller.no("GET", f"{job}/logs/worker-0?{wrong}") == (400, "2764")


def test_error_bodies(caller: Caller, samples: Samples) -> None:
    algorithm = {"id": "3f5d6706-7b67-408d-8ba0-ec08048c45ee"}
    assert caller.send("POST", V2, samples.v2(samples.place()) | {"algorithm": algorithm}).json() == {
        "error_msg": "algorithm not found.",
        "error_code": "ModelArts.2755",
        "error_solution": "Check whether the training project information in the request is valid.",
    }
    name = f"Test-{uuid.uuid4()}"
    body = samples.v1(samples.place()) | {"job_name": name}
    caller.ok("POST", V1, body)
    answer = caller.send("POST", V1, body)
    assert answer.status_code == 400
    assert answer.json() == {
        "is_success": False,
        "error_message": f"Job name:{name} is existed",
        "error_code": "ModelArts.0103",
    }


def change(body: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a body with one field changed; ``...`` removes it."""
    body = copy.deepcopy(body)
    *outer, last = path.split(".")
    place = body
    for name in outer:
        place = place[int(name)] if isinstance(place, list) else place[name]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return body


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        ("job_name", ..., "0104"),
        ("job_name", "a" * 65, "0104"),
        ("job_name", "with.dot", "0104"),
        ("job_desc", "d" * 257, "0104"),
        ("config.worker_server_num", "1", "0104"),
        ("config.worker_server_num", 2, "0104"),
        ("config.spec_id", ..., "0104"),
        ("config.flavor", {"code": "modelarts.vm.cpu.8u"}, "0104"),
        ("config.engine_id", 5, "2780"),
        ("config.boot_file_url", "/data/elsewhere/boot.py", "2758"),
        ("config.app_url", "/no-such-bucket/code/", "2791"),
        ("config.data_source", [{"type": "obs", "data_url": "/data/"}], "0104"),
        ("config.parameter", [{"label": "steps", "value": 1}], "0104"),
    ],
)
def test_limits_of_a_job_in_v1(caller: Caller, samples: Samples, path: str, value: Any, code: str) -> None:
    body = change(samples.v1(samples.place()), path, value)
    assert caller.no("POST", V1, body) == (400, code)


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        ("kind", ..., "2788"),
        ("metadata.name", "a" * 65, "2788"),
        ("metadata.description", "d" * 257, "2788"),
        ("algorithm.code_dir", ..., "2757"),
        ("algorithm.engine", {"engine_id": "no-such-engine"}, "2780"),
        ("algorithm.parameters", [{"name": "steps", "value": 1}], "2788"),
        ("algorithm.outputs.0.remote", ..., "2788"),
        ("spec.resource.flavor_id", "modelarts.vm.cpu.3u", "2781"),
        ("spec.resource.node_count", 17, "2793"),
    ],
)
def test_limits_of_a_job_in_v2(caller: Caller, samples: Samples, path: str, value: Any, code: str) -> None:
    body = change(samples.v2(samples.place()), path, value)
    assert caller.no("POST", V2, body) == (400, code)
