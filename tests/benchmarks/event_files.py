# SPDX-License-Identifier: Apache-2.0
"""Print what a job's event files cost its supervisor: ``python -m tests.benchmarks.event_files [MEGABYTES]``.

The supervisor, a process as the server starts it, reads a file of scalars of 50 MB that is there at once, which is the
worst that a job can do to it, and the same job without the file.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from airflow_provider_jobapi.server.run import supervisor
from airflow_provider_jobapi.server.run.supervisor.tfrecord import checksum
from tests.harness.event_writer import event, simple

SECONDS = 20


def records(size: int) -> Iterator[bytes]:
    """Records of four curves, of this many bytes together."""
    written = number = 0
    while written < size:
        message = event(simple(f"train/metric_{number % 4}", number % 997 / 997), step=number // 4 + 1)
        length = struct.pack("<Q", len(message))
        whole = length + struct.pack("<I", checksum(length)) + message + struct.pack("<I", checksum(message))
        yield whole
        written += len(whole)
        number += 1


def cost(home: Path, source: Path | None) -> tuple[float, float, float]:
    """Run a job that lasts some seconds; returns CPU seconds, megabytes, and seconds from its end to the record's."""
    work = home / "work"
    work.mkdir(parents=True)
    copied = "" if source is None else f"cp {source} events.out.tfevents.1.host; "
    command = f"{copied}sleep {SECONDS}; date +%s.%N > end"
    step = {
        "name": "training",
        "argv": ["/bin/sh", "-c", command],
        "env": {"PATH": os.environ["PATH"]},
        "cwd": str(work),
    }
    spec = {"steps": [step], "log_bound": 10**6, "scalars": {"folders": [str(work)], "bound": 16_000_000}}
    (home / "spec.json").write_text(json.dumps(spec))
    command_line = [sys.executable, "-I", "-S", str(Path(supervisor.__file__).parent), str(home)]
    process = subprocess.Popen(command_line)
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    assert source is None or (home / "scalars").exists()
    ended = time.time() - float((work / "end").read_text())
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, ended


def main(megabytes: int) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as home:
        source = Path(home, "source")
        with source.open("wb") as file:
            for each in records(megabytes * 1_000_000):
                file.write(each)
        print(f"a job of {SECONDS} s       {'CPU s':>8} {'MB':>6} {'s to its end':>13}")
        for name, given in (("without event files", None), (f"with one of {megabytes} MB", source)):
            seconds, memory, ended = cost(Path(home, name), given)
            print(f"{name:20} {seconds:>8.2f} {memory:>6.1f} {ended:>13.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
