# SPDX-License-Identifier: Apache-2.0
"""The model registry of an MLflow server, by its REST API: no package of MLflow is needed."""
