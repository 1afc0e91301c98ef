# SPDX-License-Identifier: Apache-2.0
"""S3 and CloudWatch Logs for the tests: moto as a server, so that every process can reach it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.harness import moto_s3
from tests.harness.s3 import KEY, SECRET

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
REGION = "eu-central-1"
IMAGE = f"763104351884.dkr.ecr.{REGION}.amazonaws.com/tensorflow-training:2.19.0-cpu-py312"
ROLE = "arn:aws:iam::123456789012:role/training"


class Cloud:
    """AWS in all regions, with one bucket in :data:`REGION`.

    :ivar url: The endpoint of every service.
    :ivar bucket: The name of the bucket.
    """

    def __init__(self, url: str) -> None:
        self.url, self.bucket = url, "training"
        self._clients: dict[tuple[str, str], Any] = {}
        self._streams: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self.make_bucket(self.bucket)

    def client(self, service: str, region: str = REGION) -> Any:
        """A boto3 client."""
        import boto3

        with self._lock:
            if (service, region) not in self._clients:
                keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}
                self._clients[service, region] = boto3.client(service, region, endpoint_url=self.url, **keys)
            return self._clients[service, region]

    @property
    def connection(self) -> dict[str, Any]:
        """The Airflow connection of type ``aws``, as the JSON of an ``AIRFLOW_CONN_…`` has it."""
        extra = {"region_name": REGION, "endpoint_url": self.url}
        return {"conn_type": "aws", "login": KEY, "password": SECRET, "extra": extra}

    def make_bucket(self, name: str, region: str = REGION) -> None:
        """Make a bucket."""
        self.client("s3", region).create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": region})

    def put(self, url: str, content: bytes) -> None:
        """Store an object."""
        bucket, key = split(url)
        self.client("s3").put_object(Bucket=bucket, Key=key, Body=content)

    def get(self, url: str) -> bytes:
        """The bytes of an object."""
        bucket, key = split(url)
        return bytes(self.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())

    def objects(self, url: str) -> list[str]:
        """The URLs of the objects whose URL begins like this."""
        bucket, key = split(url)
        pages = self.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
        return [f"s3://{bucket}/{each['Key']}" for page in pages for each in page.get("Contents", [])]

    def log(self, region: str, stream: str, events: Iterable[tuple[int, str]]) -> None:
        """Append to a log stream of SageMaker's; group and stream are made when they are not there.

        :param events: The time in milliseconds since the epoch, and the line.
        """
        logs = self.client("logs", region)
        if (region, stream) not in self._streams:
            self._make_stream(logs, stream)
            self._streams.add((region, stream))
        listed = [{"timestamp": at, "message": line or " "} for at, line in events]  # an empty one is refused
        if listed:
            logs.put_log_events(logGroupName=LOG_GROUP, logStreamName=stream, logEvents=listed)

    def _make_stream(self, logs: Any, stream: str) -> None:
        for make, names in (("create_log_group", {}), ("create_log_stream", {"logStreamName": stream})):
            try:
                getattr(logs, make)(logGroupName=LOG_GROUP, **names)
            except logs.exceptions.ResourceAlreadyExistsException:
                pass

    def drop_logs(self, region: str = REGION) -> None:
        """Delete the log group, as it is before the first job of an account."""
        logs = self.client("logs", region)
        self._streams = {each for each in self._streams if each[0] != region}
        try:
            logs.delete_log_group(logGroupName=LOG_GROUP)
        except logs.exceptions.ResourceNotFoundException:
            pass

    def streams(self, region: str, prefix: str) -> list[str]:
        """The names of the log streams that begin like this."""
        logs = self.client("logs", region)
        pages = logs.get_paginator("describe_log_streams").paginate(logGroupName=LOG_GROUP, logStreamNamePrefix=prefix)
        return [each["logStreamName"] for page in pages for each in page["logStreams"]]

    def lines(self, region: str, stream: str) -> list[str]:
        """The lines of a log stream."""
        logs = self.client("logs", region)
        answer = logs.get_log_events(logGroupName=LOG_GROUP, logStreamName=stream, startFromHead=True)
        return [each["message"] for each in answer["events"]]


def connection(cloud: Cloud, **extra: Any) -> dict[str, Any]:
    """The Airflow connection of type ``sagemaker_ack``, as the JSON of an ``AIRFLOW_CONN_…`` has it.

    :param extra: More of its fields, and others in place of these.
    """
    own = {"region": REGION, "bucket": cloud.bucket, "role_arn": ROLE, "training_image": IMAGE, **extra}
    return {"conn_type": "sagemaker_ack", "extra": own}


@contextmanager
def serve() -> Iterator[Cloud]:
    """Start a server."""
    with moto_s3.serve() as running:
        yield Cloud(running.url)


def split(url: str) -> tuple[str, str]:
    """Bucket and key of ``s3://bucket/key``."""
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return bucket, key
