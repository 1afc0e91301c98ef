# SPDX-License-Identifier: Apache-2.0
"""The names that moved between Airflow 3.1 and 3.3."""

from __future__ import annotations

import re

try:
    from airflow.sdk import conf
    from airflow.sdk.exceptions import (
        AirflowFailException,
        AirflowNotFoundException,
        AirflowSensorTimeout,
        AirflowSkipException,
        AirflowTaskTimeout,
    )
except ImportError:  # before 3.2
    from airflow.configuration import conf  # type: ignore[assignment]
    from airflow.exceptions import (  # type: ignore[no-redef,attr-defined]
        AirflowFailException,
        AirflowNotFoundException,
        AirflowSensorTimeout,
        AirflowSkipException,
        AirflowTaskTimeout,
    )

__all__ = [
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "conf",
    "is_secret_name",
    "masked_secrets",
]


def masked_secrets() -> frozenset[str]:
    """Return the values that Airflow hides in the logs of this process."""
    try:
        from airflow.sdk._shared.secrets_masker import _secrets_masker
    except ImportError:  # before 3.2
        from airflow.sdk.execution_time.secrets_masker import _secrets_masker  # type: ignore[no-redef]

    return frozenset(re.sub(r"\\(.)", r"\1", each, flags=re.DOTALL) for each in _secrets_masker().patterns)


def is_secret_name(name: str) -> bool:
    """Return whether Airflow hides values under this name, such as ``api_token``."""
    try:
        from airflow.sdk._shared.secrets_masker import should_hide_value_for_key
    except ImportError:  # before 3.2
        from airflow.sdk.execution_time.secrets_masker import should_hide_value_for_key  # type: ignore[no-redef]

    return bool(should_hide_value_for_key(name))  # type: ignore[no-untyped-call]
