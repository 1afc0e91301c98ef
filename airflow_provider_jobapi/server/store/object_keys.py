# SPDX-License-Identifier: Apache-2.0
"""The keys of objects."""

from __future__ import annotations

from airflow_provider_jobapi.server.errors import InvalidObjectKey
from airflow_provider_jobapi.training.job_file import check_path


def check_key(key: str) -> str:
    """Check the key of an object. It is a relative path, so that every client can download it as a file.

    :raises InvalidObjectKey: when it is not.
    """
    try:
        check_path(key)
        if any(len(part.encode()) > 255 for part in key.split("/")):
            raise ValueError(key)
    except ValueError:
        raise InvalidObjectKey(
            f"An object cannot have the key {key[:200]!r}: it is a relative path of at most 1,024 bytes, and 255 "
            "between slashes, without '..', empty parts, backslashes and control characters.",
        ) from None
    return key
