# SPDX-License-Identifier: Apache-2.0
"""What OpenLineage is told of a training and of a model.

Only OpenLineage's own provider asks for it, so this is the one module that may import its client.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import attr
from airflow.providers.openlineage.extractors import OperatorLineage
from airflow.providers.openlineage.extractors.manager import ExtractorManager
from openlineage.client.event_v2 import Dataset, InputDataset, OutputDataset
from openlineage.client.facet_v2 import (
    RunFacet,
    dataset_version_dataset,
    external_query_run,
    output_statistics_output_dataset,
)

from airflow_provider_jobapi.lineage.uri import SCHEME
from airflow_provider_jobapi.training.digest import digest_of

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from airflow_provider_jobapi.services.base import FetchedModel

MOST_FILES = 100
"""The data files that an event names one by one; of more, it names the folders."""


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
    """The namespace and the name of what a URI or an absolute path names, as OpenLineage and Airflow write them."""
    parts = urlsplit(uri)
    if parts.scheme in {"", "file", "local"}:
        return "file", unquote(parts.path) if parts.scheme else uri
    # Airflow puts the connection where other URIs have the user.
    place = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{place}", parts.path.lstrip("/") or "/"


def model_of_job(conn_id: str, job_name: str) -> tuple[str, str]:
    """The same for the model of the jobs of one name, on their service."""
    return f"{SCHEME}://{conn_id}", job_name


def inputs(data: Mapping[str, Any], of_job: tuple[str, str]) -> list[InputDataset]:
    """The data files of a job: where they came from, or beneath the job what the DAG itself wrote.

    :param data: ``{file name: source}``.
    :param of_job: The job's own dataset.
    """
    named = [
        (of_job[0], f"{of_job[1]}/{name}") if isinstance(source, str | bytes) else dataset_of(str(source))
        for name, source in data.items()
    ]
    if len(named) > MOST_FILES:
        named = [(namespace, str(PurePosixPath(name).parent)) for namespace, name in named]
    return [InputDataset(namespace=namespace, name=name) for namespace, name in dict.fromkeys(named)]


def on_service(of_job: tuple[str, str], job_id: str) -> Dataset:
    """The model as its service has it; its version is the job."""
    version = dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=job_id)
    return Dataset(namespace=of_job[0], name=of_job[1], facets={"version": version})


def fetched(model: FetchedModel) -> OutputDataset:
    """The model where it was fetched to; its version is its SHA-256."""
    namespace, name = dataset_of(model.location)
    version = dataset_version_dataset.DatasetVersionDatasetFacet(
        datasetVersion=digest_of((file.path, file.sha256) for file in model.files)
    )
    statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
        size=sum(file.size for file in model.files), fileCount=len(model.files)
    )
    return OutputDataset(
        namespace=namespace, name=name, facets={"version": version}, outputFacets={"outputStatistics": statistics}
    )


def run_facets(facts: Mapping[str, Any]) -> dict[str, RunFacet]:
    """What tells of the run, and how its job is found.

    :param facts: What :class:`TrainingRunFacet` holds.
    """
    query = external_query_run.ExternalQueryRunFacet(
        externalQueryId=facts["jobId"], source=f"{SCHEME}://{facts['connId']}"
    )
    return {"jobapi_training": TrainingRunFacet(**facts), "externalQuery": query}


def whole(
    operator: BaseOperator,
    inputs: Iterable[Dataset],
    outputs: Iterable[Dataset] = (),
    run: Mapping[str, RunFacet] | None = None,
    job: Mapping[str, Any] | None = None,
) -> OperatorLineage[Any, Any]:
    """All of it, and the inlets and outlets of the operator, which else were left out."""
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
