# SPDX-License-Identifier: Apache-2.0
"""Each way in which the double can be told to misbehave."""

from __future__ import annotations

import time
from typing import Any

import pytest
import requests

from tests.harness.modelarts.caller import Caller
from tests.harness.modelarts.double import ModelArts
from tests.harness.modelarts.samples import V1, V2, Samples

SPECS = "/v1/{project_id}/job/resource-specs?job_type=train"
FLAVORS = "/v2/{project_id}/training-job-flavors"


@pytest.mark.parametrize("dialect", ["v1", "v2"])
def test_an_answer_is_lost_after_the_job_was_created(
    caller: Caller, samples: Samples, modelarts: ModelArts, dialect: str
) -> None:
    path = {"v1": V1, "v2": V2}[dialect]
    body = getattr(samples, dialect)(samples.place())
    modelarts.misbehave("lost_answer")
    with pytest.raises(requests.ConnectionError):
        caller.send("POST", path, body)
    assert modelarts.requests()[-1]["status"] is None
    # The job is there, so its name is taken; and the next answer arrives.
    assert caller.no("POST", path, body) == (400, {"v1": "0103", "v2": "2751"}[dialect])


@pytest.mark.parametrize("path", [SPECS, FLAVORS])
def test_every_kth_request_is_one_too_many(caller: Caller, modelarts: ModelArts, path: str) -> None:
    modelarts.misbehave("too_many_requests", every=3, retry_after=7)
    answers = [caller.send("GET", path) for _ in range(7)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 200, 200, 429, 200]
    assert answers[2].headers["Retry-After"] == "7"
    assert answers[2].json()["error_code"] == "ModelArts.2799"
    modelarts.behave("too_many_requests")
    assert caller.send("GET", path).status_code == 200


def test_too_many_requests_of_some_paths(caller: Caller, modelarts: ModelArts) -> None:
    modelarts.misbehave("too_many_requests", every=1, path="^GET .*/resource-specs", times=1)
    assert caller.send("GET", FLAVORS).status_code == 200
    assert [caller.send("GET", SPECS).status_code for _ in range(2)] == [429, 200]


def test_unavailable_once(caller: Caller, modelarts: ModelArts) -> None:
    modelarts.misbehave("unavailable")
    assert caller.no("GET", SPECS) == (503, "4700")
    assert caller.send("GET", SPECS).status_code == 200
    modelarts.misbehave("unavailable", retry_after=3)
    assert caller.send("GET", SPECS).headers["Retry-After"] == "3"


def test_something_in_between_answers(caller: Caller, modelarts: ModelArts) -> None:
    modelarts.misbehave("bad_gateway")
    answer = caller.send("GET", FLAVORS)
    assert (answer.status_code, answer.headers["Content-Type"][:9]) == (502, "text/html")
    assert caller.send("GET", FLAVORS).status_code == 200


def test_any_refusal(caller: Caller, samples: Samples, modelarts: ModelArts) -> None:
    modelarts.misbehave("refusal", path="^POST .*/training-jobs$", message="Insufficient resources.", times=2)
    body = samples.v1(samples.place())
    assert caller.send("POST", V1, body).json() == {
        "is_success": False,
        "error_code": "ModelArts.3976",
        "error_message": "Insufficient resources.",
    }
    assert caller.no("POST", V2, {}) == (400, "3976")
    assert caller.ok("GET", f"{V1}?search_content={body['job_name']}")["jobs"] == []
    caller.ok("POST", V1, body)


def test_slow_answers(caller: Caller, modelarts: ModelArts) -> None:
    modelarts.misbehave("slow", seconds=3, path="resource-specs")
    begin = time.monotonic()
    caller.ok("GET", FLAVORS)
    assert time.monotonic() - begin < 3
    begin = time.monotonic()
    caller.ok("GET", SPECS)
    assert time.monotonic() - begin >= 3


@pytest.mark.parametrize(("status", "code"), [(401, "0202"), (403, "2784")])
def test_a_token_expires_before_its_time(caller: Caller, modelarts: ModelArts, status: int, code: str) -> None:
    modelarts.misbehave("expired_token", status=status)
    assert caller.no("GET", SPECS) == (status, code)
    assert caller.no("GET", FLAVORS) == (status, code)
    caller.login()
    assert caller.send("GET", SPECS).status_code == 200


def test_the_password_is_another(caller: Caller, modelarts: ModelArts, monkeypatch: pytest.MonkeyPatch) -> None:
    modelarts.misbehave("new_password", password="that of tomorrow")
    assert caller.no("GET", SPECS) == (401, "0202")
    with pytest.raises(KeyError, match="subject"):
        caller.login()
    monkeypatch.setitem(modelarts.account, "password", "that of tomorrow")
    caller.login()
    assert caller.send("GET", SPECS).status_code == 200


def test_tokens_live_as_long_as_they_say(caller: Caller, modelarts: ModelArts) -> None:
    modelarts.misbehave("token_life", seconds=0)
    token = caller.login().json()["token"]
    assert token["expires_at"][:17] == token["issued_at"][:17]
    assert caller.no("GET", SPECS) == (401, "0202")


def test_numbers_come_as_strings(caller: Caller, samples: Samples, modelarts: ModelArts) -> None:
    modelarts.misbehave("string_numbers")
    made = caller.ok("POST", V1, samples.v1(samples.place()))
    assert {name: type(value) for name, value in made.items()} == {
        "is_success": bool,
        "job_id": str,
        "job_name": str,
        "status": str,
        "create_time": str,
        "version_id": str,
        "version_name": str,
        "resource_id": str,
    }
    version = f"{V1}/{made['job_id']}/versions/{made['version_id']}"
    assert caller.wait(version, 10)["status"] == "10"
    (name,) = caller.ok("GET", f"{version}/log/file-names")["log_file_list"]
    log = caller.ok("GET", f"{version}/aom-log?log_file={name}&lines=1")
    assert (log["lines"], type(log["start_line"]), type(log["end_line"])) == ("1", int, str)
    listed = caller.ok("GET", f"{V1}?search_content={made['job_name']}")
    assert isinstance(listed["jobs"][0]["job_id"], str)


def test_a_flavour_is_sold_out_for_a_while(caller: Caller, samples: Samples, modelarts: ModelArts) -> None:
    def sold_out() -> set[str]:
        return {spec["spec_code"] for spec in caller.ok("GET", SPECS)["specs"] if spec["no_resource"]}

    always = sold_out()
    modelarts.misbehave("sold_out", flavor="modelarts.vm.cpu.8u")
    assert sold_out() == always | {"modelarts.vm.cpu.8u"}
    first, second = samples.start_v1(), samples.start_v2()
    caller.wait(first, 7)
    caller.wait(second, "Pending")
    modelarts.misbehave("sold_out", flavor="modelarts.vm.cpu.8u", seconds=0)
    assert sold_out() == always
    caller.wait(first, 10)
    caller.wait(second, "Completed")


def test_a_job_that_waits_can_be_stopped(caller: Caller, samples: Samples) -> None:
    # This one has no end: the flavour is always sold out.
    version = samples.start_v1(spec_id=5)
    caller.wait(version, 7)
    assert caller.ok("POST", f"{version}/stop") == {"is_success": True}
    caller.wait(version, 12)
    assert caller.no("POST", f"{version}/stop") == (409, "2796")


@pytest.mark.parametrize("code", [0, 2, 3, 5, 6, 13, 14, 15, 16, 17, 18, 19, 20, 21, 99])
def test_every_number_can_be_shown(caller: Caller, samples: Samples, modelarts: ModelArts, code: int) -> None:
    version = samples.start_v1()
    job = version.split("/")[-3]
    modelarts.misbehave("status", job=job, code=code)
    assert caller.ok("GET", version)["status"] == code
    listed = caller.ok("GET", f"{V1}?status={code}&per_page=1000")["jobs"]
    assert [each["status"] for each in listed if each["job_id"] == int(job)] == [code]
    assert {each["status"] for each in listed} == {code}
    modelarts.behave()
    caller.wait(version, 10)


@pytest.mark.parametrize("phase", ["Abnormal", "Failed", "Waiting"])
def test_every_phase_can_be_shown(caller: Caller, samples: Samples, modelarts: ModelArts, phase: str) -> None:
    job = samples.start_v2()
    modelarts.misbehave("status", code=phase)
    assert caller.ok("GET", job)["status"]["phase"] == phase


def test_someone_else_deletes_the_job(caller: Caller, samples: Samples, modelarts: ModelArts) -> None:
    code = "import time; time.sleep(60)"
    version, job = samples.start_v1(code), samples.start_v2(code)
    caller.wait(version, 8)
    caller.wait(job, "Running")
    modelarts.misbehave("deleted", job=version.split("/")[-3])
    assert caller.no("GET", version) == (400, "2775")
    assert caller.no("GET", f"{version}/log/file-names") == (400, "2775")
    assert caller.ok("GET", job)["status"]["phase"] == "Running"
    modelarts.misbehave("not_found", status=404)
    modelarts.misbehave("deleted")
    assert caller.no("GET", job) == (404, "2775")


def test_the_words_that_the_documents_disagree_about(caller: Caller, samples: Samples, modelarts: ModelArts) -> None:
    version = samples.start_v1()
    caller.wait(version, 10)
    names = caller.ok("GET", f"{version}/log/file-names")["log_file_list"]
    modelarts.misbehave("log_file_list")
    assert caller.ok("GET", f"{version}/log/file-names")["log_file_list"] == names[0]
    modelarts.misbehave("separator")
    assert "\n\n" not in caller.ok("GET", f"{version}/aom-log?log_file={names[0]}")["content"]
    modelarts.misbehave("error_key")
    answer = caller.send("GET", f"{V1}/1/versions/1").json()
    assert ("error_msg" in answer, "error_message" in answer) == (True, False)
    modelarts.misbehave("soft_failures")
    answer = caller.send("GET", f"{V1}/1/versions/1")
    assert (answer.status_code, answer.json()["is_success"]) == (200, False)


@pytest.mark.parametrize(
    ("fault", "how", "codes"),
    [
        ("no_agency", {}, {"v1": (401, "0428"), "v2": (401, "0428")}),
        ("no_agency", {"code": "2785"}, {"v1": (403, "2785"), "v2": (403, "2785")}),
        ("quota", {"jobs": 0}, {"v1": (400, "0118"), "v2": (400, "2815")}),
    ],
    ids=["agency", "authorization", "quota"],
)
def test_what_an_account_lacks(
    caller: Caller, samples: Samples, modelarts: ModelArts, fault: str, how: dict[str, Any], codes: dict[str, Any]
) -> None:
    modelarts.misbehave(fault, **how)
    assert caller.no("POST", V1, samples.v1(samples.place())) == codes["v1"]
    assert caller.no("POST", V2, samples.v2(samples.place())) == codes["v2"]
    if fault == "quota":
        assert caller.ok("GET", V1)["quotas"] == 0


def test_a_region_without_pages_of_logs(caller: Caller, samples: Samples, modelarts: ModelArts) -> None:
    job = samples.start_v2()
    modelarts.misbehave("no_log_pages")
    answer = caller.send("GET", f"{job}/logs/worker-0")
    assert (answer.status_code, answer.json()["error_code"]) == (404, "APIG.0101")


def test_unknown_faults_and_options_are_refused(modelarts: ModelArts) -> None:
    with pytest.raises(ValueError, match="no fault 'rain'"):
        modelarts.misbehave("rain")
    with pytest.raises(ValueError, match=r"slow takes .*, not \['colour'\]"):
        modelarts.misbehave("slow", colour="red")


def test_the_journal_holds_bodies(caller: Caller, samples: Samples, modelarts: ModelArts) -> None:
    body = samples.v1(samples.place())
    caller.ok("POST", V1, body)
    last = modelarts.requests()[-1]
    assert (last["method"], last["status"]) == ("POST", 200)
    assert body["job_name"] in last["body"]
