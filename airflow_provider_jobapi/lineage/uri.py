# SPDX-License-Identifier: Apache-2.0
"""The URIs of models: ``jobapi://<connection>/<job name>`` on the service, and a directory's own URI once fetched.

The names of the functions are Airflow's: ``asset-uris`` of :mod:`~airflow_provider_jobapi.get_provider_info` registers
them. A DAG that names such an asset imports this module while it is parsed, so it imports next to nothing itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    from airflow.sdk import Asset

SCHEME = "jobapi"


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Check the URI of a model on a service, whichever run of the job trained it.

    :param uri: Its parts; Airflow has removed a slash at the end and a fragment.
    :raises ValueError: when it names no model, or tells anything else.
    """
    named = re.fullmatch(r"/[A-Za-z0-9][A-Za-z0-9._-]{0,99}", uri.path)
    if not (re.fullmatch(r"[\w.-]{1,200}", uri.netloc) and named) or uri.query:
        raise ValueError(
            f"The asset URI {uri.geturl()!r} names no model: it is {SCHEME}://<connection id>/<job name>, such as "
            f"{SCHEME}://jobapi_default/digits."
        )
    return uri


def create_asset(*, conn_id: str = "jobapi_default", job_name: str, extra: dict[str, Any] | None = None) -> Asset:
    """The asset of the model that the jobs of one name train.

    :param conn_id: The connection under which they run.
    :param job_name: Their name.
    :raises ValueError: when they cannot be a URI.
    """
    from airflow.sdk import Asset

    return Asset(uri=f"{SCHEME}://{conn_id}/{job_name}", extra=extra)


def convert_asset_to_openlineage(asset: Asset, lineage_context: Any) -> Any:  # noqa: ARG001 -- Airflow's signature
    """The OpenLineage dataset of such an asset: the namespace is the connection, the name is the job's."""
    from openlineage.client.event_v2 import Dataset

    parts = urlsplit(asset.uri)
    return Dataset(namespace=f"{SCHEME}://{parts.netloc}", name=parts.path.lstrip("/"))
