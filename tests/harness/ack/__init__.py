# SPDX-License-Identifier: Apache-2.0
"""A double of AWS Controllers for Kubernetes (ACK) for SageMaker, and of SageMaker behind it."""

from __future__ import annotations

from pathlib import Path

_DATA = Path(__file__).parent / "data"

CRD = _DATA / "trainingjobs_crd.yaml"
"""ACK's own definition of TrainingJob, of its controller's version 1.9.1."""
SAMPLE = _DATA / "sample_training_job.yaml"
OBSERVED = _DATA / "observed"
"""Objects as the real controller leaves them, from its own tests."""
RBAC = Path(__file__).parents[3] / "docs" / "sagemaker_ack" / "rbac"
"""The rights that the documentation tells users to give to Airflow."""
