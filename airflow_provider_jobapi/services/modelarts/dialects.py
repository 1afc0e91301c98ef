# SPDX-License-Identifier: Apache-2.0
"""Select the dialect of a connection or of a job's handle."""

from __future__ import annotations

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.base import Handle
from airflow_provider_jobapi.services.modelarts.dialect_base import Dialect, ModelArtsKey
from airflow_provider_jobapi.services.modelarts.dialect_v1 import V1
from airflow_provider_jobapi.services.modelarts.dialect_v2 import V2

_DIALECTS: dict[str, type[V1 | V2]] = {"v1": V1, "v2": V2}


def dialect_of(name: str) -> Dialect:
    """Return the dialect with this name.

    :raises BrokenContract: if there is none.
    """
    if name not in _DIALECTS:
        raise BrokenContract(f"ModelArts has no dialect {name[:20]!r}; expected v1 or v2.")
    return _DIALECTS[name]()


def read_handle(handle: Handle) -> tuple[Dialect, ModelArtsKey]:
    """Return the dialect in which a job was created, which may not be the connection's any more, and its keys.

    :raises BrokenContract: if it is not a handle of ModelArts.
    """
    version = str(handle.get("version_id") or "") if isinstance(handle, dict) else ""
    return dialect_of(handle_text(handle, "dialect")), ModelArtsKey(handle_text(handle, "modelarts_id"), version)


def handle_text(handle: Handle, name: str) -> str:
    """Return a string that each handle of ModelArts has.

    :raises BrokenContract: if this one does not.
    """
    value = handle.get(name) if isinstance(handle, dict) else None
    if not isinstance(value, str) or not value:
        raise BrokenContract(f"{handle!r} is not a handle of ModelArts: it has no {name}.")
    return value
