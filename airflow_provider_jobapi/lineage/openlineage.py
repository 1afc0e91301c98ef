# SPDX-License-Identifier: Apache-2.0
"""OpenLineage's datasets and facets of a training and of a model.

The one module that imports OpenLineage's client; only its provider calls for it, through :mod:`~.mixins`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import attr
from airflow.providers.openlineage import conf
from airflow.providers.openlineage.extractors import OperatorLineage
from airflow.providers.openlineage.extractors.manager import ExtractorManager
from openlineage.client.event_v2 import Dataset, InputDataset, OutputDataset
from openlineage.client.facet_v2 import (
    DatasetFacet,
    RunFacet,
    dataset_version_dataset,
    external_query_run,
    output_statistics_output_dataset,
    source_code_job,
)

from airflow_provider_jobapi.services.files.data import fixed_part, is_glob

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from airflow_provider_jobapi.lineage.mixins import ServiceJob
    from airflow_provider_jobapi.services.base import FetchedModel
    from airflow_provider_jobapi.training.job import DataSource

MAX_FILES = 100
"""Data files that an event names one by one; of more, it names the folders."""


@attr.define
class TrainingRunFacet(RunFacet):
    """The job of a training task; ``metrics`` holds the last value of each."""

    jobId: str  # noqa: N815 -- facets are written like this
    jobName: str  # noqa: N815
    connId: str  # noqa: N815
    status: str
    reason: str | None
    exitCode: int | None  # noqa: N815
    metrics: dict[str, Any]
    dataVersion: str | None  # noqa: N815


def dataset_of(uri: str) -> tuple[str, str]:
    """The namespace and the name of the dataset at a URI or an absolute path, as OpenLineage and Airflow write them."""
    parts = urlsplit(uri)
    if parts.scheme in {"", "file", "local"}:
        return "file", unquote(parts.path) if parts.scheme else uri
    # Airflow puts the connection where other URIs have the user.
    place = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{place}", parts.path.lstrip("/") or "/"


def job_dataset(conn_type: str, conn_id: str, job_name: str) -> tuple[str, str]:
    """The namespace and the name of the models that the jobs of one name train, on their service."""
    return f"{conn_type}://{conn_id}", job_name


def data_datasets(data: Mapping[str, DataSource], job: tuple[str, str] | None) -> list[InputDataset]:
    """The data files of a job, each where it came from.

    :param data: ``{file name: source}``.
    :param job: The job's own dataset, below which contents stand that the DAG file itself holds; without it, these are
        left out.
    """
    named = []
    for name, source in data.items():
        if not isinstance(source, str | bytes):
            named.append(dataset_of(str(fixed_part(source)[0] if is_glob(source) else source)))
        elif job is not None:
            named.append((job[0], f"{job[1]}/{name}"))
    if len(named) > MAX_FILES:
        named = [(namespace, str(PurePosixPath(name).parent)) for namespace, name in named]
    return [InputDataset(namespace=namespace, name=name) for namespace, name in dict.fromkeys(named)]


def model_on_service(job: tuple[str, str], job_id: str) -> Dataset:
    """A job's model on its service; its version is the job's id."""
    version = dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=job_id)
    return Dataset(namespace=job[0], name=job[1], facets={"version": version})


def fetched_model(model: FetchedModel) -> OutputDataset:
    """A fetched model; its version is its SHA-256."""
    namespace, name = dataset_of(model.location)
    facets: dict[str, DatasetFacet] = {}
    if model.sha256 is not None:
        facets["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=model.sha256)
    statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
        size=sum(file.size for file in model.files), fileCount=len(model.files)
    )
    return OutputDataset(namespace=namespace, name=name, facets=facets, outputFacets={"outputStatistics": statistics})


def run_facets(conn_id: str, job: ServiceJob, job_name: str) -> dict[str, RunFacet]:
    """The facets of a run: its job, and how to find the job on its service.

    :param job_name: The job's name in the DAG, where the service was not asked for it.
    """
    status = job.status
    training = TrainingRunFacet(
        jobId=job.job_id,
        jobName=job_name if status is None else status.name,
        connId=conn_id,
        status="UNKNOWN" if status is None else status.status.value,
        reason=None if status is None else status.reason,
        exitCode=None if status is None else status.exit_code,
        metrics=dict(job.metrics),
        dataVersion=None if status is None else status.data_version,
    )
    query = external_query_run.ExternalQueryRunFacet(externalQueryId=job.job_id, source=f"{job.conn_type}://{conn_id}")
    return {"jobapi_training": training, "externalQuery": query}


def script_facets(script: str | None) -> dict[str, Any]:
    """The facet of a task's script, unless ``[openlineage] disable_source_code`` is set."""
    if script is None or not conf.is_source_enabled():
        return {}
    return {"sourceCode": source_code_job.SourceCodeJobFacet(language="python", sourceCode=script)}


def operator_lineage(
    operator: BaseOperator,
    inputs: Iterable[Dataset],
    outputs: Iterable[Dataset] = (),
    run: Mapping[str, RunFacet] | None = None,
    job: Mapping[str, Any] | None = None,
) -> OperatorLineage[Any, Any]:
    """The lineage of a task, its inlets and outlets included."""
    return OperatorLineage(
        inputs=_with(inputs, operator.inlets),
        outputs=_with(outputs, operator.outlets),
        run_facets=dict(run or {}),
        job_facets=dict(job or {}),
    )


def _with(datasets: Iterable[Dataset], declared: Iterable[Any]) -> list[Dataset]:
    found = {(each.namespace, each.name): each for each in datasets}
    for each in map(ExtractorManager.convert_to_ol_dataset, declared):
        if each is not None:
            found.setdefault((each.namespace, each.name), each)
    return list(found.values())
