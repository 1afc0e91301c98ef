# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes API of the tests is real: what the service relies on holds with ACK's own resource definition."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.harness.ack import CRD, RBAC, SAMPLE
from tests.harness.kubernetes.client import MERGE, Client, Refused, collection
from tests.harness.kubernetes.cluster import Kubernetes
from tests.harness.server import poll

MEMORY_LIMIT = 900 << 20
"""Bytes of both processes; seen: 400 MiB."""


@pytest.fixture(scope="module")
def jobs(kubernetes: Kubernetes) -> str:
    """The path of training jobs, in a namespace of this module's own."""
    kubernetes.apply(CRD)
    return collection(job(), kubernetes.namespace())


def job(name: str = "digits", **spec: Any) -> dict[str, Any]:
    document = yaml.safe_load(SAMPLE.read_text())
    document["metadata"]["name"] = document["spec"]["trainingJobName"] = name
    document["spec"].update(roleARN="arn:aws:iam::1:role/r", outputDataConfig={"s3OutputPath": "s3://b"}, **spec)
    return dict(document)


def events(client: Client, path: str, version: str, seconds: int = 30) -> Iterator[dict[str, Any]]:
    params = {"watch": "true", "resourceVersion": version, "timeoutSeconds": str(seconds)}
    with client.call("GET", path, params=params, stream=True, timeout=seconds + 30) as answer:
        for line in answer.iter_lines():
            yield json.loads(line)


def test_a_wrong_type_is_refused_with_its_path(kubernetes: Kubernetes, jobs: str) -> None:
    with pytest.raises(Refused, match=r"spec\.hyperParameters\.depth.*must be of type string") as refused:
        kubernetes.admin.json("POST", jobs, job("typed", hyperParameters={"depth": 5}))
    assert refused.value.code == 422


def test_an_empty_text_is_a_text(kubernetes: Kubernetes, jobs: str) -> None:
    created = kubernetes.admin.json("POST", jobs, job("empty", environment={"A": ""}))
    assert created["spec"]["environment"] == {"A": ""}


def test_a_field_that_the_definition_does_not_know_is_dropped(kubernetes: Kubernetes, jobs: str) -> None:
    created = kubernetes.admin.json("POST", jobs, job("pruned", serverlessJobConfig={"a": 1}))
    assert "serverlessJobConfig" not in created["spec"]


def test_a_name_is_taken_once_and_the_status_is_apart(kubernetes: Kubernetes, jobs: str) -> None:
    created = kubernetes.admin.json("POST", jobs, job("once") | {"status": {"trainingJobStatus": "Completed"}})
    assert "status" not in created
    with pytest.raises(Refused) as refused:
        kubernetes.admin.json("POST", jobs, job("once"))
    assert refused.value.code == 409
    kubernetes.admin.patch(f"{jobs}/once/status", {"status": {"trainingJobStatus": "InProgress"}})
    kubernetes.admin.patch(f"{jobs}/once", {"status": {"trainingJobStatus": "Completed"}})
    assert kubernetes.admin.get(f"{jobs}/once")["status"] == {"trainingJobStatus": "InProgress"}


def test_a_finalizer_keeps_a_deleted_object_until_it_is_released(kubernetes: Kubernetes, jobs: str) -> None:
    created = kubernetes.admin.json("POST", jobs, job("held"))
    kubernetes.admin.patch(f"{jobs}/held", {"metadata": {"finalizers": ["tests.example/held"]}})
    kubernetes.admin.delete(f"{jobs}/held")
    assert kubernetes.admin.get(f"{jobs}/held")["metadata"]["deletionTimestamp"]
    kubernetes.admin.patch(f"{jobs}/held", {"metadata": {"finalizers": None}})
    assert kubernetes.admin.find(f"{jobs}/held") is None
    seen = events(kubernetes.admin, jobs, created["metadata"]["resourceVersion"])
    assert [next(seen)["type"] for _ in range(3)] == ["MODIFIED", "MODIFIED", "DELETED"]


def test_the_documented_rights_are_enough_and_no_more(kubernetes: Kubernetes, namespace: str) -> None:
    kubernetes.apply(CRD)
    airflow = kubernetes.client(kubernetes.grant(RBAC, namespace))
    mine, others = collection(job(), namespace), collection(job(), kubernetes.namespace())
    airflow.json("POST", mine, job())
    assert len(airflow.get(mine)["items"]) == 1
    for method, path in (
        ("GET", others),
        ("PATCH", f"{mine}/digits"),
        ("PATCH", f"{mine}/digits/status"),
        ("GET", f"/api/v1/namespaces/{namespace}/secrets"),
    ):
        assert airflow.call(method, path, {}, headers={"Content-Type": MERGE}).status_code == 403
    airflow.delete(f"{mine}/digits")
    assert kubernetes.client("nobody's").call("GET", mine).status_code == 401


def test_objects_outlive_the_api_and_its_watches_are_cut(kubernetes: Kubernetes, jobs: str) -> None:
    version = kubernetes.admin.json("POST", jobs, job("outlives"))["metadata"]["resourceVersion"]
    cut: list[BaseException | None] = []

    def watch() -> None:
        try:
            for _ in events(kubernetes.admin, jobs, version, 300):
                pass
        except requests.RequestException as error:
            cut.append(error)
        else:
            cut.append(None)

    watcher = threading.Thread(target=watch)
    watcher.start()
    kubernetes.stop()
    try:
        watcher.join(30)
        assert cut
        with pytest.raises(requests.ConnectionError):
            kubernetes.admin.get(jobs)
    finally:
        kubernetes.start()
    assert kubernetes.admin.find(f"{jobs}/outlives")


def test_a_frozen_api_hangs(kubernetes: Kubernetes, jobs: str) -> None:
    kubernetes.freeze()
    try:
        with pytest.raises(requests.Timeout):
            kubernetes.admin.call("GET", jobs, timeout=0.5)
    finally:
        kubernetes.thaw()
    assert kubernetes.admin.get(jobs)["kind"] == "TrainingJobList"


def test_a_watch_from_a_forgotten_version_is_gone(kubernetes: Kubernetes, jobs: str) -> None:
    version = kubernetes.admin.json("POST", jobs, job("forgotten"))["metadata"]["resourceVersion"]
    kubernetes.forget_history()
    event = next(events(kubernetes.admin, jobs, version))
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
    version = kubernetes.admin.get(jobs)["metadata"]["resourceVersion"]
    kubernetes.admin.patch(f"{jobs}/forgotten", {"metadata": {"labels": {"a": "b"}}})
    assert next(events(kubernetes.admin, jobs, version))["type"] == "MODIFIED"


def test_it_is_small_and_leaves_nothing_behind() -> None:
    with Kubernetes() as own:
        home, pids = own.home, [process.pid for process in own._processes.values()]
        assert sum(own.memory().values()) < MEMORY_LIMIT
    assert not home.exists()
    poll(lambda: not any(map(_runs, pids)), 10, "the processes to end")


def test_it_ends_with_tests_that_are_killed() -> None:
    """Also what was restarted by a thread that has ended since."""
    program = """
import sys, threading
from tests.harness.kubernetes.cluster import Kubernetes
own = Kubernetes().__enter__()
own.stop()
again = threading.Thread(target=own.start)
again.start()
again.join()
print(own.home, *(process.pid for process in own._processes.values()), flush=True)
sys.stdin.read()
"""
    tests = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with tests:
        assert tests.stdout is not None
        home, *pids = tests.stdout.readline().split()
        assert len(pids) == 2
        assert all(_runs(int(pid)) for pid in pids)
        tests.kill()
    poll(lambda: not any(_runs(int(pid)) for pid in pids), 10, "the processes to end")
    poll(lambda: not Path(home).exists(), 10, "the folder to go")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().startswith(("kube", "etcd"))
    except FileNotFoundError:
        return False
