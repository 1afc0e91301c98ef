# SPDX-License-Identifier: Apache-2.0
"""What the tests start for real: Airflow and the jobAPI server."""
