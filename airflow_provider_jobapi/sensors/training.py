# SPDX-License-Identifier: Apache-2.0
"""Wait for a job that another task or person submitted, without ever stopping it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.sensor import BaseSensorOperator, poke_mode_only

from airflow_provider_jobapi._airflow import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    conf,
)
from airflow_provider_jobapi.exceptions import InvalidJob, JobFailed, JobGone, JobNotFound, TrainingError
from airflow_provider_jobapi.hooks.base import DEFAULT_CONN_ID, TrainingHook
from airflow_provider_jobapi.lineage.mixins import ServiceJob, WaitLineage
from airflow_provider_jobapi.links.model import ModelLink
from airflow_provider_jobapi.links.training import TrainingLink
from airflow_provider_jobapi.operators.model import job_id_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_jobapi.services.base import Submission
    from airflow_provider_jobapi.training.status import JobStatus
    from airflow_provider_jobapi.triggers.training import TrainingTrigger


@poke_mode_only
class TrainingSensor(WaitLineage, BaseSensorOperator):
    """Wait for a training job that another task, another DAG or a person submitted, and show its log lines.

    Succeeds when the job does, with the result of a training task: ``{"job_id": …, "status": "SUCCESSFUL", "model":
    None, "metrics": {name: last value}, "data_version": SHA-256 or None, "model_kind": kind or None, …}``, which
    :class:`~airflow_provider_jobapi.operators.model.FetchModelOperator` takes. A job that failed or was
    stopped fails the sensor without a retry, since the same job ends only once.

    The job is never stopped: not by a timeout, not when the sensor is cleared, marked or killed.

    :param conn_id: The connection to the job service. (templated)
    :param job: The job: a job id, or the result of a training task. (templated)
    :param patience: How long a service that does not answer is waited for: a ``timedelta`` or seconds.
    :param deferrable: Whether to wait in the triggerer, which takes no worker slot. The log is the same.
    :param timeout: The time from the sensor's start after which it fails without a retry: a ``timedelta`` or seconds;
        by default ``[sensors] default_timeout``.
    :param soft_fail: Skip where the sensor would fail without a retry: the job failed, was stopped, is not there, or
        the timeout is over.
    :param never_fail: Skip at every error, also when the service cannot be reached.
    :raises ServiceUnavailable: when the job cannot be followed; a retry continues with it.
    """

    template_fields: Sequence[str] = ("conn_id", "job")
    template_ext: Sequence[str] = ()
    operator_extra_links = (TrainingLink(), ModelLink())
    ui_color = "#dcecf7"

    def __init__(
        self,
        *,
        conn_id: str = DEFAULT_CONN_ID,
        job: Mapping[str, Any] | str,
        patience: timedelta | float = 600.0,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.job = job
        self.patience = patience
        self.deferrable = deferrable

    def execute(self, context: Context) -> dict[str, Any]:
        """Find the job and follow it to its end."""
        from airflow_provider_jobapi.operators.secrets import JobSecrets
        from airflow_provider_jobapi.operators.waiting import run_inline
        from airflow_provider_jobapi.triggers import xcoms
        from airflow_provider_jobapi.triggers.training import JOB_ID_KEY

        with self._sensor_errors():
            job_id = job_id_of(self.job)
            self._lineage_job = ServiceJob.read(self.conn_id, job_id, None)
            submission = TrainingHook.service_of(self.conn_id, self._seconds()).find(job_id)
        xcoms.push(context["ti"], JOB_ID_KEY, job_id)
        secrets = JobSecrets(context, self.conn_id)
        masker = secrets.read_above(job_id, self.upstream_task_ids)
        trigger = self._trigger(job_id, submission, context, secrets.sealed)
        if self.deferrable:
            self.defer(trigger=trigger, method_name="execute_complete")
        return self.execute_complete(context, run_inline(trigger, context["ti"], masker))

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check how the job ended and return its result."""
        from airflow_provider_jobapi.operators.placement import LAST_LOOK
        from airflow_provider_jobapi.operators.result import check_result, facts_of, training_result
        from airflow_provider_jobapi.operators.secrets import JobSecrets
        from airflow_provider_jobapi.triggers.event import End, TrainingEvent

        ended = TrainingEvent.read(event)
        # Otherwise the limit of the task has passed, or the patience was waited for already.
        patience = self._seconds() if ended.end is End.OVER else min(self._seconds(), LAST_LOOK)
        self._lineage_job = ServiceJob.read(self.conn_id, ended.job_id, None, ended.metrics)

        def on_status(status: JobStatus) -> None:
            self._lineage_job = ServiceJob.read(self.conn_id, ended.job_id, status, ended.metrics)

        with self._sensor_errors():
            service = TrainingHook.service_of(self.conn_id, patience)
            masker = JobSecrets(context, self.conn_id).read_above(ended.job_id, self.upstream_task_ids)
            status = check_result(service, ended, stop_on_timeout=False, on_status=on_status, masker=masker)
            facts = facts_of(service, ended.handle, None, self.log)
        self.log.info(f"Job {ended.job_id} was successful. {status.message}".rstrip())
        return training_result(ended, status, facts)

    def _seconds(self) -> float:
        from airflow_provider_jobapi.operators.waiting import seconds_of

        return seconds_of(self.patience)

    def _trigger(self, job_id: str, submission: Submission, context: Context, sealed: str | None) -> TrainingTrigger:
        from airflow_provider_jobapi.operators.waiting import make_trigger

        limit = timedelta(seconds=self.timeout)
        return make_trigger(
            submission,
            deferrable=self.deferrable,
            conn_id=self.conn_id,
            job_id=job_id,
            deadline=((context["ti"].start_date or datetime.now(UTC)) + limit).isoformat(),
            limit=f"timeout of {limit}",
            patience=self._seconds(),
            stop_on_kill=False,
            sealed=sealed,
        )

    @contextmanager
    def _sensor_errors(self) -> Iterator[None]:
        """Raise errors as Airflow's sensors do: skip where the parameters say so, and no retry where none helps."""
        try:
            yield
        except (InvalidJob, JobNotFound, JobGone, JobFailed, AirflowFailException, AirflowSensorTimeout) as error:
            # A retry would end in the same way: a job ends only once.
            if self.soft_fail or self.never_fail:
                self.log.warning(str(error))
                raise AirflowSkipException(str(error)) from None
            if isinstance(error, AirflowSensorTimeout):
                raise
            raise AirflowFailException(str(error)) from None
        except TrainingError as error:
            if self.never_fail:
                self.log.warning(str(error))
                raise AirflowSkipException(str(error)) from None
            raise
