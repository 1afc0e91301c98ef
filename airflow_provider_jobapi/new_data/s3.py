# SPDX-License-Identifier: Apache-2.0
"""From a connection of the type ``aws`` to a bucket of S3, or of anything that speaks like it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_provider_jobapi.services.files.stores import S3Access


def s3_access(connection: Connection, bucket: str) -> S3Access:
    """How to come to a bucket, in the words of Airflow's Amazon provider.

    :param connection: Login and password are the access key and its secret; without them the environment's or the
        machine's own are used. Its extra may hold ``endpoint_url``, ``region_name``, ``aws_session_token`` and
        ``verify``, the last of which may also be a file of authorities to trust.
    """
    from pathlib import Path

    from airflow_provider_jobapi.services.files.stores import S3Access, endpoint_url

    extra: dict[str, Any] = connection.extra_dejson
    of_s3 = (extra.get("service_config") or {}).get("s3") or {}
    url = of_s3.get("endpoint_url") or extra.get("endpoint_url") or ""
    verify = str(extra.get("verify", True))
    return S3Access(
        url=endpoint_url(url) if url else "",
        bucket=bucket,
        access_key=connection.login or "",
        secret_key=connection.password or "",
        session_token=extra.get("aws_session_token"),
        region=extra.get("region_name") or "us-east-1",
        verify=verify.lower() != "false",
        roots=None if verify.lower() in {"true", "false"} else Path(verify).read_bytes(),
    )
