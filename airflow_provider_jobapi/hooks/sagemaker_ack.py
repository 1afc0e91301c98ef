# SPDX-License-Identifier: Apache-2.0
"""The hook of the connection type ``sagemaker_ack``."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from airflow_provider_jobapi.hooks.base import TrainingHook, read_connection, summary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Connection

    from airflow_provider_jobapi.services.base import Handle
    from airflow_provider_jobapi.services.sagemaker_ack.connection import SageMakerConnection
    from airflow_provider_jobapi.services.sagemaker_ack.service import SageMakerAckService

_EXTRA = "sagemaker"


class SageMakerAckHook(TrainingHook):
    """Run jobs on Amazon SageMaker, through the ACK controller of a Kubernetes cluster. The fields of its connection
    are described in :class:`~airflow_provider_jobapi.services.sagemaker_ack.connection.SageMakerConnection`.

    :param conn_id: The id of a connection of the type ``sagemaker_ack``.
    """

    conn_type = "sagemaker_ack"
    hook_name = "SageMaker (ACK)"
    default_conn_name = "sagemaker_default"

    @classmethod
    def settings_class(cls) -> type[SageMakerConnection]:
        """The model of the connection's fields."""
        from airflow_provider_jobapi.services.sagemaker_ack.connection import SageMakerConnection

        return SageMakerConnection

    @classmethod
    def other_connections(cls, connection: Connection) -> Mapping[str, str]:
        """Name the connections of Kubernetes and of AWS, where the connection has them."""
        settings = read_connection(cls.settings_class(), connection)
        named = {"kubernetes": settings.kubernetes_conn_id, "aws": settings.aws_conn_id}
        return {role: conn_id for role, conn_id in named.items() if conn_id}

    @classmethod
    def seal_secret(cls, connection: Connection) -> str | None:  # noqa: ARG003 -- it has none
        """Return None: the connection has no secret of its own, so Airflow's Fernet key alone hides those of jobs."""
        return None

    @classmethod
    def build(
        cls, connection: Connection, patience: float | None = None, others: Mapping[str, Connection] | None = None
    ) -> SageMakerAckService:
        """Make the service from the connection.

        :param patience: Seconds for which each request is retried while the service cannot be reached.
        :param others: The connections ``kubernetes`` and ``aws``, where :meth:`other_connections` names them.
        :raises ConnectionProblem: naming the field that is wrong.
        """
        from airflow.sdk.log import mask_secret

        from airflow_provider_jobapi._airflow import masked_secrets
        from airflow_provider_jobapi.hooks.clients import AwsOfHook, KubernetesOfHook, other_of
        from airflow_provider_jobapi.services.retry import Retry
        from airflow_provider_jobapi.services.sagemaker_ack.clients import Clients
        from airflow_provider_jobapi.services.sagemaker_ack.service import SageMakerAckService

        settings = read_connection(cls.settings_class(), connection)
        clients = Clients(
            KubernetesOfHook(other_of(others, "kubernetes"), _EXTRA),
            AwsOfHook(other_of(others, "aws"), settings.region, _EXTRA, mask_secret),
        )
        retry = None if patience is None else Retry.lasting(patience)
        return SageMakerAckService(settings, clients, secrets=masked_secrets, retry=retry)

    def get_conn(self) -> SageMakerAckService:
        """The service, which holds the clients."""
        return cast("SageMakerAckService", self.service)

    def delete(self, handle: Handle) -> None:
        """Delete the object of a job from Kubernetes; one that is gone is no error. SageMaker keeps the job for ever.

        :raises JobConflict: when the job has not ended.
        """
        self.get_conn().delete(handle)

    def test_connection(self) -> tuple[bool, str]:
        """Check cluster, CRD, permissions, AWS and bucket; one line for each."""
        from airflow_provider_jobapi.services.sagemaker_ack.checks import check

        return summary(lambda: check(self.get_conn()))
