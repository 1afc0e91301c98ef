# SPDX-License-Identifier: Apache-2.0
"""What the operators tell OpenLineage, where its provider is installed: data files in, models out.

Its methods are called by that provider alone, in a process that it forks once the task has begun or ended. So they read
what the operator holds, and ask nobody.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_provider_jobapi.exceptions import TrainingError

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_jobapi.operators.parameters import Parameters
    from airflow_provider_jobapi.services.base import FetchedModel
    from airflow_provider_jobapi.training.status import JobStatus


class TrainingLineage(BaseOperator):
    """The lineage of a training: its data files, its script, its job, its model."""

    conn_id: str
    _seen: tuple[str, JobStatus, dict[str, Any]] | None = None
    _model: FetchedModel | None = None

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any]:
        """The data and the script."""
        return self._lineage(ended_well=False)

    def get_openlineage_facets_on_complete(self, _: Any) -> OperatorLineage[Any, Any]:
        """The data, the script, the job and its model."""
        return self._lineage(ended_well=True)

    def get_openlineage_facets_on_failure(self, _: Any) -> OperatorLineage[Any, Any]:
        """The data, the script, and the job if there was one."""
        return self._lineage(ended_well=False)

    def _parameters(self) -> tuple[Parameters, list[str]]:
        raise NotImplementedError

    def _lineage(self, *, ended_well: bool) -> OperatorLineage[Any, Any]:
        from airflow_provider_jobapi.lineage import openlineage
        from airflow_provider_jobapi.operators.parameters import default_name, structure

        given = self._parameters()[0]
        of_job = openlineage.model_of_job(self.conn_id, str(given.job_name or default_name(self.dag_id, self.task_id)))
        run, outputs = {}, []
        if self._seen is not None:
            job_id, status, metrics = self._seen
            facts: dict[str, Any] = {
                "jobId": job_id,
                "jobName": status.name or of_job[1],
                "connId": self.conn_id,
                "status": status.status.value,
            }
            facts |= {"reason": status.reason, "exitCode": status.exit_code}
            run = openlineage.run_facets(facts | {"metrics": metrics, "dataVersion": status.data_version})
            outputs = [openlineage.on_service(of_job, job_id)] if ended_well else []
        if ended_well and self._model is not None:
            outputs.append(openlineage.fetched(self._model))
        data = openlineage.inputs(structure("data_input", given.data_input) or {}, of_job)
        return openlineage.whole(self, data, outputs, run, self._script_facet(given))

    def _script_facet(self, given: Parameters) -> dict[str, Any]:
        """The script, where OpenLineage's settings let it be told."""
        from airflow.providers.openlineage.conf import is_source_enabled
        from openlineage.client.facet_v2 import source_code_job

        from airflow_provider_jobapi.operators.parameters import read_script

        if not is_source_enabled():
            return {}
        try:
            script = read_script(given.script, Path(self.dag.fileloc).parent)
        except TrainingError:
            return {}
        return {"sourceCode": source_code_job.SourceCodeJobFacet(language="python", sourceCode=script)}


class FetchLineage(BaseOperator):
    """The lineage of a fetch: the model on its service, and where it came to."""

    conn_id: str
    _fetched: tuple[str, str, FetchedModel] | None = None

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any]:
        """Nothing yet: which model it is says the service."""
        from airflow_provider_jobapi.lineage import openlineage

        return openlineage.whole(self, [])

    def get_openlineage_facets_on_complete(self, _: Any) -> OperatorLineage[Any, Any]:
        """The model, twice."""
        from airflow_provider_jobapi.lineage import openlineage

        if self._fetched is None:
            return self.get_openlineage_facets_on_start()
        job_id, job_name, model = self._fetched
        source = openlineage.on_service(openlineage.model_of_job(self.conn_id, job_name), job_id)
        return openlineage.whole(self, [source], [openlineage.fetched(model)])

    def get_openlineage_facets_on_failure(self, _: Any) -> OperatorLineage[Any, Any]:
        """Nothing came."""
        return self.get_openlineage_facets_on_start()
