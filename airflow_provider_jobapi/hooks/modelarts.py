# SPDX-License-Identifier: Apache-2.0
"""The hook of the connection type ``modelarts``."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from airflow_provider_jobapi.exceptions import TrainingError
from airflow_provider_jobapi.hooks.base import TrainingHook

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_provider_jobapi.services.base import Handle
    from airflow_provider_jobapi.services.modelarts.connection import ModelArtsConnection
    from airflow_provider_jobapi.services.modelarts.service import ModelArtsService


class ModelArtsHook(TrainingHook):
    """Talks to ModelArts of Huawei Cloud or Open Telekom Cloud.

    The connection's host is the endpoint of ModelArts, its login and password are the IAM user. Its extra holds
    ``iam_url``, ``domain``, ``project``, ``obs_endpoint``, ``obs_access_key``, ``obs_secret_key`` and ``bucket``, and
    may hold ``region``, ``prefix``, ``dialect`` (v1 or v2), ``engine``, ``workspace_id``, ``poll_interval`` (seconds),
    ``verify``, ``ca_bundle``, ``proxy`` and ``timeout`` (seconds).

    :param conn_id: The connection, of the type ``modelarts``.
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
    def build(cls, connection: Connection, patience: float | None = None) -> ModelArtsService:
        """Make the service from the connection.

        :param patience: Seconds for which each request waits for a service that cannot be reached.
        :raises ConnectionProblem: naming the field that is wrong.
        """
        from airflow.sdk.log import mask_secret

        from airflow_provider_jobapi.services.modelarts.service import ModelArtsService
        from airflow_provider_jobapi.services.retry import Retry

        settings = cls.settings_class().of(
            host=connection.host,
            port=connection.port,
            schema=connection.schema,
            login=connection.login,
            password=connection.password,
            extra=connection.extra_dejson,
        )
        mask_secret(settings.obs_secret_key)
        return ModelArtsService(settings, mask=mask_secret, retry=None if patience is None else Retry.lasting(patience))

    def get_conn(self) -> ModelArtsService:
        """The service, which holds the session."""
        return cast("ModelArtsService", self.service)

    def delete(self, handle: Handle) -> None:
        """Delete a job and its log for good; one that is gone is no error. Its files in OBS stay where they are.

        :raises JobConflict: when it has not ended.
        """
        self.get_conn().delete(handle)

    def test_connection(self) -> tuple[bool, str]:
        """Try the token, the API and the bucket; one line for each."""
        from airflow.sdk.log import mask_secret

        from airflow_provider_jobapi.services.modelarts.checks import check

        try:
            results = check(self.get_conn().connection, mask_secret)
        except TrainingError as error:
            return False, str(error)
        return all(result.ok for result in results), "\n".join(str(result) for result in results)
