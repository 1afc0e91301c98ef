# SPDX-License-Identifier: Apache-2.0
"""A job finds in CHECKPOINT_DIR what the one before it left there: whole checkpoints, in a folder of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.server.errors import JobStillActive
from airflow_provider_jobapi.server.run import checkpoints
from airflow_provider_jobapi.training.job_file import JobFile
from tests.harness.bench import CLIENT, Bench, supervisor_of
from tests.harness.server import poll


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """One for all tests, whose jobs are of other clear cycles."""
    with Bench(tmp_path_factory.mktemp("checkpoints")) as started:
        yield started


LOOK = """
import os, pathlib
folder = pathlib.Path(os.environ["CHECKPOINT_DIR"])
print("found", sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()))
"""


def submit(bench: Bench, script: str, cycle: str | None = None, job_id: str | None = None, **job: object):
    """Submit a job of a clear cycle."""
    job_id = job_id or str(uuid.uuid4())
    with bench.storages.of(CLIENT).writer(f"jobs/c-{job_id}/train.py") as writer:
        writer.write((LOOK + script).encode())
        writer.commit()
    document = {"job": {"name": "c", "execution": {"command": "python3 train.py"}, **job}}
    return bench.registry.submit(CLIENT, job_id, JobFile.model_validate(document), cycle)[0]


def ended(bench: Bench, script: str, cycle: str | None = None, **job: object):
    return bench.wait(submit(bench, script, cycle, **job))


def found(bench: Bench, job) -> list[str]:
    line = next(line for line in bench.log(job).splitlines() if line.startswith("found "))
    return json.loads(line.removeprefix("found ").replace("'", '"'))


def folder_of(job) -> Path:
    return checkpoints.directory_of_checkpoints(job.directory)


def test_the_next_job_of_a_cycle_finds_what_the_last_one_left(bench):
    cycle = str(uuid.uuid4())
    first = ended(
        bench, "(folder / 'step-1.json').write_text('{}'); (folder / 'step-2.json').write_text('{'); 1 / 0", cycle
    )
    assert found(bench, first) == []
    assert first.state == "FAILED"
    assert "Its last checkpoints (" in first.message
    assert "checkpointSize" in first.status().to_wire()
    second = ended(
        bench, "(folder / 'step-3.json').write_text('{}'); (folder / 'step-4.json.tmp').touch(); 1 / 0", cycle
    )
    assert found(bench, second) == ["step-1.json"]
    assert second.status().to_wire()["resumedFrom"] == first.key.job_id
    assert f"This job continues job {first.key.job_id}: 1 file of its checkpoints" in bench.log(second)
    poll(lambda: not folder_of(first).exists(), 10, "what the second has to take the place of what the first left")
    third = ended(bench, "", cycle)
    assert found(bench, third) == ["step-1.json", "step-3.json"]
    assert third.state == "SUCCESSFUL"
    poll(lambda: not any(folder_of(job).exists() for job in (first, second, third)), 10, "all to be gone")
    assert {"resumedFrom", "checkpointSize"} & set(third.status().to_wire()) == {"resumedFrom"}
    poll(lambda: bench.get(second).checkpoints is None, 10, "nothing to be counted")


def test_another_cycle_and_a_job_without_one_begin_from_nothing(bench):
    write = "(folder / 'a.json').write_text('{}'); 1 / 0"
    first = ended(bench, write, str(uuid.uuid4()))
    assert folder_of(first).exists()
    for cycle in (str(uuid.uuid4()), None):
        assert found(bench, ended(bench, write, cycle)) == []


def test_a_job_that_leaves_nothing_newer_leaves_what_it_got(bench):
    cycle = str(uuid.uuid4())
    first = ended(bench, "(folder / 'a.json').write_text('{}'); 1 / 0", cycle)
    for script in ("1 / 0", "(folder / 'a.json').unlink(); (folder / 'b.json.tmp').touch(); 1 / 0"):
        job = ended(bench, script, cycle)
        assert found(bench, job) == ["a.json"]
        assert job.state == "FAILED"
    assert first.key.job_id
    assert found(bench, ended(bench, "", cycle)) == ["a.json"]


def test_what_a_script_overwrites_in_place_is_kept_as_it_was_before(bench):
    """The last state in which all files were whole, also where the script is killed while it writes."""
    script = """
import json, time
def copied(epoch):
    copies = [each for each in folder.parents[1].glob('last-checkpoints/*') if each.name.isdigit()]
    return any((each / 'epoch.json').read_text() == str(epoch) for each in copies if each.exists())
for epoch in range(3):
    (folder / 'weights.json').write_text(json.dumps([epoch] * 1000))
    (folder / 'epoch.json').write_text(str(epoch))
    while not copied(epoch):
        time.sleep(0.05)
with open(folder / 'weights.json', 'w') as file:
    file.write('[7, 7')
    file.flush()
    os.kill(os.getpid(), 9)
"""
    cycle = str(uuid.uuid4())
    first = ended(bench, script, cycle)
    assert first.reason == "NonZeroExit"
    second = ended(
        bench, "print('epoch', (folder / 'epoch.json').read_text(), (folder / 'weights.json').read_text()[:5])", cycle
    )
    assert "epoch 2 [2, 2" in bench.log(second), (bench.log(first), first.message)


def test_resume_from_names_a_job(bench):
    kept = ended(bench, "(folder / 'a.json').write_text('{}')", keep_checkpoints=True)
    assert kept.state == "SUCCESSFUL"
    assert kept.checkpoints
    cycle = str(uuid.uuid4())
    first = ended(bench, "(folder / 'b.json').write_text('{}'); 1 / 0", cycle, resume_from=kept.key.job_id)
    assert found(bench, first) == ["a.json"]
    assert first.resumed == kept.key.job_id
    named = ended(bench, "1 / 0", str(uuid.uuid4()), resume_from=first.key.job_id)
    assert found(bench, named) == ["a.json", "b.json"]
    second = ended(bench, "(folder / 'c.json').write_text('{}'); 1 / 0", cycle, resume_from=kept.key.job_id)
    poll(lambda: not folder_of(first).exists(), 10, "the second to take the place of the first")
    named = ended(bench, "(folder / 'd.json').touch(); 1 / 0", str(uuid.uuid4()), resume_from=first.key.job_id)
    assert found(bench, named) == ["a.json", "b.json", "c.json"], "those of the job that continued it"
    assert named.checkpoints is None, "what it wrote last is torn, so that what it got is better"
    second = ended(bench, "", cycle, resume_from=kept.key.job_id)
    assert found(bench, second) == ["a.json", "b.json", "c.json"], "a retry continues the job before it"
    assert folder_of(kept).exists()


def test_a_job_that_cannot_be_continued_is_refused_with_what_to_do(bench):
    done = submit(bench, "(folder / 'a.json').touch()")
    failed, deleted = submit(bench, "1 / 0"), submit(bench, "")
    running = submit(bench, "import time; time.sleep(60)")
    for job in (done, failed, deleted):
        bench.wait(job)
    bench.registry.delete(deleted.key)
    bench.wait(running, "RUNNING")
    words = {
        str(uuid.uuid4()): "never submitted",
        done.key.job_id: "keep_checkpoints keeps them",
        failed.key.job_id: "has no whole checkpoint any more",
        running.key.job_id: "is RUNNING: wait until it has ended",
        deleted.key.job_id: "was deleted",
    }
    for wanted, why in words.items():
        with pytest.raises(InvalidJob, match=why) as refused:
            submit(bench, "", resume_from=wanted)
        assert refused.value.field == "job.resumeFrom"
    bench.registry.request_stop(running.key, "a test")


def test_a_job_is_not_deleted_while_another_one_waits_to_continue_it(tmp_path):
    with Bench(tmp_path, cpus=1) as bench:
        first = ended(bench, "(folder / 'a.json').write_text('{}'); 1 / 0")
        blocking = submit(bench, "import time; time.sleep(60)")
        bench.wait(blocking, "RUNNING")
        waiting = submit(bench, "", resume_from=first.key.job_id)
        with pytest.raises(JobStillActive, match=waiting.key.job_id):
            bench.registry.delete(first.key)
        bench.registry.request_stop(blocking.key, "a test")
        assert found(bench, bench.wait(waiting)) == ["a.json"]
        bench.registry.delete(first.key)
        assert not folder_of(first).exists()


def test_the_next_job_waits_for_one_that_is_being_stopped_and_gets_its_last_checkpoint(bench):
    script = """
import signal, sys, time
def save(*_):
    time.sleep(0.5)
    (folder / 'last.json').write_text('{}')
    sys.exit(1)
signal.signal(signal.SIGTERM, save)
print('ready')
time.sleep(60)
"""
    cycle = str(uuid.uuid4())
    first = submit(bench, script, cycle)
    bench.wait_for_line(first, "ready")
    bench.registry.request_stop(first.key, "a test")
    second = submit(bench, "", cycle)
    assert found(bench, bench.wait(second)) == ["last.json"]
    assert bench.get(first).state == "STOPPED"
    assert bench.get(second).placed > bench.get(first).finished


def test_a_supervisor_that_is_killed_leaves_the_last_whole_checkpoint(bench):
    script = """
import time
for step in range(1000):
    (folder / 'new.json.tmp').write_text('[%d]' % step)
    (folder / 'new.json.tmp').rename(folder / 'state.json')
    print('step', step, flush=True)
    time.sleep(0.01)
"""
    cycle = str(uuid.uuid4())
    first = submit(bench, script, cycle)
    bench.wait_for_line(first, "step 20")
    os.kill(supervisor_of(first.directory), signal.SIGKILL)
    assert bench.wait(first).reason == "Lost"
    second = ended(bench, "print('state', (folder / 'state.json').read_text())", cycle)
    steps = [int(line.split()[1]) for line in bench.log(first).splitlines() if line.startswith("step ")]
    state = next(line for line in bench.log(second).splitlines() if line.startswith("state "))
    assert json.loads(state.removeprefix("state "))[0] >= steps[-1]


def test_the_checkpoints_of_a_job_without_supervisor_are_copied_before_its_processes_are_ended(tmp_path):
    home = tmp_path / "job"
    folder = checkpoints.directory_of_checkpoints(home)
    folder.mkdir(parents=True)
    (home / "started").touch()
    script = """
import pathlib, sys, time
home = pathlib.Path(sys.argv[1])
place = home / "state" / "checkpoints" / "a.json"
place.write_text("[1]")
while not (home / "last-checkpoints" / "1").exists():
    time.sleep(0.01)
place.open("w").write("[2, ")
print("torn", flush=True)
time.sleep(60)
"""
    environment = {**os.environ, "JOB_DIRECTORY": str(home)}
    with subprocess.Popen(
        [sys.executable, "-c", script, str(home)], env=environment, stdout=subprocess.PIPE
    ) as left_running:
        poll((folder / "a.json").exists, 30, "the first checkpoint")
        for _ in range(5):  # a busy machine
            checkpoints.rescue(home)
            if (home / "last-checkpoints" / "1").exists():
                break
        assert left_running.stdout.readline() == b"torn\n"
        left_running.kill()
    assert checkpoints.settle(home, resumed=False, room=lambda: 10**6)[0]
    assert (folder / "a.json").read_text() == "[1]"
    checkpoints.rescue(home)
    assert not (home / "last-checkpoints").exists(), "no process writes any more"


def test_a_preparation_that_fails_half_way_leaves_the_checkpoints_for_the_next(bench, monkeypatch):
    cycle = str(uuid.uuid4())
    ended(bench, "(folder / 'a.json').write_text('{}'); 1 / 0", cycle)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "_take_newest", full)
        second = bench.wait(submit(bench, "", cycle))
    assert second.reason == "StorageFull"
    assert not (second.directory / "state").exists()
    assert found(bench, ended(bench, "", cycle)) == ["a.json"]


def test_checkpoints_count_to_the_client_and_are_bounded(tmp_path):
    with Bench(tmp_path, storage_bound=3 * 10**6) as bench:
        storage, cycle = bench.storages.of(CLIENT), str(uuid.uuid4())
        before = storage.room()
        write = "(folder / 'a.bin').write_bytes(os.urandom({})); 1 / 0"
        first = ended(bench, write.format(10**6), cycle)
        assert 10**6 <= first.checkpoints <= 1.1 * 10**6
        assert storage.room() < before - 10**6
        large = ended(bench, write.format(4 * 10**6), str(uuid.uuid4()))
        assert large.checkpoints is None
        assert "are not kept: the client's storage has room for" in large.message
        poll(lambda: not folder_of(large).exists(), 10, "what is not kept to be removed")
        used = before - storage.room()
        assert ended(bench, "", cycle).state == "SUCCESSFUL"
        poll(lambda: before - storage.room() <= used - 10**6, 10, "the checkpoints to be counted no longer")


def test_checkpoints_that_outgrow_the_storage_leave_the_earlier_ones(tmp_path):
    script = """
import time
(folder / 'a.bin').write_bytes(os.urandom(10**6))
copies = folder.parents[1] / 'last-checkpoints'
while not any(each.name.isdigit() for each in (copies.iterdir() if copies.exists() else ())):
    time.sleep(0.01)
(folder / 'b.bin').write_bytes(os.urandom(4 * 10**6))
1 / 0
"""
    with Bench(tmp_path, storage_bound=3 * 10**6) as bench:
        cycle = str(uuid.uuid4())
        first = ended(bench, script, cycle)

        assert 10**6 <= first.checkpoints <= 1.1 * 10**6
        assert re.search(
            r"Its last checkpoints \(5\.\d MB\) are more than the client's storage has room for \(\d\.\d MB\), "
            r"so those before them are taken\. Its last checkpoints \(1\.\d MB\) are kept",
            first.message,
        )
        assert found(bench, ended(bench, "", cycle)) == ["a.bin"]


def test_what_is_torn_is_named(bench):
    script = """
import io, zipfile
whole = io.BytesIO()
with zipfile.ZipFile(whole, 'w') as archive:
    archive.writestr('data', 'x' * 1000)
(folder / 'step-2.pt').write_bytes(whole.getvalue()[:500])
"""
    cycle = str(uuid.uuid4())
    first = ended(bench, script + "1 / 0", cycle)
    assert first.message.endswith(
        "None of its checkpoints is kept, since the last one is not whole: step-2.pt (it is torn)."
    )
    assert first.checkpoints is None
    poll(lambda: not folder_of(first).exists(), 10, "what is not kept to be removed")
    second = ended(bench, script + "(folder / 'step-1.pt').write_bytes(whole.getvalue())\n1 / 0", cycle)
    assert second.message.endswith(
        "are kept for a job that continues it. Not whole, and left out: step-2.pt (it is torn)."
    )
    assert found(bench, ended(bench, "", cycle)) == ["step-1.pt"]


def test_links_and_strange_files_in_the_folder_reach_no_other_job(bench, tmp_path):
    (tmp_path / "secret").write_text("secret")
    script = f"""
(folder / 'runs').mkdir()
(folder / 'runs' / 'ckpt-1.json').write_text('{{}}')
(folder / 'runs' / 'last.json').symlink_to('ckpt-1.json')
(folder / 'absolute').symlink_to(folder / 'runs' / 'ckpt-1.json')
(folder / 'out').symlink_to({str(tmp_path / "secret")!r})
(folder / 'up').symlink_to('../../log')
(folder / 'dangling').symlink_to('nothing')
os.mkfifo(folder / 'pipe')
import time
time.sleep(60)
"""
    cycle = str(uuid.uuid4())
    first = submit(bench, script, cycle)
    bench.wait_for_line(first, "CHECKPOINT_DIR has a link that leads out of it and is not kept for the next job: write")
    bench.registry.request_stop(first.key, "a test")
    bench.wait(first)
    second = ended(bench, "print('links', os.readlink(folder / 'absolute'))", cycle)
    assert found(bench, second) == ["absolute", "runs/ckpt-1.json", "runs/last.json"]
    assert "links runs/ckpt-1.json" in bench.log(second)


def test_a_job_without_checkpoints_says_nothing_of_them(bench):
    for script in ("1 / 0", ""):
        job = ended(bench, script, str(uuid.uuid4()))
        assert "checkpoint" not in job.message
        assert not {"resumedFrom", "checkpointSize"} & set(job.status().to_wire())


def test_a_successful_job_says_what_it_loses_where_its_only_result_is_a_checkpoint(bench):
    save = "(folder / 'a.json').write_text('{}')\n"
    job = ended(bench, save)
    assert job.message.endswith(
        "Its checkpoints are removed, as after every success: let the script write its model "
        "into MODEL_DIR, or set keep_checkpoints."
    )
    job = ended(bench, save + "open(os.environ['MODEL_DIR'] + '/net', 'w').close()")
    assert "heckpoint" not in job.message


def test_the_sweep_removes_what_a_crash_left_of_an_ended_cycle(bench, monkeypatch):
    cycle = str(uuid.uuid4())
    first = ended(bench, "(folder / 'a.json').write_text('{}'); 1 / 0", cycle)
    collect = bench.registry.checkpoints.collect
    with monkeypatch.context() as patched:
        patched.setattr(bench.registry.checkpoints, "collect", lambda _: 0)
        last = ended(bench, "", cycle)
        assert last.state == "SUCCESSFUL"
        poll(lambda: last.key not in bench.runner._busy, 10, "the runner to have ended it")
    assert folder_of(first).exists()
    poll(lambda: collect(CLIENT), 10, "something to be removed")
    assert not folder_of(first).exists()
    assert bench.get(first).checkpoints is None
    assert collect(CLIENT) == 0
