# SPDX-License-Identifier: Apache-2.0
"""Train models on a job service from Airflow, watch them live, and get the SavedModel back."""

__version__ = "0.1.0"
