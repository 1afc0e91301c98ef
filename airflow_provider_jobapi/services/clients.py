# SPDX-License-Identifier: Apache-2.0
"""The protocols of the clients of Kubernetes and of AWS that a hook makes and hands in to its service.

:mod:`airflow_provider_jobapi.hooks.clients` makes them of the hooks of the providers cncf-kubernetes and amazon, so a
service knows no Airflow connection. Nothing is imported, and no request made, before a method is called. A worker calls
the synchronous methods, a triggerer the others, in its event loop.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol


class Kubernetes(Protocol):
    """A cluster, as the user of the connection.

    :ivar namespace: The namespace of the Kubernetes connection; None where it names none.
    """

    namespace: str | None

    def api(self) -> Any:
        """Return a new ``kubernetes.client.ApiClient``, which the caller closes.

        :raises ConnectionProblem: when the connection cannot be used.
        """

    def async_api(self) -> AbstractAsyncContextManager[Any]:
        """Open a ``kubernetes_asyncio.client.ApiClient``, which all users of the connection in an event loop share.

        Its requests have a default ``_request_timeout`` of 60 seconds, which also ends a watch: pass one.
        """


@dataclass(frozen=True, slots=True)
class AwsKeys:
    """Credentials of AWS.

    :ivar token: The session token of temporary credentials.
    """

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


class Aws(Protocol):
    """AWS in one region, as the user of the connection."""

    def endpoint(self, service: str) -> str:
        """Return the address that the connection sets for a service such as ``s3``; empty for AWS's own."""

    def verify(self) -> bool | str:
        """Return whether certificates are checked, or the PEM file of the authorities to trust."""

    def keys(self) -> AwsKeys | None:
        """Return the credentials as they are now; None where there are none. May ask AWS for them."""

    def client(self, service: str) -> Any:
        """Return a botocore client of a service such as ``s3`` or ``logs``."""

    def async_client(self, service: str) -> AbstractAsyncContextManager[Any]:
        """Open an aiobotocore client of a service, which all users of the connection in an event loop share.

        :raises ConnectionProblem: when aiobotocore is not installed.
        """
