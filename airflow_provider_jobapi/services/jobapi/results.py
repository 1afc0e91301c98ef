# SPDX-License-Identifier: Apache-2.0
"""What a job left on a jobAPI: its model, and the files of its working directory, read page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from airflow_provider_jobapi.exceptions import BrokenContract, InvalidJob, JobNotFound, NoSavedModel, TrainingError
from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.base import KeptWork, Model, ModelFile
from airflow_provider_jobapi.services.jobapi import contract
from airflow_provider_jobapi.services.jobapi.client import Client
from airflow_provider_jobapi.services.jobapi.contract import Request
from airflow_provider_jobapi.services.jobapi.listing import ListingPage, read_model, read_work
from airflow_provider_jobapi.training.model import MOST_FILES, ModelKind
from airflow_provider_jobapi.training.status import JobState

_FETCH_WORK = "`jobapi model get --work {} DESTINATION`"


def find_model(client: Client, job_id: str, kind: str | None = None) -> tuple[Model, dict[ModelFile, str]] | None:
    """Return a job's model and the key of each of its files in the storage; None where it left none.

    :param kind: The kind that is wanted, where the job left models of several.
    """
    from airflow_provider_jobapi.services.files.models import SAVED_MODEL, read_listing

    pages = list(_pages(client, lambda after: contract.model(job_id, after, kind), read_model))
    if not pages:
        return None
    named = pages[0].kind or SAVED_MODEL
    if any(page.kind != pages[0].kind for page in pages):
        raise BrokenContract("The service names several kinds of one model; nothing was fetched.")
    keys = read_listing((file for page in pages for file in page.files), named)
    return Model(named, tuple(keys), pages[0].root, pages[0].unsafe), keys


def no_model(client: Client, job_id: str) -> NoSavedModel:
    """The error of a job without a model: why there is none, and what else it left."""
    from airflow_provider_jobapi.services.files import models

    try:
        status = contract.read_status(client.send(contract.status(job_id)), job_id)
        kept = find_work(client, job_id)
    except TrainingError:
        return models.no_model(job_id)
    fetch = _FETCH_WORK.format(job_id)
    said = status.status is not JobState.SUCCESSFUL and fetch in status.message
    more = f"{kept.sentence()}: {fetch} fetches them." if kept and kept.files and not said else ""
    return models.no_model(job_id, more, status)


def find_work(client: Client, job_id: str) -> KeptWork | None:
    """Return what a job left in its working directory; None where it is gone or empty.

    :raises InvalidJob: when the service keeps no working directories.
    """
    from airflow_provider_jobapi.services.files.models import read_listing

    try:
        pages = list(_pages(client, lambda after: contract.work(job_id, after), read_work))
    except JobNotFound:
        client.send(contract.status(job_id))  # raises, unless only the route is missing
        raise InvalidJob(
            "This service does not show the working directories of jobs; only what a job writes into MODEL_DIR can be "
            "fetched from it."
        ) from None
    if not pages:
        return None
    listed: Iterator[dict[str, Any]] = (file | {"key": file.get("path")} for page in pages for file in page.files)
    files = tuple(read_listing(listed, ModelKind.FILES))
    return KeptWork(files, pages[0].left_out, pages[0].until)


def _pages(
    client: Client, request_of: Callable[[str | None], Request], read: Callable[[Answer], ListingPage | None]
) -> Iterator[ListingPage]:
    after: str | None = None
    left = MOST_FILES
    while (page := read(client.send(request_of(after)))) is not None:
        yield page
        left -= len(page.files)
        if page.following is None:
            return
        if not page.files or (after is not None and page.following <= after):
            raise BrokenContract("The service's listing of the files repeats its pages; nothing was fetched.")
        if left < 0:
            raise BrokenContract(f"The service lists more than {MOST_FILES:,} files; nothing was fetched.")
        after = page.following
