# SPDX-License-Identifier: Apache-2.0
"""``python -m airflow_provider_jobapi.cli`` is ``jobapi``."""

from __future__ import annotations

import sys

from airflow_provider_jobapi.cli import main

if __name__ == "__main__":
    sys.exit(main())
