# SPDX-License-Identifier: Apache-2.0
"""One training job of the double of SageMaker, which a driver or a test moves."""

from __future__ import annotations

import io
import tarfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.harness.ack.cloud import Cloud
from tests.harness.ack.rules import timestamp
from tests.harness.server import poll

ENDED = frozenset({"Completed", "Failed", "Stopped"})


class Job:
    """A training job.

    :ivar spec: As the controller sent it.
    :ivar cloud: Where its logs and its model go.
    :ivar home: The folder in which its script runs, or ran last; None before.
    """

    def __init__(self, name: str, region: str, arn: str, spec: dict[str, Any], cloud: Cloud) -> None:
        self.name, self.region, self.arn, self.spec, self.cloud = name, region, arn, spec, cloud
        self._fields: dict[str, Any] = {
            "trainingJobStatus": "InProgress",
            "secondaryStatus": "Starting",
            "profilingStatus": "Disabled",
            "creationTime": timestamp(),
            "lastModifiedTime": timestamp(),
        }
        self._changed = threading.Condition()
        self._stopping = self._abandoned = False
        self._epoch = 0
        self.home: Path | None = None

    @property
    def status(self) -> str:
        """Its ``trainingJobStatus``."""
        return str(self._fields["trainingJobStatus"])

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.status in ENDED

    @property
    def told_to_stop(self) -> bool:
        """Whether it is to end: StopTrainingJob was called, or the test is over."""
        return self._stopping or self._abandoned

    @property
    def instances(self) -> int:
        """How many instances it has."""
        config = self.spec["resourceConfig"]
        groups = config.get("instanceGroups") or []
        return int(config.get("instanceCount") or sum(each.get("instanceCount", 1) for each in groups) or 1)

    def describe(self) -> dict[str, Any]:
        """The answer of DescribeTrainingJob, in ACK's spelling."""
        with self._changed:
            return {"arn": self.arn, "spec": self.spec, **self._fields}

    def set(self, **fields: Any) -> None:
        """Change any field of the answer, such as ``warmPoolStatus``; None removes it. An ended job can change, too."""
        with self._changed:
            self._fields |= {"lastModifiedTime": timestamp()} | fields
            self._changed.notify_all()

    def move(self, secondary: str, status: str | None = None) -> None:
        """Go on to another secondary status, also one that nobody knows.

        :param status: The status; InProgress stays unless it is given.
        """
        with self._changed:
            if self._stopping and not self.ended and status is None:
                return  # it stays Stopping
            self.set(secondaryStatus=secondary, trainingJobStatus=status or self.status)

    def complete(self, model: Mapping[str, bytes] | bytes | None = None) -> None:
        """End well.

        :param model: The files of the model, which go into ``model.tar.gz``; or an archive, as it is; or none at all.
        """
        found = {} if model is None else {"modelArtifacts": {"s3ModelArtifacts": self.upload(model)}}
        self._end("Completed", "Completed", **found)

    def fail(self, reason: str) -> None:
        """End badly.

        :param reason: The ``failureReason``, such as ``AlgorithmError: …, exit code: 1``.
        """
        self._end("Failed", "Failed", failureReason=reason)

    def stopped(self, secondary: str = "Stopped", model: Mapping[str, bytes] | None = None) -> None:
        """End because of a stop, or by ``MaxRuntimeExceeded`` or ``MaxWaitTimeExceeded``; a model may be there."""
        found = {} if model is None else {"modelArtifacts": {"s3ModelArtifacts": self.upload(model)}}
        self._end("Stopped", secondary, **found)

    def interrupt(self) -> None:
        """Lose the spot instances; :meth:`restart` begins again, in new log streams."""
        self.move("Interrupted")

    def restart(self, secondary: str = "Restarting") -> None:
        """Start again, after an interruption or by ``retryStrategy``; what is logged from now on is in new streams."""
        self._epoch = 0
        self.move(secondary)

    def log(self, *lines: str, instance: int = 1, at: int | None = None) -> None:
        """Write lines of an instance into CloudWatch.

        :param at: Milliseconds since the epoch, in place of now.
        """
        when = int(time.time() * 1000) if at is None else at
        self.cloud.log(self.region, self.stream(instance), [(when, line) for line in lines])

    def stream(self, instance: int = 1) -> str:
        """The name of the log stream of an instance, since the job was last started."""
        self._epoch = self._epoch or int(time.time() * 1000)
        return f"{self.name}/algo-{instance}-{self._epoch}"

    def lines(self) -> list[str]:
        """All lines of all streams, in the order of the streams' names."""
        streams = self.cloud.streams(self.region, f"{self.name}/")
        return [line for stream in streams for line in self.cloud.lines(self.region, stream)]

    def upload(self, model: Mapping[str, bytes] | bytes) -> str:
        """Store the model, and answer its URL."""
        config = self.spec["outputDataConfig"]
        base = f"{config['s3OutputPath'].rstrip('/')}/{self.name}/output/model"
        if config.get("compressionType") == "NONE" and not isinstance(model, bytes):
            for path, content in model.items():
                self.cloud.put(f"{base}/{path}", content)
            return f"{base}/"
        self.cloud.put(f"{base}.tar.gz", model if isinstance(model, bytes) else packed(model))
        return f"{base}.tar.gz"

    def wait_until(self, secondary: str, timeout: float = 30.0) -> None:
        """Wait for a secondary status."""
        poll(lambda: self._fields["secondaryStatus"] == secondary, timeout, f"{self.name} to be {secondary}")

    def begin_stopping(self) -> bool:
        """Be told to stop; False when it has ended."""
        with self._changed:
            if self.ended:
                return False
            self._stopping = True
            self.set(trainingJobStatus="Stopping", secondaryStatus="Stopping")
            return True

    def abandon(self) -> None:
        """Let the driver end, since the test is over."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

    def wait_for_stop(self, timeout: float | None = None) -> bool:
        """Wait until it is told to stop, has ended, or the test is over.

        :return: Whether it is to be stopped.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.told_to_stop or self.ended, timeout)
            return self._stopping and not self.ended

    def wait_for_end(self, timeout: float) -> None:
        """Wait until it has ended, or the test is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._abandoned or self.ended, timeout)

    def _end(self, status: str, secondary: str, **fields: Any) -> None:
        with self._changed:
            if not self.ended:
                self.set(trainingJobStatus=status, secondaryStatus=secondary, trainingEndTime=timestamp(), **fields)


def packed(files: Mapping[str, bytes]) -> bytes:
    """A ``model.tar.gz``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
