# SPDX-License-Identifier: Apache-2.0
"""The hook of the connection type ``jobapi``."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from airflow_provider_jobapi.exceptions import TrainingError
from airflow_provider_jobapi.hooks.base import TrainingHook

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_provider_jobapi.services.jobapi.connection import JobApiConnection
    from airflow_provider_jobapi.services.jobapi.contract import Storage
    from airflow_provider_jobapi.services.jobapi.service import JobApiService


class JobApiHook(TrainingHook):
    """Talks to a jobAPI.

    The connection's host is the jobAPI's address, its login and password are the OAuth2 client. Its extra may hold
    ``token_url``, ``token_method`` (post_basic, post_form or get_basic), ``scope``, ``version``, ``verify``,
    ``ca_bundle``, ``client_cert``, ``client_key``, ``proxy`` and ``timeout`` (seconds).

    :param conn_id: The connection, of the type ``jobapi``.
    """

    conn_type = "jobapi"
    hook_name = "jobAPI"

    @classmethod
    def settings_class(cls) -> type[JobApiConnection]:
        """The model of the connection's fields."""
        from airflow_provider_jobapi.services.jobapi.connection import JobApiConnection

        return JobApiConnection

    @classmethod
    def build(cls, connection: Connection, patience: float | None = None) -> JobApiService:
        """Make the service from the connection.

        :param patience: Seconds for which each request waits for a jobAPI that cannot be reached.
        :raises ConnectionProblem: naming the field that is wrong.
        """
        from airflow.sdk.log import mask_secret

        from airflow_provider_jobapi.services.jobapi.service import JobApiService
        from airflow_provider_jobapi.services.retry import Retry

        settings = cls.settings_class().of(
            host=connection.host,
            port=connection.port,
            schema=connection.schema,
            login=connection.login,
            password=connection.password,
            extra=connection.extra_dejson,
        )
        return JobApiService(settings, mask=mask_secret, retry=None if patience is None else Retry.lasting(patience))

    def get_conn(self) -> JobApiService:
        """The service, which holds the session."""
        return cast("JobApiService", self.service)

    def token(self) -> str:
        """A good access token; it is masked in logs."""
        return self.get_conn().token()

    def storage(self) -> Storage:
        """Where the files of jobs are kept.

        :raises ServiceUnavailable: when it is not ready.
        """
        return self.get_conn().storage()

    def test_connection(self) -> tuple[bool, str]:
        """Try the token, the API and the storage; one line for each."""
        from airflow_provider_jobapi.services.jobapi.checks import check

        try:
            results = check(self.get_conn())
        except TrainingError as error:
            return False, str(error)
        return all(result.ok for result in results), "\n".join(str(result) for result in results)
