# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import concurrent.futures
import hashlib
import json
import subprocess
import sys
import uuid

import pytest
import requests
import yaml

from tests.harness.server import Server, running

OBJECTS = "/api/v2/storage/objects"
JOBS = "/api/v2/jobs"
SLEEP = "import time\nwhile True: time.sleep(0.1)\n"
SEED = {"containerID", "finishTime", "job_id", "name", "startTime", "status", "submissionTime"}
STATUS = SEED | {"message", "reason", "exitCode", "storingTime", "dataVersion"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    options = ("--cpus", "1", "--memory", "4000", "--queue-bound", "3", "--grace", "2s")
    with running(tmp_path_factory.mktemp("jobs") / "root", *options) as started:
        yield started


@pytest.fixture(scope="module")
def busy(server: Server) -> str:
    """A job that holds the only CPU, so that every other one waits."""
    job_id = server.submit(SLEEP, name="busy")
    server.wait_for(job_id, "RUNNING")
    return job_id


@pytest.fixture
def waiting(server: Server, busy: str):
    """A job that waits; stopped at the end."""
    job_id = server.submit("print('x')", name="waiting")
    yield job_id
    server.request("POST", f"{JOBS}/{job_id}/stop")


def job(name: str = "test", command: str = "python3 train.py", **more: object) -> dict:
    return {"job": {"name": name, "execution": {"command": command}} | more}


def listed(path: str, content: bytes) -> dict:
    return {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_the_status_object_has_the_documented_fields(server: Server, waiting):
    status = server.status(waiting)
    assert set(status) == STATUS
    assert (status["job_id"], status["name"], status["status"]) == (waiting, "waiting", "PENDING")
    assert (status["startTime"], status["finishTime"], status["exitCode"]) == (None, None, None)
    assert status["submissionTime"].endswith("Z")
    assert status["message"]


@pytest.mark.parametrize("kind", ["yaml", "json", "untyped", "odd"])
def test_a_job_file_is_accepted_as_yaml_and_as_json_with_any_content_type(server: Server, busy, kind):
    document = job(env=[{"name": "A", "value": 5}])
    text = json.dumps(document) if kind == "json" else yaml.safe_dump(document)
    types = {"yaml": "application/yaml", "json": "application/json", "odd": "multipart/form-data"}
    headers = {"Content-Type": types[kind]} if kind in types else {}
    job_id = str(uuid.uuid4())
    first = server.request("POST", f"{JOBS}/{job_id}", data=text.encode(), headers=headers)
    again = server.request("POST", f"{JOBS}/{job_id}", data=json.dumps(document))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.headers["job-time"].endswith("Z")
    assert set(again.json()) == STATUS
    other = server.request("POST", f"{JOBS}/{job_id}", data=json.dumps(job(env=[{"name": "A", "value": 6}])))
    assert other.status_code == 409
    assert other.json()["type"] == "/problems/job-conflict"
    assert server.request("POST", f"{JOBS}/{job_id}/stop").json()["status"] == "STOPPED"


def test_the_same_job_with_defaults_written_out_is_the_same_job(server: Server, waiting):
    execution = {"command": "python3 train.py", "retries": 0, "image": "", "resources": {"cpus": 1}}
    document = {"job": {"env": [], "execution": execution, "name": "waiting"}}
    assert server.request("POST", f"{JOBS}/{waiting}", data=yaml.safe_dump(document)).status_code == 200


def test_racing_submits_make_one_job(server: Server, busy):
    job_id, token = str(uuid.uuid4()), server.token()

    def submit(_number: int) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return requests.post(f"{server.url}{JOBS}/{job_id}", json=job(), headers=headers, timeout=60).status_code

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(submit, range(8))) == [200] * 7 + [201]
    server.request("POST", f"{JOBS}/{job_id}/stop")


@pytest.mark.parametrize(
    ("text", "field", "said"),
    [
        (b"", None, "holds no job"),
        (b"[]", None, "holds no job"),
        (b"\xff", None, "not UTF-8"),
        (b"job: {name: x, execution: {command: y}, colour: red}", "job.colour", "is not a known field"),
        (b"job: {name: x, execution: {command: y, retries: 1}}", "job.execution.retries", "0"),
        (b"job: {name: ../x, execution: {command: y}}", "job.name", "letters"),
        (
            b"job: {name: x, execution: {command: y, resources: {memory: '2048'}}}",
            "job.execution.resources.memory",
            "number",
        ),
        (
            b"job: {name: x, execution: {command: y}, inputs: [{path: ../x, size: 1, sha256: z}]}",
            "job.inputs[0].path",
            "..",
        ),
        (b"job: &a {name: x, execution: *a}", None, "anchor"),
        (b"job: {name: x, execution: {command: python train.py}}", "job.execution.command", "Python 3 only"),
        (b"job: {name: x, execution: {command: y, resources: {cpus: 2}}}", "job.execution.resources.cpus", "has 1"),
        (b"job: {name: x, execution: {command: y, resources: {gpus: 9}}}", "job.execution.resources.gpus", "9 GPUs"),
    ],
)
def test_an_invalid_job_is_refused_and_the_error_names_the_field(server: Server, text, field, said):
    job_id = str(uuid.uuid4())
    answer = server.request("POST", f"{JOBS}/{job_id}", data=text)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json().get("field") == field
    assert said in answer.json()["detail"]
    assert server.request("GET", f"{JOBS}/{job_id}").status_code == 404


@pytest.mark.parametrize(
    "job_id", ["x", "1B4E28BA-2FA1-11D2-883F-0016D3CCA427", "1b4e28ba2fa111d2883f0016d3cca427", "%7B%7D"]
)
def test_an_id_that_is_not_a_uuid_is_refused(server: Server, job_id):
    for method, path in (
        ("POST", ""),
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/stop"),
        ("GET", "/logs"),
        ("GET", "/model"),
    ):
        answer = server.request(method, f"{JOBS}/{job_id}{path}")
        assert answer.status_code == 422
        assert answer.json()["field"] == "job_id"


def test_named_inputs_must_be_in_the_storage_with_their_size_and_hash(server: Server, busy):
    job_id = str(uuid.uuid4())
    place = f"jobs/test-{job_id}"
    document = json.dumps(job(inputs=[listed("train.py", b"good"), listed("data/x.csv", b"1,2")]))
    server.put(f"{place}/train.py", "good")
    missing = server.request("POST", f"{JOBS}/{job_id}", data=document)
    assert missing.status_code == 422
    assert missing.json()["type"] == "/problems/input-missing"
    assert missing.json()["field"] == "job.inputs[1]"
    assert f"upload it to {place}/data/x.csv" in missing.json()["detail"]
    server.put(f"{place}/data/x.csv", "1,3")
    changed = server.request("POST", f"{JOBS}/{job_id}", data=document)
    assert changed.status_code == 409
    assert changed.json()["type"] == "/problems/input-changed"
    assert "data/x.csv" in changed.json()["detail"]
    assert hashlib.sha256(b"1,3").hexdigest() in changed.json()["detail"]
    server.put(f"{place}/data/x.csv", "1,2")
    server.put(f"{place}/unnamed", "x")
    assert server.request("POST", f"{JOBS}/{job_id}", data=document).status_code == 201
    kept = server.root / "clients" / "airflow" / "jobs" / job_id / "inputs"
    assert sorted(str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()) == [
        "data/x.csv",
        "train.py",
    ]
    server.request("POST", f"{JOBS}/{job_id}/stop")


def test_an_input_that_would_be_the_directory_of_another_is_refused(server: Server):
    job_id = str(uuid.uuid4())
    server.put(f"jobs/test-{job_id}/a", "1")
    server.put(f"jobs/test-{job_id}/a/b", "2")
    answer = server.request("POST", f"{JOBS}/{job_id}", json=job())
    assert answer.status_code == 422
    assert "'a' and 'a/b' cannot both be files" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("line", "said"), [(b"-r other.txt", "is an option"), (b"\xff", "not UTF-8"), (b"x" * 1_000_001, "1 MB")]
)
def test_requirements_that_cannot_be_installed_are_refused(server: Server, line, said):
    job_id = str(uuid.uuid4())
    server.put(f"jobs/test-{job_id}/requirements.txt", line)
    answer = server.request("POST", f"{JOBS}/{job_id}", json=job())
    assert (answer.status_code, answer.json()["field"]) == (422, "requirements")
    assert said in answer.json()["detail"]


def test_the_files_of_an_active_job_cannot_change(server: Server, waiting):
    key = f"{OBJECTS}/jobs/waiting-{waiting}/train.py"
    for answer in (server.request("PUT", key, data=b"late"), server.request("DELETE", key)):
        assert answer.status_code == 409
        assert answer.json()["type"] == "/problems/job-active"
    assert server.request("GET", key).content == b"print('x')"
    neighbour = f"{OBJECTS}/jobs/another-{waiting}/train.py"
    assert server.request("PUT", neighbour, data=b"x").status_code == 201
    assert server.request("DELETE", neighbour).status_code == 204
    server.request("POST", f"{JOBS}/{waiting}/stop")
    assert server.request("PUT", key, data=b"late").status_code == 200


def test_the_queue_is_bounded(server: Server, busy):
    waiting = [server.submit("x") for _ in range(3)]
    answer = server.request("POST", f"{JOBS}/{uuid.uuid4()}", json=job())
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "30")
    assert answer.json()["type"] == "/problems/queue-full"
    for job_id in waiting:
        server.request("POST", f"{JOBS}/{job_id}/stop")


def test_a_running_job_is_stopped_and_its_message_names_the_client(server: Server, busy):
    assert server.request("DELETE", f"{JOBS}/{busy}").status_code == 409
    assert server.request("GET", f"{JOBS}/{busy}/model").status_code == 409
    answer = server.request("POST", f"{JOBS}/{busy}/stop")
    assert (answer.status_code, answer.json()["status"]) == (200, "RUNNING")
    status = server.wait_for(busy, "STOPPED")
    assert status["reason"] == "Stopped"
    assert "client airflow" in status["message"]
    assert server.request("POST", f"{JOBS}/{busy}/stop").json() == status


def test_a_deleted_job_is_gone_and_its_id_stays_used(server: Server):
    job_id = server.submit("print('hello')", name="short")
    status = server.wait_for(job_id, "SUCCESSFUL", timeout=120)
    assert status["exitCode"] == 0
    assert server.request("GET", f"{JOBS}/{job_id}/model").json() == {"job_id": job_id, "model": None}
    assert server.request("DELETE", f"{JOBS}/{job_id}").status_code == 204
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/stop"), ("GET", "/logs"), ("GET", "/model")):
        answer = server.request(method, f"{JOBS}/{job_id}{path}")
        assert (answer.status_code, answer.json()["type"]) == (410, "/problems/job-gone")
    again = server.request("POST", f"{JOBS}/{job_id}", json=job("short"))
    assert again.status_code == 410
    late = server.request("PUT", f"{OBJECTS}/jobs/short-{job_id}/train.py", data=b"x")
    assert late.status_code == 410
    left = server.request("GET", OBJECTS, params={"prefix": f"jobs/short-{job_id}/"}).json()
    assert left["objects"] == []
    assert not (server.root / "clients" / "airflow" / "jobs" / job_id).exists()


def test_jobs_are_listed_by_page_and_status(server: Server):
    everything = server.request("GET", JOBS, params={"limit": 1000})
    assert everything.headers["job-time"]
    jobs = everything.json()["jobs"]
    assert len(jobs) > 3
    times = [each["submissionTime"] for each in jobs]
    assert times == sorted(times, reverse=True)
    seen, after = [], None
    while page := server.request("GET", JOBS, params={"limit": 2, "after": after}).json():
        seen += page["jobs"]
        after = page["next"]
        if after is None:
            break
    assert seen == jobs
    stopped = server.request("GET", JOBS, params={"status": "STOPPED", "limit": 1000}).json()["jobs"]
    assert stopped == [each for each in jobs if each["status"] == "STOPPED"]
    assert server.request("GET", JOBS, params={"status": "stopped"}).status_code == 422
    assert server.request("GET", JOBS, params={"after": str(uuid.uuid4())}).status_code == 404


def test_two_clients_see_nothing_of_each_other(tmp_path):
    with running(tmp_path / "root", "--trust-all-clients") as server:
        job_id = server.submit(SLEEP)
        command = [sys.executable, "-m", "airflow_provider_jobapi.cli", "client", "add", "other", "--trust-all-clients"]
        command += ["--root", str(server.root), "--url", server.url]
        printed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
        mine, server.connection = server.connection, json.loads(printed.split("JOBAPI_DEFAULT='")[1].split("'\n")[0])
        server._token = ""
        assert server.client_id == "other"
        assert server.request("GET", JOBS).json() == {"jobs": [], "next": None}
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/stop"), ("GET", "/logs"), ("GET", "/model")):
            answer = server.request(method, f"{JOBS}/{job_id}{path}")
            assert (answer.status_code, answer.json()["type"]) == (404, "/problems/no-such-job")
        assert server.request("GET", OBJECTS).json()["objects"] == []
        assert server.request("GET", f"{OBJECTS}/jobs/test-{job_id}/train.py").status_code == 404
        own = server.request("POST", f"{JOBS}/{job_id}", json=job())  # the same id, and a job of another client
        assert own.status_code == 201
        server.request("POST", f"{JOBS}/{job_id}/stop")
        server.wait_for(job_id)
        server.connection, server._token = mine, ""
        assert server.status(job_id)["status"] in {"PENDING", "RUNNING"}


def test_the_clear_cycle_is_a_header_and_no_part_of_the_job(server: Server):
    job_id, document = str(uuid.uuid4()), json.dumps(job(command="true"))
    for cycle, code in ((str(uuid.uuid4()), 201), (str(uuid.uuid4()), 200)):
        answer = server.request("POST", f"{JOBS}/{job_id}", data=document, headers={"Job-Cycle": cycle})
        assert answer.status_code == code, answer.text
    assert server.request("POST", f"{JOBS}/{job_id}", data=document).status_code == 200
    assert set(server.status(job_id)) == STATUS
    refused = server.request("POST", f"{JOBS}/{uuid.uuid4()}", data=document, headers={"Job-Cycle": "the-first"})
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("The header Job-Cycle cannot be 'the-first': it is a UUID")


def test_a_job_that_cannot_be_continued_is_a_422_with_its_field(server: Server):
    document = json.dumps(job(command="true", resumeFrom=str(uuid.uuid4())))
    refused = server.request("POST", f"{JOBS}/{uuid.uuid4()}", data=document)
    assert (refused.status_code, refused.json()["field"]) == (422, "job.resumeFrom")
    refused = server.request("POST", f"{JOBS}/{uuid.uuid4()}", data=json.dumps(job(resumeFrom="x")))
    assert "job.resumeFrom cannot be 'x': it is the id of an ended job" in refused.json()["detail"]
    features = server.request("GET", "/api/v2/storage").headers["Job-Features"]
    assert "checkpoints" in features.split(", ")
