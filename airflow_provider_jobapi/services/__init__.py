# SPDX-License-Identifier: Apache-2.0
"""The outside world, one room a service. Knows the words of ``training`` and nothing of Airflow."""
