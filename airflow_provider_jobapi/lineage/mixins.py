# SPDX-License-Identifier: Apache-2.0
"""The methods of the operators that OpenLineage's provider calls: data files in, models out.

It calls them in a process that it forks when the task has started or ended, where neither Airflow nor the service can
be asked. So they use only what the operator has recorded before.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_provider_jobapi.exceptions import TrainingError

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_jobapi.services.base import FetchedModel
    from airflow_provider_jobapi.training.job import DataSource
    from airflow_provider_jobapi.training.status import JobStatus

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainingInputs:
    """What goes into a training.

    :ivar data: Where each data file comes from, by its name.
    :ivar script: The source text; None where there is none, or it cannot be read.
    """

    job_name: str
    data: Mapping[str, DataSource]
    script: str | None


@dataclass(frozen=True, slots=True)
class ServiceJob:
    """A job on its service.

    :ivar conn_type: The connection's type, which is the scheme of the job's namespace.
    :ivar status: Its last known status; None where the service was not asked, or did not answer.
    :ivar metrics: The last value of each.
    """

    conn_type: str
    job_id: str
    status: JobStatus | None
    metrics: Mapping[str, float | str]

    @classmethod
    def read(
        cls, conn_id: str, job_id: str, status: JobStatus | None, metrics: Mapping[str, float | str] | None = None
    ) -> ServiceJob | None:
        """Look up the connection's type for a job; None where OpenLineage's provider is not installed."""
        from importlib.util import find_spec

        from airflow.sdk import BaseHook

        if find_spec("airflow.providers.openlineage") is None:
            return None
        try:
            conn_type = BaseHook.get_connection(conn_id).conn_type
        except Exception as error:  # noqa: BLE001 -- lineage must not fail a task
            _log.debug("The connection %s cannot be read for OpenLineage: %r", conn_id, error)
            return None
        return cls(conn_type or "jobapi", job_id, status, metrics or {})


class TrainingLineage(BaseOperator):
    """The lineage of a training: its data files, its script, its job, its model.

    :ivar _lineage_job: The job, once it has ended.
    :ivar _lineage_model: The model, once it was fetched.
    """

    conn_id: str
    _lineage_job: ServiceJob | None = None
    _lineage_model: FetchedModel | None = None

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any]:
        """The data files and the script."""
        return self._lineage(successful=False)

    def get_openlineage_facets_on_complete(self, _: Any) -> OperatorLineage[Any, Any]:
        """The data files, the script, the job and its model."""
        return self._lineage(successful=True)

    def get_openlineage_facets_on_failure(self, _: Any) -> OperatorLineage[Any, Any]:
        """The data files, the script, and the job if there was one."""
        return self._lineage(successful=False)

    def _training_inputs(self) -> TrainingInputs:
        """The inputs, from the operator's parameters."""
        raise NotImplementedError

    def _lineage(self, *, successful: bool) -> OperatorLineage[Any, Any]:
        from airflow_provider_jobapi.lineage import openlineage

        try:
            given = self._training_inputs()
        except TrainingError:  # the task itself reports it
            return openlineage.operator_lineage(self, [])
        job = self._lineage_job
        dataset, outputs = None, []
        if job is not None:
            dataset = openlineage.job_dataset(job.conn_type, self.conn_id, given.job_name)
            outputs = [openlineage.model_on_service(dataset, job.job_id)] if successful else []
        if successful and self._lineage_model is not None:
            outputs.append(openlineage.fetched_model(self._lineage_model))
        return openlineage.operator_lineage(
            self,
            openlineage.data_datasets(given.data, dataset),
            outputs,
            openlineage.run_facets(self.conn_id, job, given.job_name) if job else {},
            openlineage.script_facets(given.script),
        )


class FetchLineage(BaseOperator):
    """The lineage of a fetch: the model on its service, and where it was fetched to.

    :ivar _lineage_job: The job, once its id is known.
    :ivar _lineage_model: The model, once it was fetched.
    """

    conn_id: str
    _lineage_job: ServiceJob | None = None
    _lineage_model: FetchedModel | None = None

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any]:
        """Only inlets and outlets: which model it is, the service has not said yet."""
        from airflow_provider_jobapi.lineage import openlineage

        return openlineage.operator_lineage(self, [])

    def get_openlineage_facets_on_complete(self, _: Any) -> OperatorLineage[Any, Any]:
        """The model on its service and the fetched one."""
        from airflow_provider_jobapi.lineage import openlineage

        job, model = self._lineage_job, self._lineage_model
        if job is None or job.status is None or model is None:
            return self.get_openlineage_facets_on_start()
        dataset = openlineage.job_dataset(job.conn_type, self.conn_id, job.status.name)
        source = openlineage.model_on_service(dataset, job.job_id)
        return openlineage.operator_lineage(self, [source], [openlineage.fetched_model(model)])

    def get_openlineage_facets_on_failure(self, _: Any) -> OperatorLineage[Any, Any]:
        """The job, if it is known: nothing was fetched."""
        return _job_lineage(self, self.conn_id, self._lineage_job)


class WaitLineage(BaseOperator):
    """The lineage of a sensor: the job that it waits for, and the job's model on its service.

    :ivar _lineage_job: The job, once its id is known.
    """

    conn_id: str
    _lineage_job: ServiceJob | None = None

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any]:
        """Only inlets and outlets: whether the service has the job is not known yet."""
        from airflow_provider_jobapi.lineage import openlineage

        return openlineage.operator_lineage(self, [])

    def get_openlineage_facets_on_complete(self, _: Any) -> OperatorLineage[Any, Any]:
        """The job and its model."""
        return _job_lineage(self, self.conn_id, self._lineage_job, with_model=True)

    def get_openlineage_facets_on_failure(self, _: Any) -> OperatorLineage[Any, Any]:
        """The job, if it is known."""
        return _job_lineage(self, self.conn_id, self._lineage_job)


def _job_lineage(
    operator: BaseOperator, conn_id: str, job: ServiceJob | None, *, with_model: bool = False
) -> OperatorLineage[Any, Any]:
    """The lineage of a task that reads a job which another task submitted.

    :param with_model: Whether the job's model is an input.
    """
    from airflow_provider_jobapi.lineage import openlineage

    if job is None:
        return openlineage.operator_lineage(operator, [])
    # Only the status has the job's name; where the service could not be asked, the id identifies the job.
    name = job.job_id if job.status is None else job.status.name
    dataset = openlineage.job_dataset(job.conn_type, conn_id, name)
    inputs = [openlineage.model_on_service(dataset, job.job_id)] if with_model and job.status is not None else []
    return openlineage.operator_lineage(operator, inputs, run=openlineage.run_facets(conn_id, job, name))
