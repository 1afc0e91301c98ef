# SPDX-License-Identifier: Apache-2.0
"""SageMaker as far as ACK's controller calls it: CreateTrainingJob, DescribeTrainingJob, StopTrainingJob.

Its fields are in ACK's spelling. It never forgets a name, as the real one. A *driver* decides what becomes of a job
(see :mod:`tests.harness.ack.drivers`).
"""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable
from typing import Any

from tests.harness.ack.cloud import Cloud
from tests.harness.ack.job import Job
from tests.harness.ack.rules import AwsError

ACCOUNT = "123456789012"
NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
MOST_HYPERPARAMETERS, LONGEST_HYPERPARAMETER = 100, 256
NOT_FOUND = "Requested resource not found."
"""How the message of DescribeTrainingJob begins that the controller takes for "there is none" (``sdkFind``)."""

Driver = Callable[[Job], None]


class SageMaker:
    """SageMaker in all regions of one account.

    :param driver: What becomes of jobs that are created from now on; ``sagemaker.driver = …`` changes it.
    :param stop_seconds: How long a job is Stopping; up to 120 s at the real one.
    """

    def __init__(self, cloud: Cloud, driver: Driver, *, stop_seconds: float = 0.3) -> None:
        self.cloud, self.driver, self.stop_seconds = cloud, driver, stop_seconds
        self.jobs: dict[tuple[str, str], Job] = {}
        self.calls: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def create(self, region: str, spec: dict[str, Any]) -> str:
        """CreateTrainingJob; answers the ARN.

        :raises AwsError: when it refuses the job.
        """
        name = str(spec["trainingJobName"])
        self.calls.append(("create", name))
        check(spec)
        with self._lock:
            if (region, name) in self.jobs:
                arn = self.jobs[region, name].arn
                raise _error(
                    "ResourceInUse",
                    "Training job names must be unique within an AWS account and region, and a training job with this "
                    f"name already exists ({arn})",
                )
            job = Job(name, region, f"arn:aws:sagemaker:{region}:{ACCOUNT}:training-job/{name}", spec, self.cloud)
            self.jobs[region, name] = job
        thread = threading.Thread(target=self._drive, args=(job, self.driver), daemon=True, name=f"sagemaker {name}")
        self._threads.append(thread)
        thread.start()
        return job.arn

    def describe(self, region: str, name: str) -> dict[str, Any]:
        """DescribeTrainingJob.

        :raises AwsError: when there is none.
        """
        self.calls.append(("describe", name))
        return self._find(region, name).describe()

    def stop(self, region: str, name: str) -> None:
        """StopTrainingJob.

        :raises AwsError: when there is none, or it has ended.
        """
        self.calls.append(("stop", name))
        job = self._find(region, name)
        if not job.begin_stopping():
            raise _error(
                "ValidationException", f"The request was rejected because the training job is in status {job.status}."
            )

    def close(self) -> None:
        """End what still runs."""
        for job in self.jobs.values():
            job.abandon()
        for thread in self._threads:
            thread.join(20)

    def _find(self, region: str, name: str) -> Job:
        job = self.jobs.get((region, name))
        if job is None:
            raise _error("ValidationException", NOT_FOUND)
        return job

    def _drive(self, job: Job, driver: Driver) -> None:
        try:
            driver(job)
        except Exception as error:
            job.fail(f"InternalServerError: the driver of the test: {error!r}")
            raise
        if not job.ended and job.wait_for_stop():
            job.wait_for_end(self.stop_seconds)
            job.stopped()


def check(spec: dict[str, Any]) -> None:
    """Refuse what SageMaker refuses in a request (its API reference)."""
    problems = []
    name = spec["trainingJobName"]
    if not NAME.fullmatch(name) or len(name) > 63:
        pattern = "[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
        problems.append(
            f"Value '{name}' at 'trainingJobName' failed to satisfy constraint: "
            f"Member must satisfy regular expression pattern: {pattern}"
        )
    given = spec.get("hyperParameters") or {}
    if len(given) > MOST_HYPERPARAMETERS:
        problems.append(
            f"Value at 'hyperParameters' failed to satisfy constraint: "
            f"Member must have length less than or equal to {MOST_HYPERPARAMETERS}"
        )
    if any(len(text) > LONGEST_HYPERPARAMETER for pair in given.items() for text in pair):
        problems.append(
            "Value at 'hyperParameters' failed to satisfy constraint: Map value must satisfy constraint: "
            f"[Member must have length less than or equal to {LONGEST_HYPERPARAMETER}]"
        )
    if not re.fullmatch(r"arn:aws[a-z-]*:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+", spec["roleARN"]):
        problems.append(f"Value '{spec['roleARN']}' at 'roleArn' failed to satisfy constraint")
    if not re.match(r"(https|s3)://[^/]+", spec["outputDataConfig"].get("s3OutputPath", "")):
        problems.append("Value at 'outputDataConfig.s3OutputPath' failed to satisfy constraint")
    if problems:
        listed = "; ".join(problems)
        raise _error(
            "ValidationException", f"{len(problems)} validation error{'s'[: len(problems) - 1]} detected: {listed}"
        )


def _error(code: str, message: str) -> AwsError:
    return AwsError(code, message, 400, str(uuid.uuid4()))
