# SPDX-License-Identifier: Apache-2.0
"""The hook of the connection type ``jobapi``."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from airflow_provider_jobapi.hooks.base import DEFAULT_CONN_ID, TrainingHook, read_connection, summary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Connection, ObjectStoragePath

    from airflow_provider_jobapi.services.base import FetchedModel, Handle, KeptWork
    from airflow_provider_jobapi.services.jobapi.connection import JobApiConnection
    from airflow_provider_jobapi.services.jobapi.contract import Storage
    from airflow_provider_jobapi.services.jobapi.service import JobApiService


class JobApiHook(TrainingHook):
    """Run jobs on a jobAPI. The fields of its connection are described in
    :class:`~airflow_provider_jobapi.services.jobapi.connection.JobApiConnection`.

    :param conn_id: The id of a connection of the type ``jobapi``.
    """

    conn_type = "jobapi"
    hook_name = "jobAPI"
    default_conn_name = DEFAULT_CONN_ID

    @classmethod
    def settings_class(cls) -> type[JobApiConnection]:
        """The model of the connection's fields."""
        from airflow_provider_jobapi.services.jobapi.connection import JobApiConnection

        return JobApiConnection

    @classmethod
    def build(
        cls,
        connection: Connection,
        patience: float | None = None,
        others: Mapping[str, Connection] | None = None,  # noqa: ARG003 -- a jobAPI needs one connection
    ) -> JobApiService:
        """Make the service from the connection.

        :param patience: Seconds for which each request is retried while the jobAPI cannot be reached.
        :raises ConnectionProblem: naming the field that is wrong.
        """
        from airflow.sdk.log import mask_secret

        from airflow_provider_jobapi.services.jobapi.service import JobApiService
        from airflow_provider_jobapi.services.retry import Retry

        settings = read_connection(cls.settings_class(), connection)
        return JobApiService(settings, mask=mask_secret, retry=None if patience is None else Retry.lasting(patience))

    def get_conn(self) -> JobApiService:
        """The service, which holds the session."""
        return cast("JobApiService", self.service)

    def token(self) -> str:
        """Get a valid access token; Airflow masks it in logs."""
        return self.get_conn().token()

    def storage(self) -> Storage:
        """Get the storage for the files of jobs.

        :raises ServiceUnavailable: when it is not ready.
        """
        return self.get_conn().storage()

    def work(self, handle: Handle) -> KeptWork | None:
        """Get what a job that failed, or wrote no model, has left in its working directory; None where it is gone."""
        return self.get_conn().work(handle)

    def fetch_work(
        self, handle: Handle, destination: str | ObjectStoragePath, version: str | None = None
    ) -> FetchedModel:
        """Fetch the files of a job's working directory into ``<destination>/<version>/``, for as long as it stays.

        :param destination: A path, a URI or an ``ObjectStoragePath``.
        :param version: By default the Unix time at which the job ended.
        :raises NoSavedModel: when it is gone or empty.
        """
        from airflow.sdk import ObjectStoragePath

        place = ObjectStoragePath(destination) if isinstance(destination, str) else destination
        return self.get_conn().fetch_work(handle, place, version)

    def test_connection(self) -> tuple[bool, str]:
        """Check the token, the API and the storage; one line for each."""
        from airflow_provider_jobapi.services.jobapi.checks import check

        return summary(lambda: check(self.get_conn()))
