# SPDX-License-Identifier: Apache-2.0
"""Follow one job from the triggerer by the status of its object."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from airflow_provider_jobapi.services import retry
from airflow_provider_jobapi.services.answer import clock_skew
from airflow_provider_jobapi.services.base import Handle
from airflow_provider_jobapi.services.sagemaker_ack import names, status
from airflow_provider_jobapi.services.sagemaker_ack.clients import Clients
from airflow_provider_jobapi.services.sagemaker_ack.connection import SageMakerConnection
from airflow_provider_jobapi.services.sagemaker_ack.errors import ObjectMissing, error_of_kubernetes
from airflow_provider_jobapi.services.sagemaker_ack.handles import JobHandle
from airflow_provider_jobapi.services.sagemaker_ack.objects import REQUEST_TIMEOUT, Seen, place
from airflow_provider_jobapi.training.logs import LogChunk
from airflow_provider_jobapi.training.status import JobStatus


class SageMakerAckFollower:
    """Follows one job; see :class:`~airflow_provider_jobapi.services.base.LogFollower`."""

    replayable = True

    def __init__(self, connection: SageMakerConnection, clients: Clients, handle: Handle) -> None:
        self._connection = connection
        self._clients = clients
        self._handle = JobHandle.of(handle)
        self._due = 0.0

    async def __aenter__(self) -> Self:
        """Return the follower."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing."""

    async def read(self, cursor: Any) -> LogChunk:
        """Wait until the next poll is due, and return the state."""
        await retry.sleep_async(self._due - time.monotonic())
        self._due = time.monotonic() + self._connection.poll_interval
        state = (await self.status()).status
        return LogChunk((), cursor, state, state.ended)

    async def status(self) -> JobStatus:
        """Return the state of the job."""
        seen = await self._send("read the job's object", "get")
        read = status.read(seen.object, now=seen.now, accept_timeout=self._connection.accept_timeout)
        return read.status.model_copy(update={"job_id": self._handle.job_id})

    async def stop(self) -> None:
        """Delete the object, by which ACK stops the job; no error if it has ended or is gone."""
        try:
            if not (await self.status()).status.ended:
                await self._send("delete the job's object", "delete")
        except ObjectMissing:
            pass

    async def _send(self, subject: str, verb: str) -> Seen:
        from kubernetes_asyncio.client import CustomObjectsApi

        arguments = {**place(self._handle.namespace), "name": names.object_name(self._handle.job_id)}
        async with self._clients.kubernetes.async_api() as api:
            try:
                asked = datetime.now(UTC)
                method = getattr(CustomObjectsApi(api), f"{verb}_namespaced_custom_object_with_http_info")
                content, _, headers = await method(**arguments, _request_timeout=REQUEST_TIMEOUT)
            except Exception as error:  # noqa: BLE001 -- whatever the client raises is translated
                raise error_of_kubernetes(error, subject) from None
        named = {str(name).lower(): str(value) for name, value in dict(headers or {}).items()}
        return Seen(content, clock_skew(named, asked + (datetime.now(UTC) - asked) / 2))
