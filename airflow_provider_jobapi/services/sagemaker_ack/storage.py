# SPDX-License-Identifier: Apache-2.0
"""The buckets of S3 that jobs use, reached with the credentials of the AWS connection."""

from __future__ import annotations

import re

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services import settings
from airflow_provider_jobapi.services.clients import Aws
from airflow_provider_jobapi.services.files.stores import S3Access, S3Store
from airflow_provider_jobapi.services.sagemaker_ack.errors import NoCredentials

_ADVICE = "check the connection's bucket and region, and what the user of aws_conn_id may do with the bucket"


def store_of(aws: Aws, bucket: str, region: str) -> S3Store:
    """Return a bucket.

    :raises NoCredentials: when there are none.
    """

    def keys() -> tuple[str, str, str | None]:
        found = aws.keys()
        if found is None:
            raise NoCredentials(
                f"There are no credentials of AWS for the bucket {bucket}: set aws_conn_id in the connection, or give "
                "this machine a role."
            )
        return found.access_key, found.secret_key, found.token

    access_key, secret_key, token = keys()
    url, verify = aws.endpoint("s3").rstrip("/"), aws.verify()
    return S3Store(
        S3Access(
            url=url,
            bucket=bucket,
            access_key=access_key,
            secret_key=secret_key,
            session_token=token,
            region=region,
            verify=verify is not False,
            roots=settings.authorities(verify) if isinstance(verify, str) else None,
            proxy=settings.environment_proxy(url or f"https://s3.{region}.amazonaws.com"),
            refresh=keys,
            keys_from="the AWS connection",
            advice=_ADVICE,
        )
    )


def bucket_and_key(url: str) -> tuple[str, str]:
    """Return bucket and key of an ``s3://`` URL; the key may be empty.

    :raises BrokenContract: when it is not one.
    """
    found = re.fullmatch(r"s3://([^/]+)(?:/(.*))?", url)
    if found is None:
        raise BrokenContract(f"SageMaker names {url[:200]!r} as the place of a job's files, which is not in S3.")
    return found[1], found[2] or ""
