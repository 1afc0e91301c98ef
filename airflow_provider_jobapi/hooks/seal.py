# SPDX-License-Identifier: Apache-2.0
"""The keys under which the secrets of a job are sealed between worker and triggerer.

Airflow stores the arguments of a deferred trigger in clear. Two keys open a seal: Airflow's own Fernet key, where
worker and triggerer have it, and one made of the connection's secret. So a seal survives the change of either.
"""

from __future__ import annotations

import asyncio
import binascii
from base64 import urlsafe_b64decode

from airflow.sdk import BaseHook, Connection

from airflow_provider_jobapi._airflow import conf
from airflow_provider_jobapi.hooks.base import TrainingHook
from airflow_provider_jobapi.training.sealing import SealKey, seal, unseal

_FERNET_BYTES = 32


def seal_secrets(values: tuple[str, ...], conn_id: str) -> str:
    """Seal secrets on a worker."""
    return seal(values, [*airflow_keys(), *_connection_keys(BaseHook.get_connection(conn_id))])


def open_seal(sealed: str, conn_id: str) -> tuple[str, ...] | None:
    """Open a seal on a worker; None where no key opens it any more."""
    values = unseal(sealed, airflow_keys())
    return values if values is not None else unseal(sealed, _connection_keys(BaseHook.get_connection(conn_id)))


async def async_open_seal(sealed: str, conn_id: str) -> tuple[str, ...] | None:
    """As :func:`open_seal`, without blocking the event loop: a key made of a password takes its time."""
    values = await asyncio.to_thread(unseal, sealed, airflow_keys())
    if values is not None:
        return values
    connection = await BaseHook.aget_connection(conn_id)
    return await asyncio.to_thread(lambda: unseal(sealed, _connection_keys(connection)))


def airflow_keys() -> tuple[SealKey, ...]:
    """The Fernet keys of Airflow's configuration, the current one first; none where it has none."""
    keys = []
    for text in (conf.get("core", "fernet_key", fallback="") or "").split(","):
        try:
            key = urlsafe_b64decode(text.strip())
        except (binascii.Error, ValueError):  # Airflow's default is a placeholder until a file was written
            continue
        if len(key) == _FERNET_BYTES:
            keys.append(SealKey("airflow", key, random=True))
    return tuple(keys)


def _connection_keys(connection: Connection) -> tuple[SealKey, ...]:
    from airflow_provider_jobapi.hooks.discovery import hook_class_for

    hook: type[TrainingHook] = hook_class_for(connection.conn_type, str(connection.conn_id))
    secret = hook.seal_secret(connection)
    return (SealKey("connection", secret.encode()),) if secret else ()
