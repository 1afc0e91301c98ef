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
    "masked_secrets",
]


def masked_secrets() -> frozenset[str]:
    """Return the values that Airflow hides in the logs of this process."""
    try:
        from airflow.sdk._shared.secrets_masker import _secrets_masker
    except ImportError:  # before 3.2
        from airflow.sdk.execution_time.secrets_masker import _secrets_masker  # type: ignore[no-redef]

    return frozenset(re.sub(r"\\(.)", r"\1", each, flags=re.DOTALL) for each in _secrets_masker().patterns)
