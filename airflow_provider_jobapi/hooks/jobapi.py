# SPDX-License-Identifier: Apache-2.0
"""The hook of the connection type ``jobapi``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from airflow_provider_jobapi.exceptions import TrainingError
from airflow_provider_jobapi.hooks.base import TrainingHook

if TYPE_CHECKING:
    from airflow.sdk import Connection, ObjectStoragePath

    from airflow_provider_jobapi.services.base import FetchedModel, Handle, Submission
    from airflow_provider_jobapi.services.jobapi.contract import Storage
    from airflow_provider_jobapi.services.jobapi.service import JobApiService
    from airflow_provider_jobapi.training.job import TrainingJob
    from airflow_provider_jobapi.training.status import JobStatus


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
    def build(cls, connection: Connection, patience: float | None = None) -> JobApiService:
        """Make the service from the connection.

        :param patience: Seconds for which each request waits for a jobAPI that cannot be reached.
        :raises ConnectionProblem: naming the field that is wrong.
        """
        from airflow.sdk.log import mask_secret

        from airflow_provider_jobapi.services.jobapi.connection import JobApiConnection
        from airflow_provider_jobapi.services.jobapi.service import JobApiService
        from airflow_provider_jobapi.services.patience import Patience

        settings = JobApiConnection.of(
            host=connection.host,
            port=connection.port,
            schema=connection.schema,
            login=connection.login,
            password=connection.password,
            extra=connection.extra_dejson,
        )
        return JobApiService(
            settings, mask=mask_secret, patience=None if patience is None else Patience.lasting(patience)
        )

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

    def submit(self, job: TrainingJob, job_id: str) -> Submission:
        """Upload the job's files and submit it. The same id is the same job, whoever asks again.

        :param job_id: A UUID.
        :raises JobConflict: when the id belongs to a job with another content.
        """
        return self.get_conn().submit(job, job_id)

    def status(self, handle: Handle) -> JobStatus:
        """Where a job stands."""
        return self.get_conn().status(handle)

    def stop(self, handle: Handle) -> None:
        """Ask to stop a job; one that has ended is no error."""
        self.get_conn().stop(handle)

    def logs(self, handle: Handle, count: int = 20) -> tuple[str, ...]:
        """The last lines of a job's log.

        :param count: How many, at the most.
        """
        return self.get_conn().last_lines(handle, count)

    def fetch(self, handle: Handle, destination: str | ObjectStoragePath, version: str | None = None) -> FetchedModel:
        """Fetch a job's SavedModel into ``<destination>/<version>/``; a reader never sees half of it.

        :param destination: A path, a URI or an ``ObjectStoragePath``.
        :param version: By default the Unix time at which the job ended.
        :raises NoSavedModel: when the job wrote none.
        """
        from airflow.sdk import ObjectStoragePath

        place = ObjectStoragePath(destination) if isinstance(destination, str) else destination
        return self.get_conn().fetch_model(handle, place, version)

    def test_connection(self) -> tuple[bool, str]:
        """Try the token, the API and the storage; one line for each."""
        from airflow_provider_jobapi.services.jobapi.checks import check

        try:
            findings = check(self.get_conn())
        except TrainingError as error:
            return False, str(error)
        return all(finding.good for finding in findings), "\n".join(str(finding) for finding in findings)

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """How Airflow before 3.2 shows the form; later ones read :func:`~.get_provider_info`."""
        from airflow_provider_jobapi.get_provider_info import field_behaviour

        behaviour = field_behaviour(cls.conn_type)
        return {name.replace("-", "_"): value for name, value in behaviour.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """The fields of the extra in the form of Airflow before 3.2, where wtforms is."""
        from airflow_provider_jobapi.hooks._widgets import widgets

        return widgets(cls.conn_type)
