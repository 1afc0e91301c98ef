# SPDX-License-Identifier: Apache-2.0
"""The service against the real server, over a network that breaks."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import (
    BrokenContract,
    InvalidJob,
    JobConflict,
    JobGone,
    JobNotFound,
    ServiceUnavailable,
)
from airflow_provider_jobapi.services.jobapi import service as service_module
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.training.job_file import MOST_INPUTS, Resources
from airflow_provider_jobapi.training.status import JobState
from tests.harness.client import job, service
from tests.harness.proxy import BlackHole, Broken, BrokenUpload, Canned, FaultProxy
from tests.harness.s3 import BUCKET, S3
from tests.harness.server import Server, running
from tests.harness.tiny import Asked, Reply, Tiny, reply

pytestmark = pytest.mark.usefixtures("no_waits")

WAITS = "import time\nprint('begun', flush=True)\ntime.sleep(600)\n"


@pytest.fixture
def job_id() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def network(jobapi_server: Server) -> Iterator[FaultProxy]:
    with FaultProxy(jobapi_server.port) as proxy:
        yield proxy


def test_a_job_from_submit_to_end(jobapi_server: Server, job_id: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("from a path")
    script = (
        "import pathlib\nfor name in ('a.txt', 'deep/b.bin', 'rows.csv'):\n    print(pathlib.Path(name).read_text())\n"
    )
    asking = service(jobapi_server)
    data = {"a.txt": "a text ü", "deep/b.bin": b"bytes", "rows.csv": path}
    submission = asking.submit(job(script, data=data), job_id)
    assert submission.handle == {"job_id": job_id}
    assert json.dumps(submission.handle)
    assert abs(submission.skew.total_seconds()) < 30
    jobapi_server.wait_for(job_id)
    status = asking.status(submission.handle)
    assert (status.status, status.exit_code, status.name) == (JobState.SUCCESSFUL, 0, "test")
    assert asking.last_lines(submission.handle, 3) == ("a text ü", "bytes", "from a path")
    assert asking.last_lines(submission.handle, 1) == ("from a path",)
    asking.stop(submission.handle)
    assert asking.find(job_id).handle == submission.handle


def test_the_same_id_is_the_same_job(jobapi_server: Server, job_id: str, network: FaultProxy) -> None:
    asking = service(jobapi_server, network.url)
    asking.submit(job(), job_id)
    uploads = network.count("PUT")
    assert asking.submit(job(), job_id).handle == {"job_id": job_id}
    assert network.count("PUT") == uploads == 1
    with pytest.raises(JobConflict, match=job_id):
        asking.submit(job("print('another')\n"), job_id)
    assert network.count("PUT") == uploads
    jobapi_server.wait_for(job_id)


def test_a_lost_answer_does_not_train_twice(jobapi_server: Server, job_id: str, network: FaultProxy) -> None:
    network.next(Broken(0), when=f"POST /api/v2/jobs/{job_id}")
    service(jobapi_server, network.url).submit(job(), job_id)
    assert network.count(f"POST /api/v2/jobs/{job_id}") == 2
    jobapi_server.wait_for(job_id)


def test_what_is_there_already_is_not_uploaded_again(jobapi_server: Server, job_id: str, network: FaultProxy) -> None:
    asking = service(jobapi_server, network.url, retry=Retry(attempts=2))
    data = {"large.bin": b"x" * 3_000_000, "small.txt": "y"}
    network.next(Canned(503), Canned(503), when=f"POST /api/v2/jobs/{job_id}")
    with pytest.raises(ServiceUnavailable):
        asking.submit(job(data=data), job_id)
    uploads = [line for line in network.seen if line.startswith(("PUT", "POST /api/v2/storage"))]
    of_job = f"PUT /api/v2/storage/objects/jobs/test-{job_id}"
    assert sorted(uploads) == ["POST /api/v2/storage/upload", f"{of_job}/large.bin"], "the script goes with small.txt"
    asking.submit(job(data={**data, "small.txt": "z"}), job_id)
    again = [line for line in network.seen if line.startswith(("PUT", "POST /api/v2/storage"))][2:]
    assert again == [f"{of_job}/small.txt"]
    jobapi_server.wait_for(job_id)


def test_an_upload_that_breaks_is_repeated_file_by_file(
    jobapi_server: Server, job_id: str, network: FaultProxy
) -> None:
    network.next(BrokenUpload(100_000), Canned(503), when="large.bin")
    script = "import pathlib\nassert pathlib.Path('large.bin').stat().st_size == 5_000_000\n"
    service(jobapi_server, network.url).submit(job(script, data={"large.bin": b"x" * 5_000_000, "b": "b"}), job_id)
    assert network.count("large.bin") == 3
    assert network.count("POST /api/v2/storage/upload") == 1, "b and the script are not sent again"
    jobapi_server.wait_for(job_id, "SUCCESSFUL")


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"resources": Resources(memory=2**30)}, "MB of memory"),
        ({"resources": Resources(cpus=4000)}, "asks for 4000 CPUs"),
        ({"python_major_version": 2}, "Python 2"),
    ],
)
def test_a_job_that_the_server_could_never_run_is_refused_before_its_upload(
    jobapi_server: Server, job_id: str, network: FaultProxy, asked: dict[str, Any], why: str
) -> None:
    with pytest.raises(InvalidJob, match=why):
        service(jobapi_server, network.url).submit(job(**asked), job_id)
    assert not network.count("PUT")


def test_a_job_with_too_many_files_is_refused_before_any_request(
    jobapi_server: Server, job_id: str, network: FaultProxy
) -> None:
    data = {f"{number}.txt": "x" for number in range(MOST_INPUTS)}  # and train.py
    with pytest.raises(InvalidJob, match="10,001 input files and may have at most 10,000: pack them into an archive"):
        service(jobapi_server, network.url).submit(job(data=data), job_id)
    assert not network.seen


def test_an_active_jobs_files_are_left_alone(jobapi_server: Server, job_id: str) -> None:
    """A worker that was thought dead comes back with other files while the job is training."""
    asking = service(jobapi_server)
    asking.submit(job(WAITS), job_id)
    late = service(jobapi_server)
    late._is_there = lambda _: False  # type: ignore[method-assign]  # it looked before the job was there
    with pytest.raises(JobConflict):
        late.submit(job("print('late')\n"), job_id)
    assert jobapi_server.request("GET", f"/api/v2/storage/objects/jobs/test-{job_id}/train.py").text == WAITS
    asking.stop({"job_id": job_id})
    jobapi_server.wait_for(job_id)


def test_who_loses_the_race_finds_the_winners_job(jobapi_server: Server, job_id: str, network: FaultProxy) -> None:
    asking = service(jobapi_server, network.url)
    there = asking._is_there
    looks: list[str] = []

    def look(wanted: str) -> bool:
        looks.append(wanted)
        if len(looks) == 1:  # the winner submits between our look and our upload, in which the files are not there yet
            service(jobapi_server).submit(job(WAITS), job_id)
            network.next(Canned(200, body=b'{"objects": [], "next": null}'), when="GET /api/v2/storage/objects")
            return False
        return there(wanted)

    asking._is_there = look  # type: ignore[method-assign]
    assert asking.submit(job(WAITS), job_id).handle == {"job_id": job_id}
    assert len(looks) == 2
    asking.stop({"job_id": job_id})
    jobapi_server.wait_for(job_id)


def test_jobs_that_are_not_there(jobapi_server: Server, job_id: str) -> None:
    asking = service(jobapi_server)
    with pytest.raises(JobNotFound, match=job_id):
        asking.find(job_id)
    with pytest.raises(JobNotFound):
        asking.status({"job_id": job_id})
    assert asking.last_lines({"job_id": job_id}, 5) == ()
    asking.submit(job(), job_id)
    jobapi_server.wait_for(job_id)
    jobapi_server.request("DELETE", f"/api/v2/jobs/{job_id}")
    for attempt in (asking.find, lambda gone: asking.submit(job(), gone)):
        with pytest.raises(JobGone, match=job_id):
            attempt(job_id)


def test_a_job_that_the_server_refuses(jobapi_server: Server, job_id: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        service(jobapi_server).submit(job(resources={"cpus": 4_000}), job_id)
    assert "cpus" in str(caught.value).lower()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"script": None, "image": "trainer:1", "arguments": ["--epochs=5"]}, "^script is missing: a jobAPI server"),
        ({"nodes": 2}, "^nodes is 2, and a jobAPI server runs a job on one machine"),
        ({"service_options": {"flavor": "x"}}, "^service_options has 'flavor', and a jobAPI server has no options"),
    ],
)
def test_unsupported_fields_are_refused_before_the_upload(
    jobapi_server: Server, job_id: str, network: FaultProxy, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidJob, match=sentence):
        service(jobapi_server, network.url).submit(job(**changes), job_id)
    assert network.count("") == 0


def test_a_job_to_continue_that_left_nothing_is_refused_before_the_upload(
    jobapi_server: Server, job_id: str, network: FaultProxy
) -> None:
    asking = service(jobapi_server, network.url)
    with pytest.raises(InvalidJob, match="which this client never submitted: name a job of this client"):
        asking.submit(job(resume_from=str(uuid.uuid4())), job_id)
    done = str(uuid.uuid4())
    asking.submit(job("import sys\nsys.exit(3)\n"), done)
    jobapi_server.wait_for(done)
    before = network.count("PUT")
    for _ in range(2):
        with pytest.raises(InvalidJob, match="which has no whole checkpoint any more"):
            asking.submit(job(resume_from=done), job_id)
    assert network.count("PUT") == before


def test_a_file_that_cannot_be_read(jobapi_server: Server, job_id: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidJob, match=r"rows\.csv .*cannot be read: No such file") as caught:
        service(jobapi_server).submit(job(data={"rows.csv": tmp_path / "nowhere.csv"}), job_id)
    assert caught.value.field == "rows.csv"


def test_a_long_log_is_read_to_its_last_lines(jobapi_server: Server, job_id: str) -> None:
    asking = service(jobapi_server)
    handle = asking.submit(job("for number in range(30_000):\n    print(number, 'x' * 50)\n"), job_id).handle
    jobapi_server.wait_for(job_id)
    assert asking.last_lines(handle, 2) == (f"29998 {'x' * 50}", f"29999 {'x' * 50}")
    assert len(asking.last_lines(handle, 25_000)) == 25_000


def test_a_stop_is_asked_for_in_seconds(
    jobapi_server: Server, network: FaultProxy, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert service_module.STOP.total <= 10
    monkeypatch.setattr(service_module, "STOP", Retry(total=1.0, attempts=5))
    network.next(*[BlackHole()] * 10)
    began = time.monotonic()
    with pytest.raises(ServiceUnavailable):
        service(jobapi_server, network.url).stop({"job_id": job_id})
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("handle", [{}, None, {"job_id": 5}, {"job_id": ""}, "1"])
def test_a_handle_of_another_service(jobapi_server: Server, handle: Any) -> None:
    with pytest.raises(BrokenContract, match=r"job handle .* is invalid"):
        service(jobapi_server).status(handle)


def storage_server(*answers: dict[str, str]) -> Tiny:
    left = list(answers)
    return Tiny({"GET /api/v2/storage": lambda _: reply(left.pop(0) if len(left) > 1 else left[0])})


def test_a_storage_that_becomes_ready_is_waited_for() -> None:
    with storage_server({"status": "Pending"}, {"status": "PENDING"}, {"protocol": "http", "status": "Ready"}) as tiny:
        assert service(tiny).storage().protocol == "http"
        assert tiny.count("storage") == 3


def test_a_storage_that_does_not_become_ready() -> None:
    for state, message, words in (
        ("PENDING", "The bucket is being made.", r"PENDING, not READY \(The bucket is being made\); wait"),
        ("ERROR", "No disk.", r"ERROR, not READY \(No disk\); contact the service's operator"),
    ):
        with storage_server({"status": state, "message": message}) as tiny:
            asking = service(tiny)
            with pytest.raises(ServiceUnavailable, match=words):
                asking.storage()


def test_the_token_is_never_sent_to_the_endpoint_of_the_storage(job_id: str) -> None:
    with Tiny() as thief:
        told = {"protocol": "http", "endpoint": f"{thief.url}/api/v2/storage"}
        routes = {
            "GET /api/v2/storage": reply(told),
            "GET /api/v2/storage/objects": reply({"objects": [], "next": None}),
            "PUT /api/v2/storage/objects": reply({}, 201),
            "POST /api/v2/jobs": lambda _: reply({"job_id": job_id, "status": "PENDING"}),
            "GET /api/v2/jobs": reply({"detail": "no"}, 404),
        }
        with Tiny(routes) as tiny:
            service(tiny).submit(job(), job_id)
            assert tiny.count("PUT") == 1
        assert thief.asked == []


def test_a_listing_that_repeats_its_pages(job_id: str) -> None:
    routes = {
        "GET /api/v2/storage": reply({"protocol": "http"}),
        "GET /api/v2/storage/objects": reply({"objects": [], "next": "a"}),
        "GET /api/v2/jobs": reply({"detail": "no"}, 404),
    }
    with Tiny(routes) as tiny, pytest.raises(BrokenContract, match="repeats its pages"):
        service(tiny).submit(job(), job_id)


class S3Api:
    """A jobAPI whose storage is S3, as SAP's was: it takes jobs and notes them."""

    def __init__(self, s3: S3) -> None:
        self.jobs: dict[str, Any] = {}
        self._s3 = s3

    def routes(self) -> dict[str, Any]:
        return {
            "GET /api/v2/storage": reply(self._s3.storage),
            "GET /api/v2/jobs/": self._get,
            "POST /api/v2/jobs/": self._post,
        }

    def _get(self, asked: Asked) -> Reply:
        job_id = asked.target.split("/")[4]
        if job_id not in self.jobs:
            return reply({"detail": "no such job"}, 404)
        return reply({"job_id": job_id, "status": "RUNNING"})

    def _post(self, asked: Asked) -> Reply:
        job_id = asked.target.split("/")[4]
        self.jobs[job_id] = json.loads(asked.body)["job"]
        return reply({"job_id": job_id, "status": "PENDING"}, 201)


def test_a_job_on_a_service_whose_storage_is_s3(s3: S3, job_id: str) -> None:
    api = S3Api(s3)
    masked: list[str] = []
    with Tiny(api.routes()) as tiny:
        asking = service(tiny)
        asking._mask = masked.append
        data = {"deep/large.bin": b"x" * 20_000_000, "ü b.txt": "text"}
        asking.submit(job(data=data, requirements="numpy"), job_id)
    root = s3.root / BUCKET / f"jobs/test-{job_id}"
    there = {path.relative_to(root).as_posix(): path.stat().st_size for path in root.rglob("*") if path.is_file()}
    assert there == {each["path"]: each["size"] for each in api.jobs[job_id]["inputs"]}
    assert there.keys() == {"train.py", "requirements.txt", "deep/large.bin", "ü b.txt"}
    assert masked == ["test-secret-key"]


def test_s3_uploads_are_left_out_when_the_hash_is_there(s3: S3, job_id: str) -> None:
    uploads: list[int] = []
    with FaultProxy(s3.port) as network:
        behind = S3(network.url, network.port, s3.root)
        for _ in range(2):
            with Tiny(S3Api(behind).routes()) as tiny:  # each a service that has forgotten the job
                service(tiny).submit(job(data={"a": "a", "b": b"x" * 10_000_000}), job_id)
            uploads.append(network.count("PUT"))
    assert uploads[0] == uploads[1] >= 3


def test_half_of_an_s3_storage_is_refused(job_id: str) -> None:
    routes = {"GET /api/v2/storage": reply({"endpoint": "files.example.com"}), "GET /api/v2/jobs": reply({}, 404)}
    with Tiny(routes) as tiny, pytest.raises(BrokenContract, match="without endpoint, accessKey and secretKey"):
        service(tiny).submit(job(), job_id)


def test_a_server_that_is_restarted_in_the_middle(tmp_path: Path, job_id: str) -> None:
    with running(tmp_path / "jobapi") as server:
        asking = service(server)
        asking.submit(job(), job_id)
        server.kill()
        with pytest.raises(ServiceUnavailable):
            asking.status({"job_id": job_id})
        server.restart()
        assert asking.find(job_id).handle == {"job_id": job_id}
        server.wait_for(job_id)
