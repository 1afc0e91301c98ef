# SPDX-License-Identifier: Apache-2.0
"""Create, read and delete the ``TrainingJob`` objects of a namespace, from a worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_jobapi.services.answer import clock_skew
from airflow_provider_jobapi.services.clients import Kubernetes
from airflow_provider_jobapi.services.sagemaker_ack import names
from airflow_provider_jobapi.services.sagemaker_ack.errors import error_of_kubernetes

REQUEST_TIMEOUT = 30.0
"""Seconds without an answer after which a request of a worker fails, and is repeated."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An object as the API server sent it.

    :ivar skew: The local clock minus the API server's; zero where it did not say its time.
    """

    object: Mapping[str, Any]
    skew: timedelta

    @property
    def now(self) -> datetime:
        """The time by the clock of the API server."""
        return datetime.now(UTC) - self.skew

    @property
    def version(self) -> str:
        """The resource version, from which a watch goes on."""
        return str(self.object.get("metadata", {}).get("resourceVersion", ""))


def place(namespace: str) -> dict[str, str]:
    """Return the arguments that all requests of ``CustomObjectsApi`` share, in kubernetes and kubernetes_asyncio."""
    return {"group": names.GROUP, "version": names.VERSION, "namespace": namespace, "plural": names.PLURAL}


def seen_of(content: object, headers: Any, asked: datetime) -> Seen:
    """Return what an answer of the API server says, in kubernetes and kubernetes_asyncio.

    :param asked: When the request was sent, by the local clock.
    """
    at = asked + (datetime.now(UTC) - asked) / 2
    named = {str(name).lower(): str(value) for name, value in dict(headers or {}).items()}
    return Seen(content if isinstance(content, Mapping) else {}, clock_skew(named, at))


class TrainingJobs:
    """The objects of a cluster.

    :param timeout: Seconds without an answer after which a request fails.
    """

    def __init__(self, kubernetes: Kubernetes, *, timeout: float = REQUEST_TIMEOUT) -> None:
        self._kubernetes = kubernetes
        self._timeout = timeout
        self._api: Any = None

    def create(self, namespace: str, body: Mapping[str, Any], *, dry_run: bool = False) -> Seen:
        """Create an object; returns it as it is stored, without fields that the cluster does not know.

        :param dry_run: Only check it.
        :raises ObjectExists: when there is one of this name.
        :raises InvalidJob: when it does not fit the schema of the cluster.
        """
        more = {"dry_run": "All"} if dry_run else {}
        return self._send("create the job's object", "create", namespace, body=body, **more)

    def get(self, namespace: str, name: str) -> Seen:
        """Read an object.

        :raises ObjectMissing: when there is none.
        """
        return self._send("read the job's object", "get", namespace, name=name)

    def delete(self, namespace: str, name: str) -> None:
        """Delete an object, by which its controller stops the job. It goes when the job has ended.

        :raises ObjectMissing: when there is none.
        """
        self._send("delete the job's object", "delete", namespace, name=name)

    def list_names(self, namespace: str) -> list[str]:
        """List the names of at most one object, to see whether that is allowed."""
        seen = self._send("list the objects of jobs", "list", namespace, limit=1)
        return [str(each.get("metadata", {}).get("name", "")) for each in seen.object.get("items", ())]

    def watch_briefly(self, namespace: str) -> None:
        """Open a watch of at most a second, to see whether that is allowed."""
        more = {"watch": True, "timeout_seconds": 1}
        self._send("watch the objects of jobs", "list", namespace, **more)

    def host(self) -> str:
        """Return the address of the API server."""
        return str(self._client().configuration.host)

    def server_version(self) -> str:
        """Return the version of the API server, such as ``v1.34.1``; everybody may ask for it."""
        from kubernetes.client import VersionApi

        try:
            return str(VersionApi(self._client()).get_code(_request_timeout=self._timeout).git_version)
        except Exception as error:  # noqa: BLE001 -- whatever the client raises is translated
            raise error_of_kubernetes(error, "tell its version") from None

    def close(self) -> None:
        """Close the connections to the API server."""
        if self._api is not None:
            self._api.close()
            self._api = None

    def _send(self, subject: str, verb: str, namespace: str, **arguments: Any) -> Seen:
        try:
            asked = datetime.now(UTC)
            method = self._method(f"{verb}_namespaced_custom_object_with_http_info")
            content, _, headers = method(**place(namespace), **arguments, _request_timeout=self._timeout)
        except Exception as error:  # noqa: BLE001 -- whatever the client raises is translated
            raise error_of_kubernetes(error, subject) from None
        return seen_of(content, headers, asked)

    def _method(self, name: str) -> Callable[..., Any]:
        from kubernetes.client import CustomObjectsApi

        method: Callable[..., Any] = getattr(CustomObjectsApi(self._client()), name)
        return method

    def _client(self) -> Any:
        if self._api is None:
            self._api = self._kubernetes.api()
        return self._api
