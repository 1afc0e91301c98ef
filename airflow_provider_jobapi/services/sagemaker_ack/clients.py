# SPDX-License-Identifier: Apache-2.0
"""The clients that the service needs: Kubernetes for its jobs, AWS for their files and logs."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_jobapi.services.clients import Aws, Kubernetes


@dataclass(frozen=True, slots=True)
class Clients:
    """What the service gets from its hook."""

    kubernetes: Kubernetes
    aws: Aws
