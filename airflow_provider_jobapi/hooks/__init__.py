# SPDX-License-Identifier: Apache-2.0
"""From an Airflow connection to a service; one hook a connection type."""
