# SPDX-License-Identifier: Apache-2.0
"""The double refuses what the documents refuse: headers, tokens, types, names, lengths, numbers, places, quotas."""

from __future__ import annotations

import copy
import uuid
from typing import Any

import pytest
import requests

from tests.harness.modelarts.caller import Caller, document
from tests.harness.modelarts.double import ModelArts
from tests.harness.modelarts.samples import V1, V2, Samples

SPECS = "/v1/{project_id}/job/resource-specs?job_type=train"
FLAVORS = "/v2/{project_id}/training-job-flavors"


def auth(double: ModelArts, **changes: Any) -> dict[str, Any]:
    """A request for a token, some of its words changed."""
    body = document("token_request")["auth"]
    user = {name: changes.pop(name, double.account[name]) for name in ("user", "password", "domain")}
    body["identity"]["password"]["user"] = {
        "name": user["user"],
        "password": user["password"],
        "domain": {"name": user["domain"]},
    }
    body["scope"] = changes.pop("scope", {"project": {"name": changes.pop("project", double.account["project"])}})
    return {"auth": body | changes}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, 201),
        ({"password": "wrong"}, 401),
        ({"user": "nobody"}, 401),
        ({"domain": "another"}, 401),
        ({"project": "another"}, 401),
        ({"scope": {"project": {"name": "project", "domain": {"name": "domain"}}}}, 201),
        ({"scope": {"project": {"name": "project", "domain": {"name": "another"}}}}, 401),
        ({"identity": {"methods": ["token"]}}, 400),
    ],
)
def test_tokens(modelarts: ModelArts, changes: dict[str, Any], status: int) -> None:
    answer = requests.post(f"{modelarts.iam_url}/auth/tokens", json=auth(modelarts, **changes), timeout=30)
    assert answer.status_code == status, answer.text
    assert ("X-Subject-Token" in answer.headers) == (status == 201)
    assert ("error" in answer.json()) == (status != 201)


def test_a_token_request_must_be_json(modelarts: ModelArts) -> None:
    plain = {"Content-Type": "text/plain"}
    answer = requests.post(f"{modelarts.iam_url}/auth/tokens", data="{}", headers=plain, timeout=30)
    assert answer.status_code == 400


def test_what_a_token_says(modelarts: ModelArts) -> None:
    answer = requests.post(f"{modelarts.iam_url}/auth/tokens", json=auth(modelarts), timeout=30)
    token = answer.json()["token"]
    assert token["project"]["name"] == "project"
    assert token["expires_at"].endswith("Z")
    assert token["expires_at"] > token["issued_at"]
    assert token["catalog"][0]["endpoints"][0]["url"] == modelarts.url
    assert len(answer.headers["X-Subject-Token"]) > 4096


@pytest.mark.parametrize(
    ("scope", "code"), [({}, (401, "0212")), ({"domain": {"name": "domain"}}, (401, "0207"))], ids=["none", "domain"]
)
def test_a_token_must_be_a_projects(caller: Caller, scope: dict[str, Any], code: tuple[int, str]) -> None:
    answer = requests.post(f"{caller.double.iam_url}/auth/tokens", json=auth(caller.double, scope=scope), timeout=30)
    caller.token = answer.headers["X-Subject-Token"]
    assert caller.no("GET", SPECS) == code


@pytest.mark.parametrize("path", [SPECS, FLAVORS])
def test_every_request_needs_a_good_token(caller: Caller, path: str) -> None:
    assert caller.no("GET", path.replace("{project_id}", "0" * 32)) == (404, "2786")
    good, caller.token = caller.token, caller.token[:-1]
    assert caller.no("GET", path) == (401, "0203")
    caller.token = ""
    assert caller.no("GET", path) == (401, "0201")
    # Names of headers know no case: the documents write this one in two ways.
    assert caller.send("GET", path, headers={"x-AUTH-tOKEN": good}).status_code == 200


def test_paths_and_methods_that_do_not_exist(caller: Caller) -> None:
    answer = caller.send("GET", "/v1/{project_id}/training-job")
    assert (answer.status_code, answer.json()["error_code"]) == (404, "APIG.0101")
    assert caller.no("PATCH", V1) == (405, "2803")
    assert caller.no("GET", V2) == (405, "2803")
    assert caller.no("GET", f"{V1}/1/versions/1") == (400, "2775")
    assert caller.no("GET", f"{V2}/1") == (400, "2775")
    assert caller.no("GET", "/v1/{project_id}/job/resource-specs") == (400, "0104")


def change(body: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A body with one field changed; ``...`` takes it away."""
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
        ("job_name", "", "0104"),
        ("job_name", "a" * 65, "0104"),
        ("job_name", "with space", "0104"),
        ("job_name", "with.dot", "0104"),
        ("job_name", 5, "0104"),
        ("job_desc", "d" * 257, "0104"),
        ("job_desc", 5, "0104"),
        ("workspace_id", "af261af2218841ec960b01ab3cf1a5fa", "0102"),
        ("config", ..., "0104"),
        ("config", [], "0104"),
        ("config.worker_server_num", ..., "0104"),
        ("config.worker_server_num", "1", "0104"),
        ("config.worker_server_num", True, "0104"),
        ("config.worker_server_num", 0, "0104"),
        ("config.worker_server_num", 2, "0104"),
        ("config.spec_id", "27", "0104"),
        ("config.spec_id", ..., "0104"),
        ("config.spec_id", 28, "2781"),
        ("config.pool_id", "pool7d1e384a", "0104"),
        ("config.flavor", {"code": "modelarts.vm.cpu.8u"}, "0104"),
        ("config.engine_id", "4", "0104"),
        ("config.engine_id", 5, "2780"),
        ("config.model_id", 1, "0104"),
        ("config.app_url", ..., "0104"),
        ("config.boot_file_url", ..., "0104"),
        ("config.boot_file_url", "/data/elsewhere/boot.py", "2758"),
        ("config.app_url", "/no-such-bucket/code/", "2791"),
        ("config.app_url", "data/code/", "2791"),
        ("config.data_url", ..., "0104"),
        ("config.data_url", "/no-such-bucket/data/", "2791"),
        ("config.data_url", "https://data/", "2791"),
        ("config.data_url", "/data/file.csv", "2791"),
        ("config.data_source", [{"type": "obs", "data_url": "/data/"}], "0104"),
        ("config.dataset_id", "1", "0104"),
        ("config.train_url", "/no-such-bucket/output/", "2791"),
        ("config.train_url", 7, "0104"),
        ("config.parameter", {"steps": "1"}, "0104"),
        ("config.parameter", [{"label": "steps", "value": 1}], "0104"),
        ("config.parameter", [{"value": "1"}], "0104"),
        ("config.create_version", "yes", "0104"),
        ("config.user_image_url", "organisation/image:1", "2806"),
    ],
)
def test_what_a_job_of_v1_must_not_be(caller: Caller, samples: Samples, path: str, value: Any, code: str) -> None:
    body = change(samples.v1(samples.place()), path, value)
    answer = caller.send("POST", V1, body)
    assert (answer.status_code, answer.json()["error_code"]) == (400, f"ModelArts.{code}"), answer.text
    assert answer.json()["is_success"] is False
    assert set(answer.json()) == {"is_success", "error_code", "error_message"}


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        ("kind", ..., "2788"),
        ("kind", "edge_job", "2788"),
        ("metadata", ..., "2788"),
        ("metadata.name", "a" * 65, "2788"),
        ("metadata.name", "ä", "2788"),
        ("metadata.description", "d" * 257, "2788"),
        ("metadata.workspace_id", "af261af2218841ec960b01ab3cf1a5fa", "0102"),
        ("algorithm.id", "3f5d6706-7b67-408d-8ba0-ec08048c45ee", "2788"),
        ("algorithm.code_dir", ..., "2757"),
        ("algorithm.boot_file", ..., "2758"),
        ("algorithm.boot_file", "/data/elsewhere/boot.py", "2758"),
        ("algorithm.code_dir", "/no-such-bucket/code/", "2791"),
        ("algorithm.engine", ..., "2780"),
        ("algorithm.engine", {"engine_id": "no-such-engine"}, "2780"),
        ("algorithm.engine", {"image_url": "organisation/image:1"}, "2806"),
        ("algorithm.command", "python train.py", "2788"),
        ("algorithm.parameters", [{"name": "steps", "value": 1}], "2788"),
        ("algorithm.parameters", [{"name": "a", "value": "1"}, {"name": "a", "value": "2"}], "2767"),
        ("algorithm.environments", {"STEPS": 1}, "2788"),
        ("algorithm.local_code_dir", "/root/code", "2788"),
        ("algorithm.inputs.0.name", ..., "2788"),
        ("algorithm.inputs.0.name", "train_url", "2753"),
        ("algorithm.inputs.0.remote.obs.obs_url", "/no-such-bucket/data/", "2791"),
        ("algorithm.inputs.0.remote", {"dataset": {"id": "1", "version_id": "1"}}, "2788"),
        ("algorithm.outputs.0.remote", ..., "2788"),
        ("spec", ..., "2788"),
        ("spec.resource.flavor_id", ..., "2788"),
        ("spec.resource.flavor_id", "modelarts.vm.cpu.3u", "2781"),
        ("spec.resource.node_count", "1", "2788"),
        ("spec.resource.node_count", 0, "2788"),
        ("spec.resource.node_count", 17, "2793"),
        ("spec.resource.pool_id", "pool", "2890"),
        ("spec.log_export_path", {"obs_url": "/no-such-bucket/"}, "2791"),
    ],
)
def test_what_a_job_of_v2_must_not_be(caller: Caller, samples: Samples, path: str, value: Any, code: str) -> None:
    body = change(samples.v2(samples.place()), path, value)
    answer = caller.send("POST", V2, body)
    status = 404 if code == "2890" else 400
    assert (answer.status_code, answer.json()["error_code"]) == (status, f"ModelArts.{code}"), answer.text
    assert set(answer.json()) == {"error_msg", "error_code", "error_solution"}


def test_an_algorithm_that_is_not_found_is_answered_as_in_the_documents(caller: Caller, samples: Samples) -> None:
    algorithm = {"id": "3f5d6706-7b67-408d-8ba0-ec08048c45ee"}
    body = samples.v2(samples.place()) | {"algorithm": algorithm}
    assert caller.send("POST", V2, body).json() == {
        "error_msg": "algorithm not found.",
        "error_code": "ModelArts.2755",
        "error_solution": "Check whether the training project information in the request is valid.",
    }


def test_a_second_job_of_a_name(caller: Caller, samples: Samples) -> None:
    name = f"Test-{uuid.uuid4()}"
    body = samples.v1(samples.place()) | {"job_name": name}
    made = caller.ok("POST", V1, body)
    answer = caller.send("POST", V1, body)
    assert answer.status_code == 400
    assert answer.json() == {
        "is_success": False,
        "error_message": f"Job name:{name} is existed",
        "error_code": "ModelArts.0103",
    }
    caller.ok("DELETE", f"{V1}/{made['job_id']}")
    caller.ok("POST", V1, body)
    other = samples.v2(samples.place())
    caller.ok("POST", V2, other)
    assert caller.no("POST", V2, other) == (400, "2751")


@pytest.mark.parametrize(
    ("limits", "code"),
    [({"files": 1}, "2759"), ({"depth": 1}, "2760"), ({"bytes": 3}, "2761")],
    ids=["files", "depth", "bytes"],
)
def test_a_code_folder_has_limits(caller: Caller, samples: Samples, limits: dict[str, int], code: str) -> None:
    folder = samples.place(**{"code/package/module.py": "pass"})
    caller.double.misbehave("code_limits", **limits)
    assert caller.no("POST", V1, samples.v1(folder)) == (400, code)
    assert caller.no("POST", V2, samples.v2(folder)) == (400, code)
    caller.double.behave()
    caller.ok("POST", V2, samples.v2(folder))


def test_an_empty_code_folder(caller: Caller, samples: Samples) -> None:
    folder = samples.place()
    nothing = {"app_url": f"{folder}nothing/", "boot_file_url": f"{folder}nothing/boot.py"}
    assert caller.no("POST", V1, samples.v1(folder, **nothing)) == (400, "2757")
    missing = {"boot_file_url": f"{folder}code/missing.py"}
    assert caller.no("POST", V1, samples.v1(folder, **missing)) == (400, "2758")


@pytest.mark.parametrize(("path", "code"), [(V1, "0104"), (V2, "2787")])
def test_a_body_must_be_json_and_say_so(caller: Caller, path: str, code: str) -> None:
    as_json, as_text = {"Content-Type": "application/json"}, {"Content-Type": "text/plain"}
    assert caller.no("POST", path, data="{", headers=as_json) == (400, code)
    assert caller.no("POST", path, data="{}", headers=as_text) == (400, code)


def test_fields_that_the_documents_do_not_know_are_kept(caller: Caller, samples: Samples) -> None:
    body = samples.v1(samples.place(), volumes=[{"host_path": {"src_path": "/a", "dest_path": "/b"}}], unknown=1)
    caller.ok("POST", V1, body | {"notification": {"topic_urn": "", "events": []}})


def test_lists_of_v1(caller: Caller, samples: Samples) -> None:
    made = [caller.ok("POST", V1, samples.v1(samples.place())) for _ in range(3)]
    name = made[1]["job_name"]
    found = caller.ok("GET", f"{V1}?search_content={name}")
    assert found["job_total_count"] == 1
    assert set(found) == {"is_success", "quotas", "job_total_count", "job_count_limit", "jobs"}
    (job,) = found["jobs"]
    assert set(job) == {
        *("job_id", "job_name", "version_id", "status", "create_time", "duration", "job_desc", "version_count")
    }
    assert (job["job_id"], job["version_id"], job["job_name"]) == (made[1]["job_id"], made[1]["version_id"], name)
    everything = caller.ok("GET", f"{V1}?per_page=1000&sortBy=create_time&order=desc")["jobs"]
    assert [job["job_id"] for job in everything[:3]] == [each["job_id"] for each in reversed(made)]
    second = caller.ok("GET", f"{V1}?per_page=1&page=2&sortBy=create_time&order=desc")["jobs"]
    assert [job["job_id"] for job in second] == [made[1]["job_id"]]
    assert caller.ok("GET", f"{V1}?workspace_id=1")["jobs"] == []
    for wrong in ("per_page=0", "per_page=1001", "page=0", "sortBy=name", "order=up", f"search_content={'a' * 65}"):
        assert caller.no("GET", f"{V1}?{wrong}") == (400, "0104")


def test_versions_of_v1(caller: Caller, samples: Samples) -> None:
    folder = samples.place()
    steps = [
        {"label": "learning_rate", "value": "0.01"},
        {"label": "mode", "value": "fast"},
        {"label": "shuffle", "value": "true"},
    ]
    body = samples.v1(folder, parameter=steps)
    first = caller.ok("POST", V1, body)
    versions = f"{V1}/{first['job_id']}/versions"
    config = body["config"] | {"pre_version_id": first["version_id"]}
    second = caller.ok("POST", versions, {"config": config})
    assert (second["version_name"], second["job_id"]) == ("V0002", first["job_id"])
    listed = caller.ok("GET", versions)
    assert (listed["version_count"], len(listed["versions"])) == (2, 2)
    assert isinstance(listed["versions"][0]["system_metric_list"], str)
    assert caller.ok("GET", f"{versions}?per_page=1&page=2")["versions"][0]["version_id"] == second["version_id"]
    details = caller.wait(f"{versions}/{second['version_id']}", 10)
    # Asked for with strings, answered with numbers.
    assert details["parameter"] == [steps[0] | {"value": 0.01}, *steps[1:]]
    assert details["pre_version_id"] == first["version_id"]
    assert caller.no("POST", versions, {"config": body["config"]}) == (400, "0104")
    caller.ok("DELETE", f"{versions}/{second['version_id']}")
    assert caller.ok("GET", versions)["version_count"] == 1


def test_a_job_without_a_version_does_not_run(caller: Caller, samples: Samples) -> None:
    made = caller.ok("POST", V1, samples.v1(samples.place(), create_version=False))
    assert "version_id" not in made
    assert caller.ok("GET", f"{V1}/{made['job_id']}/versions")["versions"] == []
