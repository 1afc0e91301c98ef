# SPDX-License-Identifier: Apache-2.0
"""Clients that try to reach what belongs to other clients, and clients that race for one id."""

from __future__ import annotations

import json
import sqlite3
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import pytest
import requests

from tests.harness.client import MODEL
from tests.harness.server import Server
from tests.hostile.tenants import Held, Tenant


@dataclass
class Prey:
    """An ended job of Alice with a log, files and a model, and the client that attacks it."""

    server: Server
    alice: Tenant
    mallory: Tenant
    job_id: str
    keys: list[str]


@pytest.fixture(scope="module")
def prey(two_tenants: tuple[Server, Tenant, Tenant]) -> Prey:
    server, alice, mallory = two_tenants
    ended = alice.run("print('the secret recipe')\n" + MODEL)
    assert ended["status"] == "SUCCESSFUL", alice.log(ended["job_id"])
    model = alice.request("GET", f"/api/v2/jobs/{ended['job_id']}/model").json()["model"]
    keys = [file["key"] for file in model["files"]] + [f"jobs/test-{ended['job_id']}/train.py"]
    return Prey(server, alice, mallory, ended["job_id"], keys)


@pytest.mark.parametrize(
    ("method", "rest"),
    [("GET", ""), ("GET", "/logs"), ("GET", "/model"), ("POST", "/stop"), ("DELETE", "")],
)
def test_the_job_of_another_client_is_unknown(method: str, rest: str, prey: Prey) -> None:
    theirs = prey.mallory.request(method, f"/api/v2/jobs/{prey.job_id}{rest}")
    never = prey.mallory.request(method, f"/api/v2/jobs/{uuid.uuid4()}{rest}")
    assert theirs.status_code == never.status_code == 404
    # Nothing in the answer tells a job of somebody else from none at all.
    assert theirs.json()["detail"].replace(prey.job_id, "") == never.json()["detail"].replace(
        never.url.split("/")[6], ""
    )
    assert theirs.headers.keys() == never.headers.keys()
    assert prey.alice.status(prey.job_id)["status"] == "SUCCESSFUL"


def test_the_log_of_another_client_cannot_be_read_at_any_offset_or_wait(prey: Prey) -> None:
    place = f"/api/v2/jobs/{prey.job_id}/logs"
    assert "the secret recipe" in prey.alice.request("GET", place).text
    for query in ("?offset=0", "?offset=10", "?offset=0&known=RUNNING", "?limit=1"):
        answer = prey.mallory.request("GET", place + query, headers={"Prefer": "wait=1"})
        assert answer.status_code == 404
        assert "secret" not in answer.text


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_the_objects_of_another_client_are_unknown(method: str, prey: Prey) -> None:
    for key in prey.keys:
        assert prey.mallory.request(method, f"/api/v2/storage/objects/{key}").status_code == 404
        other = f"../../{prey.alice.client_id}/data/{key}"
        assert prey.mallory.request(method, f"/api/v2/storage/objects/{other}").status_code in {404, 422}
        assert prey.alice.request("GET", f"/api/v2/storage/objects/{key}").status_code == 200


def test_lists_have_only_the_clients_own_jobs_and_objects(prey: Prey) -> None:
    assert prey.mallory.put("mine", b"x").status_code in {200, 201}
    for query in ("", "?prefix=jobs/", "?after=", "?prefix=%00", "?prefix=%F4%8F%BF%BF"):
        listed = prey.mallory.request("GET", f"/api/v2/storage/objects{query}").json()["objects"]
        assert {each["key"] for each in listed} <= {"mine"}
    assert prey.mallory.request("GET", "/api/v2/jobs").json()["jobs"] == []
    assert prey.mallory.request("GET", f"/api/v2/jobs?after={prey.job_id}").status_code == 404


def test_a_write_under_the_keys_of_another_client_does_not_change_its_objects(prey: Prey) -> None:
    for key in prey.keys:
        before = prey.alice.request("GET", f"/api/v2/storage/objects/{key}").content
        assert prey.mallory.put(key, b"poisoned").status_code == 201
        assert prey.alice.request("GET", f"/api/v2/storage/objects/{key}").content == before
        assert prey.mallory.request("DELETE", f"/api/v2/storage/objects/{key}").status_code == 204


def test_a_job_cannot_name_the_files_of_another_client_as_its_inputs(prey: Prey) -> None:
    described = prey.alice.request("HEAD", f"/api/v2/storage/objects/{prey.keys[-1]}").headers
    given = {"path": "train.py", "size": int(described["Content-Length"]), "sha256": described["ETag"].strip('"')}
    job = {"name": "test", "execution": {"command": "true"}, "inputs": [given]}
    answer = prey.mallory.request("POST", f"/api/v2/jobs/{prey.job_id}", data=json.dumps({"job": job}))
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/input-missing")


# Races

Outcome = Counter[int]


def race(count: int, attempt: Callable[[int], requests.Response]) -> list[requests.Response]:
    """Start attempts at the same time."""
    barrier = threading.Barrier(count)

    def run(number: int) -> requests.Response:
        barrier.wait(30)
        return attempt(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


@pytest.fixture
def sessions() -> Iterator[list[requests.Session]]:
    opened = [requests.Session() for _ in range(8)]
    yield opened
    for session in opened:
        session.close()


def _race_for_one_id(tenants: list[Tenant], sessions: list[requests.Session], commands: list[str]) -> None:
    """Submit under one id from all clients at the same time, over open connections."""
    job_id = str(uuid.uuid4())
    bodies = [json.dumps({"job": {"name": "race", "execution": {"command": command}}}) for command in commands]
    runners = len(tenants)

    def attempt(number: int) -> requests.Response:
        return _send(sessions[number], tenants[number], job_id, bodies[number])

    answers = race(runners, attempt)
    for tenant in {each.client_id: each for each in tenants}.values():
        own = [number for number in range(runners) if tenants[number].client_id == tenant.client_id]
        codes = Counter(answers[number].status_code for number in own)
        assert codes[201] == 1, codes
        winner = next(number for number in own if answers[number].status_code == 201)
        for number in own:
            same = bodies[number] == bodies[winner]
            assert number == winner or answers[number].status_code == (200 if same else 409), codes


def _send(session: requests.Session, tenant: Tenant, job_id: str, body: str) -> requests.Response:
    return session.post(
        f"{tenant.url}/api/v2/jobs/{job_id}",
        data=body,
        headers={"Authorization": f"Bearer {tenant.token}"},
        timeout=60,
    )


def _count_jobs(held: Held, name: str = "race") -> Counter[str]:
    """Count the jobs of each client in the database of the server."""
    with closing(sqlite3.connect(f"file:{held.server.root / 'jobapi.sqlite'}?mode=ro", uri=True)) as database:
        rows = database.execute("select client_id, count(*) from jobs where name = ? group by client_id", (name,))
        return Counter(dict(rows.fetchall()))


def _races(
    held: Held, alice: Tenant, mallory: Tenant, sessions: list[requests.Session], count: int, tally: Counter[str]
) -> None:
    before = _count_jobs(held)
    for number in range(count):
        match number % 3:
            case 0:  # a client races with itself: two workers that both think that the job is theirs to submit
                _race_for_one_id([alice] * 2, sessions, ["true"] * 2)
            case 1:  # with different jobs under one id: one wins, the others are told
                _race_for_one_id([alice] * 3, sessions, ["true", "false", "true"])
            case _:  # two clients, two attempts each: the id means one job of each
                _race_for_one_id([alice, mallory] * 2, sessions, ["true"] * 4)
        tally["races for one id"] += 1
    made = _count_jobs(held) - before
    assert made == Counter({alice.client_id: count, mallory.client_id: count // 3})


def test_a_race_for_one_id_makes_one_job(
    held: Held, alice: Tenant, mallory: Tenant, sessions: list[requests.Session], tally: Counter[str]
) -> None:
    _races(held, alice, mallory, sessions, 30, tally)


@pytest.mark.slow
def test_a_thousand_races_for_one_id_make_one_job_each(
    held: Held, alice: Tenant, mallory: Tenant, sessions: list[requests.Session], tally: Counter[str]
) -> None:
    _races(held, alice, mallory, sessions, 1_000, tally)


def test_concurrent_submit_stop_and_delete_leave_a_consistent_job(
    alice: Tenant, sessions: list[requests.Session], tally: Counter[str]
) -> None:
    for _ in range(10):
        job_id = str(uuid.uuid4())
        ways = [("POST", ""), ("POST", "/stop"), ("DELETE", ""), ("POST", ""), ("POST", "/stop"), ("DELETE", "")]

        def attempt(number: int, job_id: str = job_id, ways: list[tuple[str, str]] = ways) -> requests.Response:
            method, rest = ways[number]
            body = json.dumps({"job": {"name": "wild", "execution": {"command": "true"}}}) if not rest else None
            return alice.request(method, f"/api/v2/jobs/{job_id}{rest}", sessions[number], data=body)

        answers = race(len(ways), attempt)
        assert {answer.status_code for answer in answers} <= {200, 201, 204, 404, 409, 410}
        assert sum(answer.status_code == 201 for answer in answers) <= 1
        assert sum(answer.status_code == 204 for answer in answers) <= 1
        deleted = any(answer.status_code == 204 for answer in answers)
        state = alice.request("GET", f"/api/v2/jobs/{job_id}")
        assert state.status_code == 410 if deleted else state.json()["status"] in {"PENDING", "STOPPED"}
        again = alice.submit(job_id)
        assert again.status_code == (410 if deleted else 409)
        tally["races of submit, stop and delete"] += 1


def test_two_uploads_under_one_key_leave_one_of_them_whole(
    alice: Tenant, sessions: list[requests.Session], tally: Counter[str]
) -> None:
    contents = [bytes([65 + number]) * 300_000 for number in range(6)]
    for _ in range(10):

        def attempt(number: int) -> requests.Response:
            return alice.request("PUT", "/api/v2/storage/objects/contested", sessions[number], data=contents[number])

        answers = race(6, attempt)
        assert {answer.status_code for answer in answers} <= {200, 201}
        got = alice.request("GET", "/api/v2/storage/objects/contested")
        assert got.content in contents
        assert got.headers["ETag"] in {answer.headers["ETag"] for answer in answers}
        tally["races for one key"] += 1
