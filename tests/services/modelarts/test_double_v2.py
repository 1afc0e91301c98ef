# SPDX-License-Identifier: Apache-2.0
"""The dialect v2 of the double: what the documents' samples show, and jobs that really run."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from tests.harness.modelarts.caller import Caller, document
from tests.harness.modelarts.double import ModelArts
from tests.harness.modelarts.samples import V2, Samples

PATH = "/v2/{project_id}"
BOOT_FILE = """
import argparse, os, pathlib
parser = argparse.ArgumentParser()
for name in ("data_url", "train_url", "steps"):
    parser.add_argument(f"--{name}")
args = parser.parse_args()
print(sorted(os.listdir(args.data_url)), args.steps, os.environ["COLOUR"], os.environ["VC_TASK_INDEX"])
pathlib.Path(args.train_url, "model").mkdir()
pathlib.Path(args.train_url, "model/saved_model.pb").write_text("learnt")
"""


def test_flavors_and_engines_are_the_documents(caller: Caller) -> None:
    assert caller.ok("GET", f"{PATH}/training-job-flavors?flavor_type=CPU") == document("v2_flavors_cpu")
    every = caller.ok("GET", f"{PATH}/training-job-flavors")
    assert every["total_count"] == len(every["flavors"]) > 2
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


def test_a_job_from_its_creation_to_its_end(caller: Caller, samples: Samples, modelarts: ModelArts) -> None:
    folder = samples.place(BOOT_FILE)
    steps = [{"name": "steps", "value": "3"}]
    body = samples.v2(folder, parameters=steps, environments={"COLOUR": "red"})
    answer = caller.send("POST", V2, body)
    assert answer.status_code == 201
    created = answer.json()
    assert created["kind"] == "job"
    assert created["metadata"] | body["metadata"] == created["metadata"]
    assert set(created["metadata"]) == {"id", "name", "description", "create_time", "workspace_id", "user_name"}
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
    assert details["status"]["task_statuses"] == [{"task": "worker-0", "exit_code": 0, "message": ""}]
    assert details["algorithm"]["inputs"] == [
        {
            "name": "data_url",
            "local_dir": "/home/ma-user/modelarts/inputs/data_url_0",
            "remote": {"obs": {"obs_url": f"{folder}data/"}},
        }
    ]
    assert details["algorithm"]["outputs"][0]["local_dir"] == "/home/ma-user/modelarts/outputs/train_url_0"
    assert details["algorithm"]["engine"]["engine_id"] == "tensorflow-cp36-1.8.0"
    assert details["spec"]["resource"]["flavor_detail"]["flavor_info"]["cpu"] == {"arch": "x86", "core_num": 8}
    assert modelarts.objects(f"{folder}output/") == [".keep", "model/saved_model.pb"]
    log = caller.ok("GET", f"{job}/tasks/worker-0/logs/preview")
    assert "['x.csv'] 3 red 0\n" in log["content"]
    assert log["current_size"] == log["full_size"] == len(log["content"])

    answer = caller.send("DELETE", job)
    assert (answer.status_code, answer.text) == (202, '""')
    assert caller.no("GET", job) == (400, "2775")


def missing(sample: Any, answer: Any, where: str = "") -> list[str]:
    """What a sample of the documents has and an answer has not, or has as another kind of thing."""
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


def test_details_have_the_shape_of_the_documents(caller: Caller, samples: Samples) -> None:
    job = samples.start_v2(resource={"flavor_id": "modelarts.vm.gpu.v100"})
    details = caller.wait(job, "Completed")
    assert missing(document("v2_details"), details) == [".status.running_records"]  # of faults that it does not have


def test_the_search_of_the_documents(caller: Caller, samples: Samples) -> None:
    details = caller.wait(samples.start_v2(), "Completed")
    found = caller.ok("POST", f"{PATH}/training-job-searches?limit=1", document("v2_search_request"))
    assert (found["count"], found["items"]) == (0, [])
    every = document("v2_search_request")
    every["filters"][0]["value"] = ["sample"]
    every["filters"][-1]["value"] = []
    assert caller.ok("POST", f"{PATH}/training-job-searches", every)["items"] == [details]


def test_a_failure_has_exit_codes_and_a_message(caller: Caller, samples: Samples) -> None:
    code = "import os, sys, time\nif os.environ['VC_TASK_INDEX'] == '1': sys.exit(3)\ntime.sleep(60)"
    job = samples.start_v2(code, resource={"node_count": 2})
    status = caller.wait(job, "Failed")["status"]
    assert status["tasks"] == ["worker-0", "worker-1"]
    assert [each["exit_code"] for each in status["task_statuses"]] == [143, 3]
    assert "worker-1 exit with 3" in status["task_statuses"][1]["message"]


def test_terminate(caller: Caller, samples: Samples) -> None:
    job = samples.start_v2("import time\nprint('going', flush=True)\ntime.sleep(60)")
    caller.wait(job, "Running")
    assert caller.no("POST", f"{job}/actions", {"action_type": "pause"}) == (400, "2812")
    answer = caller.send("POST", f"{job}/actions", {"action_type": "terminate"})
    assert (answer.status_code, answer.json()["status"]["phase"]) == (202, "Terminating")
    status = caller.wait(job, "Terminated")["status"]
    assert "task_statuses" not in status
    assert caller.no("POST", f"{job}/actions", {"action_type": "terminate"}) == (409, "2796")


def test_searches(caller: Caller, samples: Samples) -> None:
    names = [caller.ok("GET", samples.start_v2())["metadata"]["name"] for _ in range(3)]
    like = {"key": "name", "operator": "like", "value": names}
    empty = [{"key": "phase", "operator": "in", "value": [""]}, {"key": "kind", "operator": "in", "value": []}]
    found = caller.ok("POST", f"{PATH}/training-job-searches", {"offset": 0, "limit": 2, "filters": [like, *empty]})
    assert [item["metadata"]["name"] for item in found["items"]] == [names[2], names[1]]
    assert (found["count"], found["limit"], found["offset"]) == (3, 2, 0)
    assert found["total"] >= 3
    # The offset counts pages.
    found = caller.ok("POST", f"{PATH}/training-job-searches", {"offset": 1, "limit": 2, "filters": [like]})
    assert [item["metadata"]["name"] for item in found["items"]] == [names[0]]
    part = {"key": "name", "operator": "like", "value": [names[1][7:]]}
    assert caller.ok("POST", f"{PATH}/training-job-searches", {"filters": [part]})["count"] == 1
    for wrong in ({"limit": 51}, {"limit": 0}, {"offset": -1}, {"filters": [{"key": "name", "operator": "like"}]}):
        assert caller.no("POST", f"{PATH}/training-job-searches", wrong) == (400, "2788")
    equal = {"filters": [{"key": "name", "operator": "eq", "value": [names[0]]}]}
    assert caller.no("POST", f"{PATH}/training-job-searches", equal) == (400, "2808")


def test_the_link_of_a_log_needs_no_token_but_its_signature(caller: Caller, samples: Samples) -> None:
    job = samples.start_v2()
    caller.wait(job, "Completed")
    link = caller.ok("GET", f"{job}/tasks/worker-0/logs/url?Content-Type=application/octet-stream")["obs_url"]
    assert "\nhello\n" in requests.get(link, timeout=30).text
    assert requests.get(link[:-1], timeout=30).status_code == 403
    assert caller.no("GET", f"{job}/tasks/worker-0/logs/url?Content-Type=text/html") == (400, "2764")
    assert caller.no("GET", f"{job}/tasks/worker-1/logs/url") == (400, "2788")


def test_pages_of_a_log_are_sorted_by_the_words_of_v2(caller: Caller, samples: Samples) -> None:
    job = samples.start_v2("for number in range(6): print(number)")
    caller.wait(job, "Completed")
    every = caller.ok("GET", f"{job}/logs/worker-0?order=asc&lines=500")
    texts = every["content"].splitlines()
    assert texts[1:7] == ["0", "1", "2", "3", "4", "5"]
    assert every["lines"] == len(texts)
    newest = caller.ok("GET", f"{job}/logs/worker-0?lines=2")
    assert newest["content"].splitlines() == texts[:-3:-1]
    assert int(newest["start_line"]) > int(newest["end_line"])
    older = caller.ok("GET", f"{job}/logs/worker-0?lines=2&base_line={newest['end_line']}")
    assert older["content"].splitlines() == texts[-3:-5:-1]
    first = caller.ok("GET", f"{job}/logs/worker-0?lines=2&order=asc")
    second = caller.ok("GET", f"{job}/logs/worker-0?lines=2&order=asc&base_line={first['end_line']}")
    assert (first["content"] + second["content"]).splitlines() == texts[:4]
    for wrong in ("lines=0", "lines=501", "order=up", "base_line=x"):
        assert caller.no("GET", f"{job}/logs/worker-0?{wrong}") == (400, "2764")


def test_previews_show_the_end_of_a_long_log(caller: Caller, samples: Samples, modelarts: ModelArts) -> None:
    job = samples.start_v2("for number in range(200): print('ä', number)")
    caller.wait(job, "Completed")
    whole = caller.ok("GET", f"{job}/tasks/worker-0/logs/preview")
    modelarts.misbehave("preview_limit", bytes=500)
    part = caller.ok("GET", f"{job}/tasks/worker-0/logs/preview")
    assert whole["content"].endswith(part["content"])
    assert part["current_size"] == len(part["content"].encode()) <= 500 < part["full_size"] == whole["full_size"]


def test_a_log_that_has_not_begun(caller: Caller, samples: Samples, modelarts: ModelArts) -> None:
    modelarts.misbehave("sold_out")
    job = samples.start_v2()
    caller.wait(job, "Pending")
    answer = caller.send("GET", f"{job}/tasks/worker-0/logs/preview")
    assert (answer.status_code, answer.content) == (204, b"")
    assert caller.no("GET", f"{job}/logs/worker-0") == (400, "2818")
    modelarts.behave("sold_out")
    caller.wait(job, "Completed")


def test_a_custom_image_runs_its_command(caller: Caller, samples: Samples) -> None:
    engine = {"image_url": "organisation/image:1.2"}
    command = 'echo "in $MA_JOB_DIR" && ls $MA_JOB_DIR && echo arguments'
    job = samples.start_v2(engine=engine, boot_file=None, command=command)
    caller.wait(job, "Completed")
    log = caller.ok("GET", f"{job}/tasks/worker-0/logs/preview")["content"].splitlines()
    assert log[2] == "code"
    assert log[3].startswith("arguments --data_url=/")


@pytest.mark.parametrize("dialect", ["v1", "v2"])
def test_requirements_that_cannot_be_installed_fail_the_job(caller: Caller, samples: Samples, dialect: str) -> None:
    folder = samples.place(**{"code/pip-requirements.txt": "./no-such-package\n"})
    if dialect == "v1":
        made = caller.ok("POST", "/v1/{project_id}/training-jobs", samples.v1(folder))
        caller.wait(f"/v1/{{project_id}}/training-jobs/{made['job_id']}/versions/{made['version_id']}", 11)
        return
    job = f"{V2}/{caller.ok('POST', V2, samples.v2(folder))['metadata']['id']}"
    status = caller.wait(job, "Failed")["status"]
    assert status["task_statuses"][0]["exit_code"] == 1
    assert "no-such-package" in caller.ok("GET", f"{job}/tasks/worker-0/logs/preview")["content"]
