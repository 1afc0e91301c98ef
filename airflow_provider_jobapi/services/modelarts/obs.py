# SPDX-License-Identifier: Apache-2.0
"""OBS, where the files of jobs are: an S3 store, reached in the way that the connection says."""

from __future__ import annotations

from airflow_provider_jobapi.services import settings
from airflow_provider_jobapi.services.files.stores import S3Access, S3Store
from airflow_provider_jobapi.services.modelarts.connection import ModelArtsConnection


def store_of(connection: ModelArtsConnection, bucket: str) -> S3Store:
    """A bucket of OBS."""
    return S3Store(
        S3Access(
            url=connection.obs_url,
            bucket=bucket,
            access_key=connection.obs_access_key,
            secret_key=connection.obs_secret_key,
            region=connection.region,
            verify=connection.verify,
            roots=settings.authorities(connection.ca_bundle),
            proxy=connection.proxy_for(connection.obs_url),
            timeout=connection.timeout,
            unsigned=True,
            giver="the connection",
            advice="check the connection's obs_endpoint, obs_access_key, obs_secret_key, bucket and region",
        )
    )
