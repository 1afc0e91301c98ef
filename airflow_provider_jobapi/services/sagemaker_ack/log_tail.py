# SPDX-License-Identifier: Apache-2.0
"""The last lines of a job's log in CloudWatch, from a worker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_provider_jobapi.services.clients import Aws
from airflow_provider_jobapi.services.sagemaker_ack import names
from airflow_provider_jobapi.services.sagemaker_ack.errors import error_code, error_of_aws
from airflow_provider_jobapi.services.sagemaker_ack.handles import JobHandle
from airflow_provider_jobapi.services.sagemaker_ack.log_events import StreamName
from airflow_provider_jobapi.training.logs import fair_shares

MOST_STREAMS = 20
"""Instances whose last lines are read, the first ones."""

MOST_PAGES = 40
"""Pages of the names of streams that are read: 2,000 streams, such as 500 instances that were started four times."""

_OLDER = 2
"""Streams of an instance that are read until one has a line: one that was started again may not have written yet."""


def last_lines(aws: Aws, handle: JobHandle, count: int) -> tuple[str, ...]:
    """Return the last lines of all instances, at most ``count``; none where there is no log yet.

    :raises TrainingError: when they cannot be read.
    """
    try:
        client = aws.client("logs")
        instances = _by_instance(client, handle)[: min(MOST_STREAMS, count)]
        logs = [_last_of(client, streams, count) for streams in instances]
    except Exception as error:  # noqa: BLE001 -- whatever the client raises is translated
        if error_code(error) == "ResourceNotFoundException":
            return ()
        raise error_of_aws(error, "read the log") from None
    if len(logs) > 1:
        logs = [
            tuple(f"[{streams[-1].title}] {line}" for line in log) for streams, log in zip(instances, logs, strict=True)
        ]
    return fair_shares(logs, count)


def _by_instance(client: Any, handle: JobHandle) -> list[list[StreamName]]:
    """Return the streams of each instance, its newest one last. CloudWatch sorts them by their names alone."""
    found: dict[int | str, list[StreamName]] = {}
    for each in sorted(_streams(client, handle), key=lambda each: each.order):
        found.setdefault(each.instance or each.name, []).append(each)
    return list(found.values())


def _streams(client: Any, handle: JobHandle) -> Iterator[StreamName]:
    more: dict[str, str] = {}
    for _ in range(MOST_PAGES):
        answer = client.describe_log_streams(
            logGroupName=names.LOG_GROUP,
            logStreamNamePrefix=names.log_stream_prefix(handle.name),
            orderBy="LogStreamName",
            **more,
        )
        yield from (StreamName.of(str(each["logStreamName"])) for each in answer.get("logStreams", ()))
        if not (token := answer.get("nextToken")):
            return
        more = {"nextToken": token}


def _last_of(client: Any, streams: list[StreamName], count: int) -> tuple[str, ...]:
    """Return the last lines of an instance: of its newest stream that has any."""
    return next((log for each in reversed(streams[-_OLDER:]) if (log := _tail(client, each.name, count))), ())


def _tail(client: Any, stream: str, count: int) -> tuple[str, ...]:
    answer = client.get_log_events(
        logGroupName=names.LOG_GROUP, logStreamName=stream, startFromHead=False, limit=min(count, 10_000)
    )
    return tuple(str(each.get("message", "")).rstrip("\n") for each in answer.get("events", ()))[-count:]
