# SPDX-License-Identifier: Apache-2.0
"""The operators that fetch the model of a training job."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi._airflow import AirflowFailException
from airflow_provider_jobapi.exceptions import InvalidJob, JobGone, NoSavedModel
from airflow_provider_jobapi.hooks.base import DEFAULT_CONN_ID, TrainingHook
from airflow_provider_jobapi.lineage.mixins import FetchLineage, ServiceJob
from airflow_provider_jobapi.links.model import ModelLink
from airflow_provider_jobapi.training.model import ModelKind
from airflow_provider_jobapi.training.units import count_text, size_text

if TYPE_CHECKING:
    from airflow.sdk import Context, ObjectStoragePath

    from airflow_provider_jobapi.services.base import FetchedModel, Handle, TrainingService


class FetchModelOperator(FetchLineage):
    """Fetch the model of a training job, of whatever kind, into ``<destination>/<version>/``.

    The model appears whole or not at all, and each file's SHA-256 is checked; nothing is loaded or unpickled. The
    task's result is the model's directory, as a URI. The events of the assets in ``outlets`` hold the facts of the
    model, see
    :mod:`~airflow_provider_jobapi.lineage.events`.

    :param conn_id: The connection to the service. (templated)
    :param job: The job: the result of :class:`SubmitTrainingOperator`, or a job id. (templated)
    :param destination: A directory, as a path or a URI that ``ObjectStoragePath`` knows. (templated)
    :param version: The directory's name beneath it; by default the Unix time of the job's end. (templated)
    :param kind: The kind that the model must have, such as ``"onnx"``, see
        :class:`~airflow_provider_jobapi.training.model.ModelKind`; by default any. (templated)
    """

    template_fields: Sequence[str] = ("conn_id", "job", "destination", "version", "kind")
    template_ext: Sequence[str] = ()
    operator_extra_links = (ModelLink(),)
    ui_color = "#dcecf7"

    def __init__(
        self,
        *,
        conn_id: str = DEFAULT_CONN_ID,
        job: Mapping[str, Any] | str,
        destination: str | ObjectStoragePath,
        version: str | None = None,
        kind: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.job = job
        self.destination = destination
        self.version = version
        self.kind = kind

    def execute(self, context: Context) -> str:
        """Fetch the model; return its location."""
        from airflow_provider_jobapi.lineage.events import add_model_to_events
        from airflow_provider_jobapi.operators.record import record_result
        from airflow_provider_jobapi.operators.result import model_facts

        service = TrainingHook.service_of(self.conn_id)
        try:
            result = result_of(self.job)
            self._lineage_job = ServiceJob.read(self.conn_id, result["job_id"], None)
            handle = service.find(result["job_id"]).handle
            status = service.status(handle)
            self._lineage_job = ServiceJob.read(self.conn_id, result["job_id"], status)
            model = self._fetch(service, handle)
        except (InvalidJob, JobGone, NoSavedModel) as error:
            if isinstance(error, InvalidJob) and error.field == "destination":
                raise  # the directory may be writable at the next try, and that costs no training
            # The others stay the same at the next try.
            raise AirflowFailException(str(error)) from None
        size = sum(file.size for file in model.files)
        amount = f"{count_text(len(model.files), 'file')}, {size_text(size)}"
        self.log.info(f"The model of the kind {model.kind} ({amount}) is at {model.location}.")
        self._lineage_model = model
        record_result(context, result["job_id"], model_facts(model, self.log), of_fetch=True)
        add_model_to_events(self, context, {"data_version": status.data_version} | result, model)
        return model.location

    def _fetch(self, service: TrainingService, handle: Handle) -> FetchedModel:
        from airflow.sdk import ObjectStoragePath

        version = str(self.version) if self.version else None
        kind = str(self.kind).strip() if self.kind else None
        return service.fetch_model(handle, ObjectStoragePath(str(self.destination)), version, kind)


class FetchSavedModelOperator(FetchModelOperator):
    """Fetch the SavedModel of a training job into ``<destination>/<version>/``, as TensorFlow Serving reads it.

    It is :class:`FetchModelOperator` for SavedModels alone: the task's result is the directory that holds
    ``saved_model.pb``, as a URI, and a model of another kind is refused.

    :param conn_id: The connection to the service. (templated)
    :param job: The job: the result of :class:`SubmitTrainingOperator`, or a job id. (templated)
    :param destination: A directory, as a path or a URI that ``ObjectStoragePath`` knows. (templated)
    :param version: The directory's name beneath it; by default the Unix time of the job's end. (templated)
    """

    template_fields: Sequence[str] = ("conn_id", "job", "destination", "version")

    def __init__(
        self,
        *,
        conn_id: str = DEFAULT_CONN_ID,
        job: Mapping[str, Any] | str,
        destination: str | ObjectStoragePath,
        version: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            conn_id=conn_id,
            job=job,
            destination=destination,
            version=version,
            kind=ModelKind.SAVED_MODEL.value,
            **kwargs,
        )


def result_of(job: Any) -> dict[str, Any]:
    """Parse the ``job`` parameter: the result of a training task, the same as JSON text, or a job id alone.

    :raises InvalidJob: when it holds no job id.
    """
    if isinstance(job, str) and job.strip().startswith("{"):
        try:
            job = json.loads(job)
        except ValueError:
            raise InvalidJob(f"job is a text that is not JSON: {job[:80]!r}. Give the task's output itself.") from None
    if job is None or (isinstance(job, str) and job.strip().lower() in {"", "none", "null"}):
        raise InvalidJob(
            "job is empty: the training task has no result, since it was marked as success or was skipped. "
            "Clear the training task to train, or give a job id."
        )
    result = dict(job) if isinstance(job, Mapping) else {"job_id": job}
    job_id = result.get("job_id")
    if not isinstance(job_id, str) or not job_id.strip():
        raise InvalidJob("job holds no job id: it must be the output of a SubmitTrainingOperator, or a job id.")
    return result | {"job_id": job_id.strip()}


def job_id_of(job: Any) -> str:
    """The job id in the ``job`` parameter.

    :raises InvalidJob: when it holds none.
    """
    job_id: str = result_of(job)["job_id"]
    return job_id
