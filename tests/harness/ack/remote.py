# SPDX-License-Identifier: Apache-2.0
"""SageMaker as the kill matrix looks at it: the double's own jobs, and CloudWatch."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

from airflow_provider_jobapi.training.logs import LogLine
from tests.harness.ack import RBAC
from tests.harness.ack.cloud import LOG_GROUP, connection
from tests.harness.ack.double import Ack
from tests.harness.ack.drivers import train
from tests.harness.ack.job import Job as SageMakerJob
from tests.harness.airflow import wait_for
from tests.harness.proxy_faults import ScriptedProxy
from tests.harness.remote import Job, Remote

UUID_LENGTH = 36

Connect = Callable[[str, Mapping[str, Any]], None]
"""Stores a connection in Airflow."""


def no_gpus(job: SageMakerJob) -> None:
    """A driver that trains, but for jobs on instances with GPUs, which wait for ever: none is left."""
    if job.spec["resourceConfig"]["instanceType"].startswith(("ml.g", "ml.p")):
        job.move("Pending")
    else:
        train(job)


class OnSageMaker(Remote):
    """The Kubernetes API, behind proxies, and the double of ACK and SageMaker. The way to AWS is not broken.

    :param ack: Works on the Kubernetes API, and watches the namespace.
    :param connect: Stores the connections of types ``kubernetes`` and ``aws``, which the service's own one names.
    """

    creates = r"^POST /apis/sagemaker\.services\.k8s\.aws/v1alpha1/namespaces/[^/]+/trainingjobs$"
    looks = r"^GET /apis/sagemaker\.services\.k8s\.aws/"
    logins = r"^NONE "
    watches: ClassVar = r"^GET .*[?&]watch="

    _STATES: ClassVar = {"Stopping": "RUNNING", "Completed": "SUCCESSFUL", "Failed": "FAILED", "Stopped": "STOPPED"}
    _RUNS: ClassVar = ("Training", "Interrupted", "Restarting", "Uploading")

    def __init__(self, ack: Ack, namespace: str, connect: Connect) -> None:
        kubernetes = ack.kubernetes
        super().__init__(int(kubernetes.url.rpartition(":")[2]))
        self.ack, self.namespace = ack, namespace
        self._connect = connect
        self._tls = ssl.create_default_context(cafile=str(kubernetes.authority))

    def way(self, shift: timedelta = timedelta()) -> ScriptedProxy:
        self._ways.append(ScriptedProxy(self._port, shift=shift, tls=self._tls, streams=self.watches))
        return self._ways[-1]

    def connection(self, way: ScriptedProxy, account: str = "", **extra: Any) -> dict[str, Any]:
        """The Airflow connection that takes a way.

        :param account: A service account with a new token; by default the documentation's.
        """
        kubernetes, aws = f"kills_cluster_{way.port}", "kills_aws"
        self._connect(kubernetes, self._cluster(way, account))
        self._connect(aws, self.ack.cloud.connection)
        named = {"kubernetes_conn_id": kubernetes, "aws_conn_id": aws, "poll_interval": 0.5}
        return connection(self.ack.cloud, **named | extra)

    def revoke(self, account: str) -> None:
        """Let every token of a service account be refused, from some seconds later on."""
        self.ack.kubernetes.revoke(self.namespace, account)

    def jobs(self, name: str) -> list[Job]:
        return [self.job(job.name[-UUID_LENGTH:]) for job in self._all() if job.name[: -UUID_LENGTH - 1] == name]

    def job(self, job_id: str) -> Job:
        found = self._job(job_id)
        described = found.describe()
        running = "RUNNING" if described["secondaryStatus"] in self._RUNS else "PENDING"
        status = self._STATES.get(described["trainingJobStatus"], running)
        return Job(job_id, status, found.home is not None)

    def records(self, job_id: str) -> list[LogLine]:
        found = self._job(job_id)
        logs = self.ack.cloud.client("logs", found.region)
        lines: list[LogLine] = []
        try:
            streams = self.ack.cloud.streams(found.region, f"{found.name}/")
        except logs.exceptions.ResourceNotFoundException:  # no job has written anything yet
            return []
        for stream in streams:
            token: dict[str, str] = {}
            while True:
                answer = logs.get_log_events(logGroupName=LOG_GROUP, logStreamName=stream, startFromHead=True, **token)
                lines += [
                    LogLine(datetime.fromtimestamp(each["timestamp"] / 1000, UTC), each["message"])
                    for each in answer["events"]
                ]
                if answer["nextForwardToken"] == token.get("nextToken"):
                    break
                token = {"nextToken": answer["nextForwardToken"]}
        return lines

    def folder(self, job_id: str) -> Path:
        return self._job(job_id).home or Path(f"/has/no/instance/{job_id}")

    def work(self, job_id: str) -> Path:
        def look() -> list[Path]:
            folder = self.folder(job_id) / "code"
            return [folder] if folder.exists() else []

        (found,) = wait_for(f"the script of job {job_id} runs", look, 30)
        return found

    def told_to_stop(self, job_id: str) -> list[float]:
        return [each.at for way in self._ways for each in way.sent(f"^DELETE .*/training-{job_id}")]

    def kill(self) -> None:
        self.ack.stop()
        self.ack.kubernetes.stop()

    def restart(self) -> None:
        self.ack.kubernetes.start()
        self.ack.start()

    def _cluster(self, way: ScriptedProxy, account: str) -> dict[str, Any]:
        kubernetes = self.ack.kubernetes
        token = kubernetes.grant(RBAC, self.namespace, account)
        return kubernetes.connection(token, self.namespace, way.url)

    def _all(self) -> list[SageMakerJob]:
        return list(self.ack.sagemaker.jobs.values())

    def _job(self, job_id: str) -> SageMakerJob:
        (found,) = (job for job in self._all() if job.name.endswith(job_id))
        return found
