# SPDX-License-Identifier: Apache-2.0
"""The last lines of a job's log in CloudWatch, from a worker."""

from __future__ import annotations

from typing import Any

from airflow_provider_jobapi.services.clients import Aws
from airflow_provider_jobapi.services.sagemaker_ack import names
from airflow_provider_jobapi.services.sagemaker_ack.errors import error_code, error_of_aws
from airflow_provider_jobapi.services.sagemaker_ack.handles import JobHandle
from airflow_provider_jobapi.services.sagemaker_ack.log_events import StreamName
from airflow_provider_jobapi.training.logs import fair_shares

MOST_STREAMS = 20
"""Streams whose last lines are read, those of the first instances."""


def last_lines(aws: Aws, handle: JobHandle, count: int) -> tuple[str, ...]:
    """Return the last lines of all instances, at most ``count``; none where there is no log yet.

    :raises TrainingError: when they cannot be read.
    """
    try:
        client = aws.client("logs")
        found = client.describe_log_streams(
            logGroupName=names.LOG_GROUP,
            logStreamNamePrefix=names.log_stream_prefix(handle.name),
            orderBy="LogStreamName",
        )
        streams = [StreamName.of(str(each["logStreamName"])) for each in found.get("logStreams", ())]
        streams.sort(key=lambda each: each.order)
        # An instance that was started again has the end of the log in its newest stream.
        streams = list({each.instance or each.name: each for each in streams}.values())
        logs = [_tail(client, stream.name, count) for stream in streams[: min(MOST_STREAMS, count)]]
    except Exception as error:  # noqa: BLE001 -- whatever the client raises is translated
        if error_code(error) == "ResourceNotFoundException":
            return ()
        raise error_of_aws(error, "read the log") from None
    if len(logs) > 1:
        logs = [tuple(f"[{each.title}] {line}" for line in log) for each, log in zip(streams, logs, strict=False)]
    return fair_shares(logs, count)


def _tail(client: Any, stream: str, count: int) -> tuple[str, ...]:
    answer = client.get_log_events(
        logGroupName=names.LOG_GROUP, logStreamName=stream, startFromHead=False, limit=min(count, 10_000)
    )
    return tuple(str(each.get("message", "")).rstrip("\n") for each in answer.get("events", ()))[-count:]
