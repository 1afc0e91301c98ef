# SPDX-License-Identifier: Apache-2.0
"""Clients of Kubernetes and of AWS, made of the hooks of the providers cncf-kubernetes and amazon, for services to use.

Such a hook reads its connection by itself, which a triggerer cannot do in its event loop. So the connection is read
before, and given to the hook. Nothing is imported before a client is asked for: the providers take a second.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi.exceptions import ConnectionProblem, TrainingError
from airflow_provider_jobapi.services.clients import AwsKeys
from airflow_provider_jobapi.services.shared import shared

if TYPE_CHECKING:
    from airflow.sdk import Connection

_KUBERNETES_HOOKS = "airflow.providers.cncf.kubernetes.hooks.kubernetes"
_AWS_HOOKS = "airflow.providers.amazon.aws.hooks.base_aws"
_CONFIGURATIONS = ("in_cluster", "kube_config_path", "kube_config")
"""The keys of a Kubernetes connection's extra that say where the cluster is."""
_UNVERIFIED = "disable_verify_ssl"
"""The key that says that the cluster's certificate is not checked."""

RENEW_SECONDS = 300.0
"""Seconds after which the credentials of a cluster are read again. The tokens of EKS last for 15 minutes."""
REJOIN_SECONDS = 10.0
"""The same where a user comes to a client that others use already: a token that is refused may have been replaced."""

CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 20.0
"""Seconds for a connection to AWS and for an answer, unless the connection's ``config_kwargs`` say otherwise. botocore
waits a minute for each, five times, which a person at the Test button or a task that fails should not."""


class KubernetesOfHook:
    """A cluster; see :class:`~airflow_provider_jobapi.services.clients.Kubernetes`.

    :param connection: A connection of the type ``kubernetes``; None for the cluster that this process runs in, else the
        kubeconfig of this machine.
    :param extra: The extra that provides this provider, for the error of one that is missing.
    """

    def __init__(self, connection: Connection | None, extra: str) -> None:
        self._extras = dict(connection.extra_dejson) if connection is not None else {}
        self._conn_id = None if connection is None else connection.conn_id
        self._extra = extra
        self.namespace: str | None = self._field("namespace")
        # The synchronous hook turns it off for all clusters of the process, the asynchronous one does not know it.
        self._verify = str(self._field(_UNVERIFIED)).strip().lower() not in {"true", "1"}
        for name in (_UNVERIFIED, f"extra__kubernetes__{_UNVERIFIED}"):
            self._extras.pop(name, None)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(namespace={self.namespace!r})"

    def api(self) -> Any:
        """Return a new ``kubernetes.client.ApiClient``."""
        hooks = _imported(_KUBERNETES_HOOKS, self._extra)
        configuration = None
        if not self._field("in_cluster"):  # there the hook takes the process's default, and no other
            # Its own, since the hook would set the default of the process for all clusters.
            configuration = import_module("kubernetes.client").Configuration()
        hook = hooks.KubernetesHook(kubernetes_conn_id=None, client_configuration=configuration)
        hook.conn_extras = self._extras
        try:
            api = hook.get_conn()
        except Exception as error:  # noqa: BLE001 -- a kubeconfig can be wrong in many ways
            raise self._problem(error) from None
        # Before 10.17 the hook reads the kubeconfig into our configuration, and makes its client of the default one.
        meant = api.configuration if configuration is None else configuration
        if self._verify and api.configuration is meant:
            return api
        meant.verify_ssl = meant.verify_ssl and self._verify
        return type(api)(configuration=meant)

    @asynccontextmanager
    async def async_api(self) -> AsyncIterator[Any]:
        """Use the ``kubernetes_asyncio.client.ApiClient`` of this connection and event loop."""
        key = "kubernetes", self._verify, json.dumps(self._extras, sort_keys=True, default=str)
        async with shared(key, self._lasting_api) as (api, renewal):
            await renewal.renew(REJOIN_SECONDS)  # its user may be back because the credentials were refused
            yield api

    @asynccontextmanager
    async def _lasting_api(self) -> AsyncIterator[tuple[Any, _Renewal]]:
        """Open a client for all users, with connections for all their watches and credentials that are renewed."""
        async with self._new_api() as first:
            configuration = first.configuration
            configuration.verify_ssl = configuration.verify_ssl and self._verify
            configuration.connection_pool_maxsize = max(100, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
            renewal = _Renewal(self._new_api, configuration)
            if configuration.refresh_api_key_hook is None:  # in a cluster, the client reads its token again by itself
                configuration.refresh_api_key_hook = renewal
            async with type(first)(configuration=configuration) as api:
                try:
                    yield api, renewal
                finally:
                    await renewal.close()

    @asynccontextmanager
    async def _new_api(self) -> AsyncIterator[Any]:
        """Open a client as the hook makes it."""
        hooks = await asyncio.to_thread(_imported, _KUBERNETES_HOOKS, self._extra)
        # The asynchronous hook does not look for the cluster that it runs in, unlike the other one.
        inside = True if not self._named() and os.environ.get("KUBERNETES_SERVICE_HOST") else None
        hook = hooks.AsyncKubernetesHook(
            kubernetes_conn_id=None, connection_extras=dict(self._extras), in_cluster=inside
        )
        opening = hook.get_conn()
        try:
            api = await opening.__aenter__()
        except Exception as error:  # noqa: BLE001 -- a kubeconfig can be wrong in many ways
            raise self._problem(error) from None
        try:
            yield api
        finally:
            await opening.__aexit__(None, None, None)

    def _problem(self, error: Exception) -> TrainingError:
        """Make the error of a client that cannot be made; where nothing names a cluster, it says what can."""
        if self._named():
            return _problem(error, "Kubernetes")
        lacking = (
            "No connection of the type kubernetes is named"
            if self._conn_id is None
            else (f"Connection {self._conn_id} has none of {', '.join(_CONFIGURATIONS)}")
        )
        return ConnectionProblem(
            f"{lacking}, and this machine is in no cluster and has no kubeconfig that can be used "
            f"({type(error).__name__}): {error} Name a connection with one of {', '.join(_CONFIGURATIONS)}."
        )

    def _named(self) -> bool:
        return any(self._field(name) for name in _CONFIGURATIONS)

    def _field(self, name: str) -> Any:
        return self._extras.get(name, self._extras.get(f"extra__kubernetes__{name}")) or None


class AwsOfHook:
    """AWS in one region; see :class:`~airflow_provider_jobapi.services.clients.Aws`.

    :param connection: A connection of the type ``aws``; None for the credentials of this machine.
    :param extra: As for :class:`KubernetesOfHook`.
    :param mask: Receives each secret, so that logs can hide it.
    """

    def __init__(self, connection: Connection | None, region: str, extra: str, mask: Callable[[str], None]) -> None:
        self._connection = connection
        self._region = region
        self._extra = extra
        self._mask = mask
        self._config: Any = None
        self._credentials: Any = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._region!r})"

    def endpoint(self, service: str) -> str:
        """Return the address that the connection sets for a service; empty for AWS's own."""
        found = self._hook(service).conn_config.get_service_endpoint_url(service)
        return found if isinstance(found, str) else ""

    def verify(self) -> bool | str:
        """Return whether certificates are checked, or the PEM file of the authorities to trust."""
        found = self._hook("s3").verify
        return found if isinstance(found, str) else found is not False

    def keys(self) -> AwsKeys | None:
        """Return the credentials as they are now; None where there are none."""
        if self._credentials is None:
            self._credentials = _made(
                lambda: self._hook("s3").get_session(region_name=self._region).get_credentials(), "AWS"
            )
        if self._credentials is None:
            return None
        frozen = _made(self._credentials.get_frozen_credentials, "AWS")  # which renews them where they expire
        for secret in (frozen.secret_key, frozen.token):
            if secret:
                self._mask(secret)
        return AwsKeys(frozen.access_key, frozen.secret_key, frozen.token or None)

    def client(self, service: str) -> Any:
        """Return a botocore client of a service."""
        hook = self._hook(service)

        def make() -> Any:
            config = import_module("botocore.config").Config(
                connect_timeout=CONNECT_SECONDS, read_timeout=ANSWER_SECONDS, retries={"total_max_attempts": 2}
            )
            return hook.get_client_type(region_name=self._region, config=config.merge(hook.config))

        return _made(make, "AWS")

    @asynccontextmanager
    async def async_client(self, service: str) -> AsyncIterator[Any]:
        """Use the aiobotocore client of a service, of this connection and event loop."""
        given = self._connection
        who = None if given is None else (given.login, given.password, json.dumps(given.extra_dejson, sort_keys=True))
        async with shared(("aws", service, self._region, who), lambda: self._new_client(service)) as client:
            yield client

    @asynccontextmanager
    async def _new_client(self, service: str) -> AsyncIterator[Any]:
        hook = await asyncio.to_thread(self._hook, service)
        try:
            client = await hook.get_async_conn()
        except Exception as error:  # noqa: BLE001 -- a connection can be wrong in many ways
            raise _problem(error, "AWS") from None
        async with client as opened:
            yield opened

    def _hook(self, service: str) -> Any:
        hooks = _imported(_AWS_HOOKS, self._extra)
        hook = hooks.AwsGenericHook(aws_conn_id=None, client_type=service, region_name=self._region)
        if self._config is None:  # once, since it logs where its credentials are from
            self._config = hooks.AwsConnectionWrapper(conn=self._connection, region_name=self._region)
        hook.conn_config = self._config
        return hook


class _Renewal:
    """Renews the credentials of a cluster, beside its requests: the ``refresh_api_key_hook`` of a configuration.

    A kubeconfig may get its token from a program, as that of EKS does, for 15 minutes. kubernetes_asyncio gets it once.

    :param make: Opens a client with credentials as they are now.
    """

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[Any]], configuration: Any) -> None:
        self._make = make
        self._configuration = configuration
        self._at = time.monotonic()
        self._one_at_a_time = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def __call__(self, _: Any) -> None:
        """Begin to renew the credentials, where they are old."""
        if time.monotonic() - self._at > RENEW_SECONDS and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self.renew(RENEW_SECONDS))

    async def renew(self, age: float) -> None:
        """Renew the credentials, unless they are younger. Where that fails, the cluster says what is wrong with them.

        :param age: Seconds.
        """
        async with self._one_at_a_time:
            if time.monotonic() - self._at < age:
                return
            self._at = time.monotonic()
            with suppress(TrainingError):
                async with self._make() as fresh:
                    self._configuration.api_key = dict(fresh.configuration.api_key)

    async def close(self) -> None:
        """Give up a renewal that goes on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))


def other_of(others: Mapping[str, Connection] | None, role: str, conn_type: str | None = None) -> Connection | None:
    """Return one of the other connections that a hook was given; None where its connection names none.

    :param conn_type: The type that it must have, unless it has none, as Airflow's hooks take it; by default the role.
        The hook of another provider would ignore what a connection of another type says, and use what it finds on the
        machine, or send that connection's password as a key.
    :raises ConnectionProblem: when it has another type.
    """
    wanted = conn_type or role
    found = (others or {}).get(role)
    if found is not None and found.conn_type and found.conn_type != wanted:
        raise ConnectionProblem(
            f"Connection {found.conn_id} has type {found.conn_type!r}, and is named as a connection for {role}: name "
            f"one of the type {wanted!r}."
        )
    return found


def _imported(module: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ConnectionProblem(
            f"{error.name or module} is not installed, which this connection needs: install "
            f"airflow-provider-jobapi[{extra}] on workers and triggerers."
        ) from None


def _made(make: Callable[[], Any], what: str) -> Any:
    try:
        return make()
    except Exception as error:  # noqa: BLE001 -- a connection can be wrong in many ways
        raise _problem(error, what) from None


def _problem(error: Exception, what: str) -> TrainingError:
    if isinstance(error, TrainingError):
        return error
    return ConnectionProblem(f"The connection to {what} cannot be used ({type(error).__name__}): {error}")
