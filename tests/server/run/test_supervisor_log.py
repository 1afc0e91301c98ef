# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_jobapi.server.run.supervisor.job_log import JobLog
from airflow_provider_jobapi.training.logs import parse_records
from tests.harness.small_disk import small_disk

KILOBYTE = 1024


def texts(path: Path) -> list[str]:
    return [line.text for line in parse_records(path.read_bytes())]


def test_lines_are_records_with_rising_times(tmp_path):
    log = JobLog(str(tmp_path / "log"), 10**6)
    log.say("hello\nthere")
    log.feed(b"one\ntwo\nthr")
    log.feed(b"ee")
    size = log.close()
    lines = parse_records((tmp_path / "log").read_bytes())
    assert [line.text for line in lines] == ["jobapi: hello there", "one", "two", "three"]
    assert [line.time for line in lines] == sorted(line.time for line in lines)
    assert size == (tmp_path / "log").stat().st_size
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_a_runaway_logger_meets_the_bound_and_its_last_lines_are_kept(tmp_path):
    bound = 200 * KILOBYTE
    log = JobLog(str(tmp_path / "log"), bound)
    for start in range(0, 50_000, 100):
        log.feed(b"".join(b"line %d\n" % number for number in range(start, start + 100)))
    log.feed(b"Traceback: the reason\n")
    assert log.close() <= bound
    lines = texts(tmp_path / "log")
    assert lines[:3] == ["line 0", "line 1", "line 2"]
    assert lines[-1] == "Traceback: the reason"
    markers = [index for index, text in enumerate(lines) if text.startswith("jobapi: ")]
    assert len(markers) == 2
    assert "bound of 204,800 bytes" in lines[markers[0]]
    left_out = int(lines[markers[1]].split()[1].replace(",", ""))
    head, tail = lines[: markers[0]], lines[markers[1] + 1 :]
    assert head == [f"line {number}" for number in range(len(head))]
    assert len(head) + left_out + len(tail) == 50_001
    assert len(tail) > 500


def test_a_log_of_exactly_its_bound_has_no_marker_of_loss(tmp_path):
    log = JobLog(str(tmp_path / "log"), 64 * KILOBYTE)
    for number in range(1000):
        log.feed(b"line %d\n" % number)
    log.close()
    assert not [text for text in texts(tmp_path / "log") if "left out" in text]
    assert [text for text in texts(tmp_path / "log") if text.startswith("line")] == [f"line {n}" for n in range(1000)]


FULL_DISK = """
import os, resource, signal, sys
sys.path.insert(0, sys.argv[2])
from airflow_provider_jobapi.server.run.supervisor.job_log import JobLog
log = JobLog(sys.argv[1], 10**6)
for number in range(100):
    log.feed(b"first %d\\n" % number)
room = log.size + 100
resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for number in range(100):
    log.feed(b"second %d\\n" % number)
assert log.size <= room, log.size
assert log.size == os.path.getsize(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.feed(b"third\\n")
assert log.close() == os.path.getsize(sys.argv[1])
"""


def test_a_full_disk_loses_whole_lines_and_says_how_many(tmp_path):
    """A limit of the file's size stands for the disk: a write comes short, the next one fails."""
    path = tmp_path / "log"
    here = str(Path(__file__).parents[3])
    subprocess.run([sys.executable, "-c", FULL_DISK, str(path), here], check=True, timeout=60)
    lines = texts(path)
    second = [text for text in lines if text.startswith("second")]
    assert second == [f"second {number}" for number in range(len(second))]
    assert 0 < len(second) < 5
    assert lines[:100] == [f"first {number}" for number in range(100)]
    assert lines[-2:] == [f"jobapi: {100 - len(second)} lines are lost here: the disk was full.", "third"]


FULL_TO_THE_END = """
import os, resource, signal, sys
sys.path.insert(0, sys.argv[2])
from airflow_provider_jobapi.server.run.supervisor import job_log
log = job_log.JobLog(sys.argv[1], 64 * 1024)
reserve = sys.argv[1] + ".reserve"
assert os.stat(reserve).st_blocks * 512 >= 8192
for number in range(int(sys.argv[3])):
    log.feed(b"first %d\\n" % number)
full = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (log.size + 30, resource.RLIM_INFINITY))
full()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for number in range(300):
    log.feed(b"second %d\\n" % number)
def unlink(path, free=os.unlink):
    free(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.size + 8192, resource.RLIM_INFINITY))
os.unlink = unlink  # the room of the reserve is given back
assert log.close() == os.path.getsize(sys.argv[1])
assert not os.path.exists(reserve)
print(log.lost)
"""


@pytest.mark.parametrize("before", [100, 5000])
def test_what_a_disk_that_stays_full_loses_is_counted_and_said(tmp_path, before):
    """With 5,000 lines the log is beyond its bound, so that the lines kept in memory are among those that are lost."""
    path = tmp_path / "log"
    command = [sys.executable, "-c", FULL_TO_THE_END, str(path), str(Path(__file__).parents[3]), str(before)]
    printed = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True)
    lost, lines = int(printed.stdout), texts(path)
    own = [line for line in lines if line.startswith("jobapi: ")]
    assert lines[-1] == own[-1] == f"jobapi: {lost:,} lines are lost here: the disk was full."
    assert lost + len(lines) - len(own) == before + 300


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system is mounted, which needs root")
def test_a_log_on_a_full_file_system_does_not_end_the_job(tmp_path):
    with small_disk(tmp_path / "disk", "128k") as disk:
        log = JobLog(str(disk / "log"), 10**6)
        for number in range(10_000):
            log.feed(b"a line of the job, number %d\n" % number)
        assert log.close() <= 128 * KILOBYTE
        kept = texts(disk / "log")
        assert len(kept) > 1000
        assert log.lost == 10_000 - len(kept[:-1])
        assert kept[-1] == f"jobapi: {log.lost:,} lines are lost here: the disk was full."


def test_the_memory_that_a_log_takes_is_bounded(tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    log = JobLog(str(tmp_path / "log"), 10**6)
    for _ in range(200):
        log.feed(b"x" * 100_000 + b"\n" + b"y" * 200_000)
    log.close()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
