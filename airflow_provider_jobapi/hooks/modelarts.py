# SPDX-License-Identifier: Apache-2.0
"""The hook of the connection type ``modelarts``."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from airflow_provider_jobapi.hooks.base import TrainingHook, read_connection, summary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Connection

    from airflow_provider_jobapi.services.base import Handle
    from airflow_provider_jobapi.services.modelarts.connection import ModelArtsConnection
    from airflow_provider_jobapi.services.modelarts.service import ModelArtsService


class ModelArtsHook(TrainingHook):
    """Run jobs on ModelArts of Huawei Cloud or Open Telekom Cloud. The fields of its connection are described in
    :class:`~airflow_provider_jobapi.services.modelarts.connection.ModelArtsConnection`.

    :param conn_id: The id of a connection of the type ``modelarts``.
    """

    conn_type = "modelarts"
    hook_name = "ModelArts"
    default_conn_name = "modelarts_default"

    @classmethod
    def settings_class(cls) -> type[ModelArtsConnection]:
        """The model of the connection's fields."""
        from airflow_provider_jobapi.services.modelarts.connection import ModelArtsConnection

        return ModelArtsConnection

    @classmethod
    def build(
        cls,
        connection: Connection,
        patience: float | None = None,
        others: Mapping[str, Connection] | None = None,  # noqa: ARG003 -- ModelArts needs one connection
    ) -> ModelArtsService:
        """Make the service from the connection.

        :param patience: Seconds for which each request is retried while the service cannot be reached.
        :raises ConnectionProblem: naming the field that is wrong.
        """
        from airflow.sdk.log import mask_secret

        from airflow_provider_jobapi.services.modelarts.service import ModelArtsService
        from airflow_provider_jobapi.services.retry import Retry

        settings = read_connection(cls.settings_class(), connection)
        mask_secret(settings.obs_secret_key)
        return ModelArtsService(settings, mask=mask_secret, retry=None if patience is None else Retry.lasting(patience))

    def get_conn(self) -> ModelArtsService:
        """The service, which holds the session."""
        return cast("ModelArtsService", self.service)

    def delete(self, handle: Handle) -> None:
        """Delete a job and its log from ModelArts; one that is gone is no error. Its files in OBS are kept.

        :raises JobConflict: when it has not ended.
        """
        self.get_conn().delete(handle)

    def test_connection(self) -> tuple[bool, str]:
        """Check the token, the API and the bucket; one line for each."""
        from airflow.sdk.log import mask_secret

        from airflow_provider_jobapi.services.modelarts.checks import check

        return summary(lambda: check(self.get_conn().connection, mask_secret))
