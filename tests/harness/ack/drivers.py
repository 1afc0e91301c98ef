# SPDX-License-Identifier: Apache-2.0
"""What becomes of a job that SageMaker has accepted.

A driver is called with the job in a thread of its own. When it returns and the job has not ended, the job stays as it
is until a test moves it, or it is stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.harness.ack.job import Job
from tests.harness.ack.sagemaker import Driver
from tests.harness.ack.training import Training

MODEL = {"model.txt": b"a model\n"}


def by_hand(job: Job) -> None:
    """Leave the job Starting, for the test to move."""


def scripted(lines: Sequence[str] = ("hello",), model: Mapping[str, bytes] | None = None) -> Driver:
    """A driver that goes through all phases at once, writes these lines, and leaves this model."""

    def drive(job: Job) -> None:
        for phase in ("Downloading", "Training"):
            job.move(phase)
        for instance in range(1, job.instances + 1):
            job.log(*lines, instance=instance)
        job.move("Uploading")
        job.complete(MODEL if model is None else model)

    return drive


def train(job: Job) -> None:
    """Run the script of a job for real, as the framework containers do; a job without a script is :func:`scripted`."""
    if "sagemaker_submit_directory" in (job.spec.get("hyperParameters") or {}):
        Training(job).run()
    else:
        scripted()(job)
