# SPDX-License-Identifier: Apache-2.0
"""What a server takes while a job runs and thousands wait behind it, beside the same server with none that waits."""

from __future__ import annotations

import tempfile
import time
import uuid
from pathlib import Path

from airflow_provider_jobapi.training.job_file import JobFile
from tests.benchmarks.table import Row
from tests.harness.bench import CLIENT, Bench

WAITING = 2_700
SPAN = 5.0
"""Seconds for which the CPU time of the process is taken."""

_SLEEPS = "import time\nprint('up', flush=True)\ntime.sleep(3600)\n"


def measure() -> list[Row]:
    """Measure the CPU time of a registry and a runner in this process."""
    with (
        tempfile.TemporaryDirectory(prefix="jobapi-idle-") as home,
        Bench(Path(home), cpus=1, queue_bound=10 * WAITING) as bench,
    ):
        job = bench.submit(_SLEEPS)
        bench.wait_for_line(job, "up")
        alone = _percent()
        waits = JobFile.model_validate({"job": {"name": "waits", "execution": {"command": "true"}}})
        for _ in range(WAITING):
            bench.registry.submit(CLIENT, str(uuid.uuid4()), waits)
        busy = _percent()
        for each in bench.registry.waiting():
            bench.registry.request_stop(each.key, "the benchmark")
        bench.registry.request_stop(job.key, "the benchmark")
        bench.wait(job)
    what = f"a server with a running job and {WAITING:,} waiting ones"
    return [Row(what, busy, alone, "% of a core", 2.0, anchor_is="none that waits")]


def _percent() -> float:
    time.sleep(1.0)  # what was begun before is over
    began, used = time.monotonic(), time.process_time()
    time.sleep(SPAN)
    return 100 * (time.process_time() - used) / (time.monotonic() - began)
