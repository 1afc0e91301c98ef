# SPDX-License-Identifier: Apache-2.0
"""Asset URIs of models on their service: ``jobapi://<connection>/<job name>``, whatever the connection's type.

Airflow calls these functions under the names that ``asset-uris`` of :mod:`~airflow_provider_jobapi.get_provider_info`
registers, also while it parses a DAG that names such an asset; so this module imports next to nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    from airflow.sdk import Asset

SCHEME = "jobapi"


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Check the URI of a model on a service.

    :param uri: Its parts; Airflow has removed a slash at the end and a fragment.
    :raises ValueError: when it is not a connection and a job's name.
    """
    named = re.fullmatch(r"/[A-Za-z0-9][A-Za-z0-9._-]{0,99}", uri.path)
    if not (re.fullmatch(r"[\w.-]{1,200}", uri.netloc) and named) or uri.query:
        raise ValueError(
            f"The asset URI {uri.geturl()!r} names no model: it must be {SCHEME}://<connection id>/<job name>, such "
            f"as {SCHEME}://jobapi_default/digits."
        )
    return uri


def create_asset(*, conn_id: str | None = None, job_name: str, extra: dict[str, Any] | None = None) -> Asset:
    """The asset of the model that the jobs of one name train.

    :param conn_id: The connection to the service; by default that of the operators.
    :param job_name: The jobs' name.
    :raises ValueError: when they make no valid URI.
    """
    from airflow.sdk import Asset

    from airflow_provider_jobapi.hooks.base import DEFAULT_CONN_ID

    conn_id = conn_id or DEFAULT_CONN_ID
    return Asset(uri=f"{SCHEME}://{conn_id}/{job_name}", extra=extra)


def convert_asset_to_openlineage(asset: Asset, lineage_context: Any) -> Any:  # noqa: ARG001 -- Airflow's signature
    """The OpenLineage dataset of such an asset: the connection as its namespace, the job's name as its name."""
    from openlineage.client.event_v2 import Dataset

    parts = urlsplit(asset.uri)
    return Dataset(namespace=f"{SCHEME}://{parts.netloc}", name=parts.path.lstrip("/"))
