# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import uuid
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.server.run.engines.admission import admit
from airflow_provider_jobapi.server.run.engines.base import PlacementRequest
from airflow_provider_jobapi.server.store.job_record import JobKey
from airflow_provider_jobapi.training.job_file import Resources


def capacity(cpus: int = 4, gpus: int = 2, memory: int = 1000) -> Resources:
    return Resources(cpus=cpus, gpus=gpus, memory=memory)


def request(cpus: int = 1, gpus: int = 0, memory: int = 1, gpu_ids: tuple[int, ...] = ()) -> PlacementRequest:
    return PlacementRequest(
        key=JobKey("client", str(uuid.uuid4())),
        directory=Path("/nowhere"),
        resources=Resources(cpus=cpus, gpus=gpus, memory=memory),
        gpu_ids=gpu_ids,
    )


def test_jobs_are_admitted_in_their_order_while_there_is_room():
    waiting = [request(2), request(1), request(1), request(1)]
    admission = admit(capacity(cpus=4), [], waiting)
    assert list(admission.granted) == [each.key for each in waiting[:3]]
    assert admission.waits == {waiting[3].key: "Waiting for 1 CPU: 0 of 4 free."}


def test_no_job_overtakes_and_each_says_why_it_waits():
    placed = [request(3, memory=900)]
    admission = admit(capacity(cpus=4), placed, [request(2), request(1), request(1, memory=200)])
    assert admission.granted == {}
    assert list(admission.waits.values()) == [
        "Waiting for 2 CPUs: 1 of 4 free.",
        "1 job is ahead.",
        "Waiting for 200 MB of memory: 100 of 1,000 free; 2 jobs are ahead.",
    ]


def test_a_job_larger_than_the_machine_blocks_no_other_job():
    admission = admit(capacity(cpus=2), [], [request(8), request(2)])
    assert len(admission.granted) == 1
    (reason,) = admission.waits.values()
    assert reason.startswith("It asks for 8 CPUs (this server has 2): ")


def test_each_gpu_is_granted_to_one_job():
    waiting = [request(gpus=2), request(gpus=1), request(gpus=1)]
    admission = admit(capacity(gpus=4), [request(gpus=1, gpu_ids=(1,))], waiting)
    assert list(admission.granted.values()) == [(0, 2), (3,)]
    assert list(admission.waits.values()) == ["Waiting for 1 GPU: 0 of 4 free."]


REQUESTS = st.builds(request, st.integers(1, 5), st.integers(0, 3), st.integers(1, 1200))


@given(st.lists(REQUESTS, max_size=12))
def test_never_more_is_granted_than_there_is(waiting):
    total = capacity()
    admission = admit(total, [], waiting)
    wanted = [each.resources for each in waiting if each.key in admission.granted]
    assert sum(each.cpus for each in wanted) <= total.cpus
    assert sum(each.memory for each in wanted) <= total.memory
    gpus = [number for granted in admission.granted.values() for number in granted]
    assert len(gpus) == len(set(gpus)) == sum(each.gpus for each in wanted)
    assert set(gpus) <= {0, 1}
    assert len(admission.granted) + len(admission.waits) == len(waiting)
    possible = [each.key for each in waiting if not _impossible(each.resources, total)]
    assert list(admission.granted) == possible[: len(admission.granted)]


def _impossible(wanted: Resources, total: Resources) -> bool:
    return wanted.cpus > total.cpus or wanted.gpus > total.gpus or wanted.memory > total.memory
