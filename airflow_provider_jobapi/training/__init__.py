# SPDX-License-Identifier: Apache-2.0
"""The vocabulary of a training. Pure: no Airflow, no network, no clock of its own."""
