# SPDX-License-Identifier: Apache-2.0
"""The server is killed at any instant and started again: nothing is lost, and nothing runs twice."""

from __future__ import annotations

import os
import random
import signal
import time
import uuid
from pathlib import Path

import pytest

from airflow_provider_jobapi.server.run import preparation
from airflow_provider_jobapi.server.run.engines import make_engine
from airflow_provider_jobapi.server.run.engines.base import PlacementRequest
from airflow_provider_jobapi.training.job_file import JobFile
from airflow_provider_jobapi.training.logs import parse_records
from tests.harness.bench import CLIENT, WRITE_MODEL, Bench, RunnerProcess, processes_of, supervisor_of
from tests.harness.server import poll, running

COUNT = "open({!r}, 'a').write('run\\n')\n"


def runs(place: Path) -> int:
    return len(place.read_text().splitlines()) if place.exists() else 0


@pytest.fixture
def bench(tmp_path):
    """A bench whose runner is never started: the runners are processes that are killed."""
    bench = Bench(tmp_path)
    killers: list[RunnerProcess] = []

    def runner() -> RunnerProcess:
        killers.append(RunnerProcess(tmp_path))
        return killers[-1]

    bench.start_runner = runner  # type: ignore[attr-defined]
    yield bench
    for killer in killers:
        killer.kill()
    bench.__exit__()


def test_a_job_runs_to_its_end_while_no_server_runs(bench, tmp_path):
    counted, gate = tmp_path / "runs", tmp_path / "gate"
    script = (
        COUNT.format(str(counted))
        + f"""
import os, time
print("before")
while not os.path.exists({str(gate)!r}): time.sleep(0.02)
print("after")
{WRITE_MODEL}"""
    )
    job = bench.submit(script)
    first = bench.start_runner()
    bench.wait_for_line(job, "before")
    bench.wait(job, "RUNNING")
    first.kill()
    gate.touch()
    poll((job.directory / "exit.json").exists, 20, "the exit record")
    assert bench.get(job).state == "RUNNING"
    bench.start_runner()
    job = bench.wait(job)
    assert (job.state, job.exit_code) == ("SUCCESSFUL", 0)
    assert job.model is not None
    assert bench.log(job) == "before\nafter\n"
    assert runs(counted) == 1


def test_a_job_that_still_runs_is_taken_over(bench, tmp_path):
    counted, gate = tmp_path / "runs", tmp_path / "gate"
    script = (
        COUNT.format(str(counted))
        + f"""
import os, time
print("before")
while not os.path.exists({str(gate)!r}): time.sleep(0.02)
print("after")
raise SystemExit(5)"""
    )
    job = bench.submit(script)
    first = bench.start_runner()
    bench.wait_for_line(job, "before")
    bench.wait(job, "RUNNING")
    first.kill()
    other = bench.submit()
    second = bench.start_runner()
    other = bench.wait(other)
    assert other.state == "SUCCESSFUL", "the second runner works"
    assert bench.get(job).state == "RUNNING"
    second.kill()
    bench.start_runner()
    gate.touch()
    job = bench.wait(job)
    assert (job.state, job.reason, job.exit_code) == ("FAILED", "NonZeroExit", 5)
    assert bench.log(job) == "before\nafter\n"
    assert runs(counted) == 1


def test_a_stop_request_made_while_no_runner_ran_is_followed(bench):
    job = bench.submit("import time; print('up'); time.sleep(60)")
    first = bench.start_runner()
    bench.wait_for_line(job, "up")
    first.kill()
    bench.registry.request_stop(job.key, "alice")
    bench.start_runner()
    job = bench.wait(job)
    assert (job.state, job.message) == ("STOPPED", "Stopped by alice.")
    assert processes_of(job.directory) == []


def test_a_job_whose_supervisor_died_while_no_runner_ran_is_lost(bench):
    job = bench.submit("import time; print('up'); time.sleep(60)", command="python3 train.py; true")
    first = bench.start_runner()
    bench.wait_for_line(job, "up")
    first.kill()
    assert len(processes_of(job.directory)) == 2
    os.kill(supervisor_of(job.directory), signal.SIGKILL)
    bench.start_runner()
    assert bench.wait(job).reason == "Lost"
    assert processes_of(job.directory) == []


@pytest.mark.parametrize(
    "how_far", ["placed", "half prepared", "prepared", "supervisor on its way", "two on their way"]
)
def test_a_job_that_was_placed_and_did_not_start_runs_exactly_once(bench, tmp_path, how_far):
    counted = tmp_path / "runs"
    job = bench.submit(COUNT.format(str(counted)) + "import time; time.sleep(0.3)")
    assert bench.registry.place(job.key)
    job = bench.get(job)
    if how_far == "half prepared":
        (job.directory / "work").mkdir()
        (job.directory / "work" / "train.py").write_text("half a script")
    elif how_far != "placed":
        preparation.prepare(job, bench.settings, bench.runner.environments, None)
    supervisors = 2 if how_far.startswith("two") else how_far.endswith("way")
    for _ in range(supervisors):
        make_engine(bench.settings).place(PlacementRequest.of(job))
    bench.start_runner()
    assert bench.wait(job).state == "SUCCESSFUL"
    assert runs(counted) == 1


def test_a_model_is_stored_after_a_crash_while_it_was_stored(bench):
    big = WRITE_MODEL + "\nwith open(place / 'variables' / 'data', 'wb') as file: file.truncate(600 * 2**20)"
    job = bench.submit(big)
    first = bench.start_runner()
    poll(lambda: "being stored" in bench.get(job).message, 60, "the model to be stored")
    first.kill()
    assert bench.get(job).state == "RUNNING"
    bench.start_runner()
    job = bench.wait(job, timeout=120)
    assert job.state == "SUCCESSFUL"
    assert job.model is not None
    assert {file["path"]: file["size"] for file in job.model["files"]} == {
        "saved_model.pb": 5,
        "variables/data": 600 * 2**20,
        "variables/variables.index": 5,
    }


def test_a_client_reads_one_unbroken_log_across_a_kill_of_the_server(tmp_path):
    script = "import time\nfor n in range(40):\n    print(f'step {n}')\n    time.sleep(0.1)\n"
    with running(tmp_path / "jobapi") as server:
        job_id = server.submit(script + WRITE_MODEL)
        read = b""

        def follow(until: bytes) -> bytes:
            answer = server.request("GET", f"/api/v2/jobs/{job_id}/logs", params={"offset": len(read)})
            assert answer.status_code == 200, answer.text
            return answer.content if until in read + answer.content else b""

        read += poll(lambda: follow(b"step 3"), 30, "some lines")
        server.kill()
        server.restart()
        read += poll(lambda: follow(b"step 39"), 30, "the last line")
        assert [line.text for line in parse_records(read)] == [f"step {number}" for number in range(40)]
        assert server.wait_for(job_id)["status"] == "SUCCESSFUL"


def test_killed_again_and_again_every_job_runs_exactly_once(bench, tmp_path):
    seed = random.randrange(10**6)  # noqa: S311
    print("seed", seed)
    chance = random.Random(seed)  # noqa: S311
    counters = [tmp_path / f"runs-{number}" for number in range(12)]
    script = "{}import time; time.sleep({})\nprint('done')\n"
    jobs = [
        bench.submit(
            script.format(COUNT.format(str(counter)), chance.random() / 2) + (WRITE_MODEL if index % 2 else "")
        )
        for index, counter in enumerate(counters)
    ]
    for _ in range(8):
        runner = bench.start_runner()
        time.sleep(chance.random() * 0.5)
        runner.kill()
    bench.start_runner()
    ended = [bench.wait(job, timeout=60) for job in jobs]
    assert [job.state for job in ended] == ["SUCCESSFUL"] * len(jobs)
    assert [runs(counter) for counter in counters] == [1] * len(jobs)
    assert [bench.log(job) for job in ended] == ["done\n"] * len(jobs)
    assert [job.model is not None for job in ended] == [bool(index % 2) for index in range(len(jobs))]


def test_checkpoints_reach_the_next_job_whenever_the_server_is_killed(bench):
    """While it copies them, while it settles them, while it removes those that are needed no longer."""
    script = """
import os, pathlib, sys
folder = pathlib.Path(os.environ["CHECKPOINT_DIR"])
steps = sorted(path.name for path in folder.iterdir())
print("found", len(steps))
step = len(steps) + 1
for part in range(20):
    pathlib.Path("part").write_bytes(os.urandom(50_000))
    (folder / f"step-{step}").mkdir(exist_ok=True)
    pathlib.Path("part").rename(folder / f"step-{step}" / f"part-{part}")
sys.exit(0 if step == 4 else 1)
"""
    cycle, clock, jobs = str(uuid.uuid4()), random.Random(5), []  # noqa: S311 -- of kills
    for _ in range(4):
        job_id = str(uuid.uuid4())
        with bench.storages.of(CLIENT).writer(f"jobs/c-{job_id}/train.py") as writer:
            writer.write(script.encode())
            writer.commit()
        document = {"job": {"name": "c", "execution": {"command": "python3 train.py"}}}
        job = bench.registry.submit(CLIENT, job_id, JobFile.model_validate(document), cycle)[0]
        jobs.append(job)
        for _ in range(3):
            runner = bench.start_runner()
            time.sleep(clock.uniform(0, 0.4))
            runner.kill()
        runner = bench.start_runner()
        bench.wait(job)
        runner.kill()
    assert [bench.log(job).count(f"found {number}\n") for number, job in enumerate(jobs)] == [1] * 4
    runner = bench.start_runner()
    bench.registry.checkpoints.collect(CLIENT)
    assert not any((job.directory / "state").exists() for job in jobs)
    runner.kill()
