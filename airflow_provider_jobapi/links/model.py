# SPDX-License-Identifier: Apache-2.0
"""The link to the model that a task trained or fetched."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow.sdk import BaseOperatorLink

from airflow_provider_jobapi.links.training import tab

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

log = logging.getLogger(__name__)

_CONSOLES = {
    "s3": "https://console.aws.amazon.com/s3/buckets/{bucket}?prefix={prefix}/",
    "s3a": "https://console.aws.amazon.com/s3/buckets/{bucket}?prefix={prefix}/",
    "gs": "https://console.cloud.google.com/storage/browser/{bucket}/{prefix}",
    "gcs": "https://console.cloud.google.com/storage/browser/{bucket}/{prefix}",
}
"""The consoles' pages of a folder. Those of Azure's portal cannot be derived from an ``abfs://`` URI."""


def page_of(location: str) -> str | None:
    """The web page that shows a model; None where there is none.

    :param location: The model's location, such as ``s3://connection@bucket/models/7``.
    """
    try:
        parts = urlsplit(location)
        bucket, prefix = parts.netloc.rpartition("@")[2], parts.path.strip("/")
    except ValueError:
        return None
    if parts.scheme in {"http", "https"} and parts.hostname:
        return location
    if parts.scheme not in _CONSOLES or not bucket:
        return None
    return _CONSOLES[parts.scheme].format(bucket=quote(bucket, safe=""), prefix=quote(prefix, safe="/"))


class ModelLink(BaseOperatorLink):
    """Opens the web page that shows the model, or else the Training tab, which shows its location."""

    name = "Model"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 -- Airflow's signature
        """The page's address. Airflow calls this on the worker, each time the worker ends or defers the task."""
        from airflow.sdk.execution_time.xcom import XCom

        try:
            result = XCom.get_value(key="return_value", ti_key=ti_key)
        except Exception as error:  # noqa: BLE001 -- Airflow would log a traceback in a successful task
            log.debug("The task's result cannot be read: %r", error)
            result = None
        location = _location(result)
        page = None if _has_own_endpoint(location) else page_of(location)
        return page or tab(ti_key)


def _has_own_endpoint(location: str) -> bool:
    """Whether a bucket is on another server than AWS, so that the console does not show it."""
    from airflow.sdk import BaseHook

    conn_id = location.partition("://")[2].partition("/")[0].rpartition("@")[0]
    if not conn_id or not location.startswith(("s3://", "s3a://")):
        return False
    try:
        extra = BaseHook.get_connection(conn_id).extra_dejson
    except Exception as error:  # noqa: BLE001 -- the tab shows the model in any case
        log.debug("The connection %s cannot be read: %r", conn_id, error)
        return True
    return "endpoint_url" in str(extra)


def _location(result: Any) -> str:
    """The model's location in the result of a training or of a fetch."""
    model = result.get("model") if isinstance(result, Mapping) else result
    return model if isinstance(model, str) else ""
