# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.server.config import Settings
from airflow_provider_jobapi.server.run.admission import admit
from airflow_provider_jobapi.server.store.job_record import Job, JobKey
from airflow_provider_jobapi.training.job_file import JobFile
from airflow_provider_jobapi.training.status import JobState


def settings(cpus: int = 4, gpus: int = 2, memory: int = 1000) -> Settings:
    return Settings(root=Path("/nowhere"), cpus=cpus, gpus=gpus, memory=memory)


def job(cpus: int = 1, gpus: int = 0, memory: int = 1, gpu_ids: tuple[int, ...] = ()) -> Job:
    resources = {"cpus": cpus, "gpus": gpus, "memory": memory}
    execution = {"command": "true", "resources": resources}
    return Job(
        key=JobKey("client", str(uuid.uuid4())),
        job_file=JobFile.model_validate({"job": {"name": "job", "execution": execution}}),
        state=JobState.PENDING,
        reason=None,
        message="",
        exit_code=None,
        submitted=datetime.now(UTC),
        started=None,
        storing=None,
        finished=None,
        gpu_ids=gpu_ids,
        stop_requested_by=None,
        model=None,
        directory=Path("/nowhere"),
    )


def reasons(answer) -> list[str]:
    return [reason for _, reason in answer.waits]


def test_jobs_begin_in_their_order_while_there_is_room():
    jobs = [job(2), job(1), job(1), job(1)]
    answer = admit(settings(cpus=4), [], jobs)
    assert [started for started, _ in answer.starts] == jobs[:3]
    assert reasons(answer) == ["Waiting for 1 CPU: 0 of 4 free."]


def test_nobody_overtakes_and_everybody_knows_why():
    running = [job(3, memory=900)]
    answer = admit(settings(cpus=4), running, [job(2), job(1), job(1, memory=200)])
    assert answer.starts == []
    assert reasons(answer) == [
        "Waiting for 2 CPUs: 1 of 4 free.",
        "1 job is ahead.",
        "Waiting for 200 MB of memory: 100 of 1,000 free; 2 jobs are ahead.",
    ]


def test_what_this_server_can_never_run_keeps_nobody_waiting():
    answer = admit(settings(cpus=2), [], [job(8), job(2)])
    assert len(answer.starts) == 1
    (reason,) = reasons(answer)
    assert reason.startswith("It asks for 8 CPUs (this server has 2): ")


def test_gpus_are_granted_by_number_and_never_twice():
    answer = admit(settings(gpus=4), [job(gpus=1, gpu_ids=(1,))], [job(gpus=2), job(gpus=1), job(gpus=1)])
    assert [gpus for _, gpus in answer.starts] == [(0, 2), (3,)]
    assert reasons(answer) == ["Waiting for 1 GPU: 0 of 4 free."]


ASKING = st.builds(job, st.integers(1, 5), st.integers(0, 3), st.integers(1, 1200))


@given(st.lists(ASKING, max_size=12))
def test_never_more_is_granted_than_there_is(jobs):
    limits = settings()
    answer = admit(limits, [], jobs)
    wanted = [started.job_file.job.execution.resources for started, _ in answer.starts]
    assert sum(each.cpus for each in wanted) <= limits.cpus
    assert sum(each.memory for each in wanted) <= limits.memory
    granted = [number for _, gpus in answer.starts for number in gpus]
    assert len(granted) == len(set(granted)) == sum(each.gpus for each in wanted)
    assert set(granted) <= {0, 1}
    assert len(answer.starts) + len(answer.waits) == len(jobs)
    possible = [each for each in jobs if not _impossible(each, limits)]
    assert [started for started, _ in answer.starts] == possible[: len(answer.starts)]


def _impossible(each: Job, limits: Settings) -> bool:
    wanted = each.job_file.job.execution.resources
    return wanted.cpus > limits.cpus or wanted.gpus > limits.gpus or wanted.memory > limits.memory
