# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest

from airflow_provider_jobapi.server.run import preparation, verdict
from airflow_provider_jobapi.server.run.engines.local import is_locked
from airflow_provider_jobapi.server.run.supervisor import process_tree
from airflow_provider_jobapi.server.store import layout
from tests.harness.bench import WRITE_MODEL, Bench, bench, processes_of, supervisor_of
from tests.harness.server import poll

__all__ = ["bench"]

linux = pytest.mark.skipif(not process_tree.WATCHES, reason="processes are watched through /proc, which is not here")
WAITS = "import time; print('up', flush=True); time.sleep(60)"


def test_a_script_runs_to_its_end(bench):
    job = bench.submit("import sys; print('hello', sys.argv[1:])", command="python3 train.py --epochs=5")
    assert job.state == "PENDING"
    job = bench.wait(job)
    assert (job.state, job.reason, job.exit_code) == ("SUCCESSFUL", None, 0)
    assert job.message == "The job wrote no model."
    assert job.model is None
    assert job.started is not None
    assert job.finished is not None
    assert job.submitted <= job.started <= job.storing <= job.finished
    assert bench.log(job) == "hello ['--epochs=5']\n"


def test_the_saved_model_is_stored_before_the_job_is_successful(bench):
    job = bench.wait(bench.submit(WRITE_MODEL))
    assert (job.state, job.message) == ("SUCCESSFUL", "The SavedModel is model/1 (2 files, 10 bytes).")
    assert job.model is not None
    assert job.model["path"] == "model/1"
    for file in job.model["files"]:
        stored = bench.storages.of("airflow").head(file["key"])
        assert (stored.size, stored.sha256) == (file["size"], file["sha256"])


def test_a_failing_script_fails_with_its_exit_code(bench):
    job = bench.wait(bench.submit("import sys; print('oh'); sys.exit(3)"))
    assert (job.state, job.reason, job.exit_code, job.storing) == ("FAILED", "NonZeroExit", 3, None)
    assert job.message == "The command ended with exit code 3."
    assert bench.log(job) == "oh\n"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("", "The job wrote no model. 1,353 lines of its log are lost: the disk was full."),
        ("exit(3)", "The command ended with exit code 3. 1,353 lines of its log are lost: the disk was full."),
    ],
)
def test_the_status_says_how_many_lines_of_the_log_are_lost(bench, script, message):
    job = bench.wait(bench.submit(script))
    if job.state == "SUCCESSFUL":  # its work folder goes when its end is recorded
        poll(lambda: not (job.directory / "work").exists(), 10, "the work folder to be removed")
        (job.directory / "work").mkdir()
    record = verdict.read_record(job.directory) or {}
    assert record["lost_lines"] == 0
    assert "lost" not in job.message
    assert verdict.of_record(job, {**record, "lost_lines": 1353}, bench.storages.of("airflow")).message == message
    del record["lost_lines"]  # as supervisors of earlier servers wrote it
    assert verdict.of_record(job, record, bench.storages.of("airflow")).message == job.message


def test_stop_reaches_a_running_job(bench):
    job = bench.submit(WAITS)
    bench.wait_for_line(job, "up")
    begin = time.monotonic()
    bench.registry.request_stop(job.key, "alice")
    job = bench.wait(job)
    assert (job.state, job.reason, job.message) == ("STOPPED", "Stopped", "Stopped by alice.")
    assert time.monotonic() - begin < 5
    assert processes_of(job.directory) == []


LEAVES_CHILDREN = """
import json, os, signal, subprocess, sys, time
name = sys.argv[1]
sleep = ["sleep", name]
daemon = ["sh", "-c", f"(setsid env -i sleep {name} &) ; true"]
for command in (sleep, ["env", "-i", *sleep], ["setsid", *sleep], daemon):
    subprocess.Popen(command, env={}, start_new_session=True, close_fds=True, cwd="/",
                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
time.sleep(0.5)
print("up", flush=True)
while b"up" not in open(os.environ["JOB_DIRECTORY"] + "/log", "rb").read():
    time.sleep(0.05)
if sys.argv[2] == "record":
    record = {"step": "training", "exit_code": 0, "signal": None, "reason": "NonZeroExit", "message": "mine",
              "started": "2026-01-01T00:00:00Z", "finished": "2026-01-01T00:00:00Z"}
    with open(os.environ["JOB_DIRECTORY"] + "/exit.json", "w") as file:
        json.dump(record, file)
os.kill(json.load(open(os.environ["JOB_DIRECTORY"] + "/started"))["pid"], signal.SIGKILL)
"""


@linux
@pytest.mark.parametrize("forges", ["nothing", "record"])
def test_a_job_that_kills_its_supervisor_leaves_no_processes(bench, forges):
    """With an environment and a session of their own, too; also where the job forges its exit record."""
    name = f"60.{os.getpid()}{time.time_ns()}"  # seconds, and no other process has it
    job = bench.wait(bench.submit(LEAVES_CHILDREN, command=f"python3 train.py {name} {forges}"))
    assert job.reason == ("Lost" if forges == "nothing" else "NonZeroExit")
    assert "up" in bench.log(job)
    poll(lambda: not commands_with(name), 10, "the children of the job to be ended")


def commands_with(argument: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "sleep" in words and argument in words:
            found.append(str(path))
    return found


def test_stop_reaches_a_job_that_waits(tmp_path):
    with Bench(tmp_path, cpus=1) as bench:
        first, second = bench.submit(WAITS), bench.submit()
        bench.wait_for_line(first, "up")
        assert bench.registry.request_stop(second.key, "alice").state == "STOPPED"
        bench.registry.request_stop(first.key, "alice")
        bench.wait(first)
        assert not (second.directory / "started").exists()


def test_stop_in_the_instant_of_the_start_is_not_lost(bench):
    for _ in range(5):
        job = bench.submit(WAITS)
        bench.wait(job, "RUNNING")
        bench.registry.request_stop(job.key, "alice")
        assert bench.wait(job, timeout=15).state == "STOPPED"


def test_jobs_wait_for_room_in_their_order_and_say_why(tmp_path):
    with Bench(tmp_path, cpus=2, memory=5000) as bench:
        small = {"resources": {"cpus": 1, "memory": 200}}
        first = bench.submit(WAITS, **small)
        bench.wait_for_line(first, "up")
        big = bench.submit("print('big')", resources={"cpus": 2, "memory": 200})
        last = bench.submit("print('last')", **small)
        poll(lambda: bench.get(last).message == "1 job is ahead.", 10, "the reason")
        assert bench.get(big).message == "Waiting for 2 CPUs: 1 of 2 free."
        assert bench.get(big).state == bench.get(last).state == "PENDING"
        bench.registry.request_stop(first.key, "the test")
        assert bench.wait(big).state == bench.wait(last).state == "SUCCESSFUL"
        big, last = bench.get(big), bench.get(last)
        assert big.finished <= last.started


def test_gpus_are_granted_by_number_and_given_back(tmp_path):
    ask = "import os, time; print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True); time.sleep({})"
    with Bench(tmp_path, gpus=2) as bench:
        one = {"resources": {"cpus": 1, "gpus": 1, "memory": 200}}
        first, second = (bench.submit(ask.format(60), **one) for _ in range(2))
        third = bench.submit(ask.format(0), resources={"cpus": 1, "gpus": 2, "memory": 200})
        none = bench.get(third)
        bench.wait_for_line(first, "0")
        bench.wait_for_line(second, "1")
        assert (bench.get(first).gpu_ids, bench.get(second).gpu_ids) == ((0,), (1,))
        assert none.state == "PENDING"
        for job in (first, second):
            bench.registry.request_stop(job.key, "the test")
        assert bench.wait(third).gpu_ids == (0, 1)
        assert bench.log(third) == "0,1\n"
        assert bench.log(bench.wait(bench.submit(ask.format(0)))) == "-1\n"


def test_limits_of_the_job_file_reach_the_supervisor(tmp_path):
    with Bench(tmp_path) as bench:
        slow = bench.submit(WAITS, completionTime="1s")
        free = bench.submit("print('ran')", completionTime="when it is done", image="tensorflow/tensorflow:2.21.0")
        slow = bench.wait(slow)
        assert (slow.state, slow.reason) == ("FAILED", "CompletionTimeExceeded")
        free = bench.wait(free)
        assert free.state == "SUCCESSFUL"
        image, time_line, output = bench.log(free).splitlines()
        assert image.startswith("jobapi: The image tensorflow/tensorflow:2.21.0 is recorded and not run")
        assert time_line.startswith("jobapi: completionTime 'when it is done' cannot be read as a span of time")
        assert output == "ran"


@linux
def test_a_memory_hog_fails_out_of_memory(bench):
    hog = "import time; hold = bytearray(b'x') * (200 * 2**20); time.sleep(30)"
    job = bench.wait(bench.submit(hog, resources={"cpus": 1, "gpus": 0, "memory": 100}))
    assert (job.state, job.reason) == ("FAILED", "OutOfMemory")
    assert "100 MB were asked for" in job.message


def test_a_jobs_environment_is_clean(tmp_path, monkeypatch):
    monkeypatch.setenv("JOBAPI_SECRET", "hidden")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    monkeypatch.setenv("HF_TOKEN", "given")
    monkeypatch.setenv("SSL_CERT_FILE", "/certs.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/certs.pem")
    with Bench(tmp_path, job_env=("HF_TOKEN", "NOT_SET")) as bench:
        tell = "import json, os; print(json.dumps(dict(os.environ)))"
        env = {"EPOCHS": "5", "CUDA_VISIBLE_DEVICES": "0,1,2", "JOB_ID": "another", "OMP_NUM_THREADS": "7"}
        job = bench.wait(bench.submit(tell, env=env, resources={"cpus": 3, "gpus": 0, "memory": 200}))
        seen = json.loads(bench.log(job))
        work = str(job.directory / "work")
        programs = seen["PATH"].split(":")[0]
        assert Path(programs, "python3").exists()
        assert "hidden" not in seen.values()
        assert {name: value for name, value in seen.items() if name not in {"PATH", "LC_CTYPE", "PWD"}} == {
            "HOME": work,
            "USER": "job",
            "LOGNAME": "job",
            "TMPDIR": str(job.directory / "tmp"),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": "7",
            "MODEL_DIR": f"{work}/model",
            "CHECKPOINT_DIR": str(job.directory / "state" / "checkpoints"),
            "JOB_ID": job.key.job_id,
            "JOB_DIRECTORY": str(job.directory),
            "CUDA_VISIBLE_DEVICES": "-1",
            "EPOCHS": "5",
            "HF_TOKEN": "given",
            "SSL_CERT_FILE": "/certs.pem",
            "REQUESTS_CA_BUNDLE": "/certs.pem",
        }


def test_the_threads_of_a_job_are_the_cpus_it_was_granted(bench):
    job = bench.submit(
        "import os; print(os.environ['OMP_NUM_THREADS'])", resources={"cpus": 3, "gpus": 0, "memory": 200}
    )
    assert bench.log(bench.wait(job)) == "3\n"


def test_a_job_cannot_change_what_its_inputs_were(bench):
    script = "open('data/a.csv', 'a').write('more'); print(open('data/a.csv').read())"
    job = bench.wait(bench.submit(script, files={"data/a.csv": "x,y\n"}))
    assert bench.log(job).startswith("x,y\nmore\n")
    assert (job.directory / "inputs" / "data" / "a.csv").read_text() == "x,y\n"
    stored, handle = bench.storages.of("airflow").open(f"{job.prefix}/data/a.csv")
    os.close(handle)
    assert stored.size == 4


def test_output_comes_line_by_line_while_the_job_runs(bench):
    job = bench.submit("import time; print('first'); time.sleep(60)")
    bench.wait_for_line(job, "first")
    bench.wait(job, "RUNNING")


@linux
def test_a_killed_supervisor_means_lost_and_leaves_nothing_running(bench):
    job = bench.submit(f"import os\nos.fork() and os.fork()\n{WAITS}", command="python3 train.py; true")
    bench.wait_for_line(job, "up")
    os.kill(supervisor_of(job.directory), signal.SIGKILL)
    job = bench.wait(job)
    assert (job.state, job.reason) == ("FAILED", "Lost")
    assert job.message == "The job's supervisor was killed, and the job with it."
    assert processes_of(job.directory) == []


def test_a_supervisor_that_is_ended_by_sigterm_loses_the_job(bench):
    job = bench.submit(WAITS)
    bench.wait_for_line(job, "up")
    os.kill(supervisor_of(job.directory), signal.SIGTERM)
    job = bench.wait(job)
    assert (job.state, job.reason) == ("FAILED", "Lost")
    assert "as when the machine shuts down" in job.message


def test_a_supervisor_that_fails_is_quoted(tmp_path):
    bench = Bench(tmp_path)
    job = bench.submit()
    bench.registry.place(job.key)
    preparation.prepare(bench.get(job), bench.settings, bench.runner.environments, None)
    (job.directory / "started").write_text("{}")
    (job.directory / "supervisor.err").write_text("Traceback ...\nKeyError: 'steps'\n")
    with bench:
        assert bench.wait(job).message == "The job's supervisor failed, and the job with it: KeyError: 'steps'"


def test_a_lost_job_has_a_log_of_whole_records(tmp_path):
    bench = Bench(tmp_path)
    job = bench.submit()
    bench.registry.place(job.key)
    preparation.prepare(bench.get(job), bench.settings, bench.runner.environments, None)
    (job.directory / "started").write_text("{}")
    (job.directory / "log").write_bytes(b"2026-01-02T03:04:05.678901Z whole\n2026-01-02T03:04:05.67")
    with bench:
        assert bench.wait(job).reason == "Lost"
        assert (job.directory / "log").read_bytes() == b"2026-01-02T03:04:05.678901Z whole\n"


def test_a_supervisor_that_does_not_start_fails_the_job_and_is_quoted(tmp_path):
    bench = Bench(tmp_path)
    job = bench.submit()
    bench.registry.place(job.key)
    (job.directory / "spec.json").write_text("{ this is no spec")
    with bench:
        job = bench.wait(job)
        assert (job.state, job.reason) == ("FAILED", "Lost")
        assert job.message.startswith("The job's supervisor did not start: ")
        assert "cannot be used" in job.message


def test_a_work_folder_that_cannot_be_made_fails_the_job(tmp_path):
    bench = Bench(tmp_path)
    job = bench.submit()
    (job.directory / "tmp").touch()
    with bench:
        job = bench.wait(job)
        assert (job.state, job.reason) == ("FAILED", "Lost")
        assert job.message.startswith("The job could not be prepared on the server: ")


def test_many_jobs_at_once_all_end(tmp_path):
    with Bench(tmp_path, cpus=8) as bench:
        jobs = [bench.submit(f"print({number})") for number in range(20)]
        for number, job in enumerate(jobs):
            assert bench.wait(job, timeout=60).state == "SUCCESSFUL"
            assert bench.log(job) == f"{number}\n"


def test_temporary_files_and_a_stored_models_work_folder_are_removed(bench):
    good, bad = bench.wait(bench.submit(WRITE_MODEL)), bench.wait(bench.submit("raise SystemExit(1)"))
    poll(lambda: not (good.directory / "work").exists(), 5, "the work folder to go")
    poll(lambda: not (bad.directory / "tmp").exists(), 5, "the temporary files to go")
    assert (bad.directory / "work").exists()
    assert (good.directory / "log").exists()
    assert not is_locked(good.directory)


def test_a_runner_that_was_stopped_leaves_its_jobs_to_the_next(tmp_path):
    first = Bench(tmp_path)
    first.runner.start()
    job = first.submit("import time; print('up', flush=True); time.sleep(1); print('done')")
    first.wait_for_line(job, "up")
    first.runner.stop()
    first.database.close()
    with Bench(tmp_path) as second:
        assert second.wait(job).state == "SUCCESSFUL"
        assert second.log(job) == "up\ndone\n"


def test_the_runner_goes_on_after_a_turn_that_failed(bench, monkeypatch, caplog):
    failures = iter([OSError("the database is away")])

    def once(*_placement: object) -> bool:
        monkeypatch.undo()
        raise next(failures)

    monkeypatch.setattr(bench.registry, "place", once)
    assert bench.wait(bench.submit()).state == "SUCCESSFUL"
    assert "A turn of the runner failed" in caplog.text


def test_a_step_that_failed_is_logged_and_tried_again_after_a_pause(bench, monkeypatch, caplog):
    engine, placed = bench.runner._engine, []
    place = engine.place

    def fails_once(request):
        placed.append(time.monotonic())
        if len(placed) == 1:
            raise RuntimeError("no process can be made")
        place(request)

    monkeypatch.setattr(engine, "place", fails_once)
    job = bench.wait(bench.submit())
    assert job.state == "SUCCESSFUL"
    assert f"Job {job.key.job_id} of client airflow: begin failed; it is tried again in 2 seconds." in caplog.text
    assert "no process can be made" in caplog.text
    assert len(placed) == 2
    assert placed[1] - placed[0] >= 2


def test_an_idle_runner_begins_at_once(tmp_path):
    with Bench(tmp_path, idle_pause=120, grace=timedelta(seconds=1)) as bench:
        bench.wait(bench.submit())
        begin = time.monotonic()
        job = bench.wait(bench.submit())
        assert job.state == "SUCCESSFUL"
        assert time.monotonic() - begin < 60, "an idle runner's own pace is two minutes here"
        assert layout.job_directory(bench.settings.root, *job.key) == job.directory
