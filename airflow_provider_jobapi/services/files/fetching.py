# SPDX-License-Identifier: Apache-2.0
"""Brings a job's SavedModel to its place, all of it or none: what the services have in common."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from airflow_provider_jobapi.exceptions import NoSavedModel
from airflow_provider_jobapi.services.base import FetchedModel, ModelFile
from airflow_provider_jobapi.services.files.destinations import Place
from airflow_provider_jobapi.services.files.stores import ObjectStore
from airflow_provider_jobapi.services.files.transfers import Meters, download, run
from airflow_provider_jobapi.services.retry import Retry

SAVED_MODEL = "saved_model"
"""The kind of the models that services list today."""


def check_kind(job_id: str, kind: str | None) -> None:
    """Refuse to fetch a model of another kind than the job's.

    :raises NoSavedModel: unless the kind is ``saved_model``, or None for any.
    """
    if kind not in {None, SAVED_MODEL}:
        raise NoSavedModel(f"Job {job_id} left no model of the kind {kind!r}; only {SAVED_MODEL!r} can be fetched.")


def no_model(job_id: str) -> NoSavedModel:
    """The error of a job without one."""
    return NoSavedModel(
        f"Job {job_id} wrote no SavedModel: let the script write one into the directory that the environment "
        "variable MODEL_DIR names, such as model.export(os.environ['MODEL_DIR'])."
    )


def fetch(
    job_id: str,
    keys: Mapping[ModelFile, str],
    place: Place,
    store_of: Callable[[], ObjectStore],
    retry: Retry,
    log: logging.Logger,
    meters: Meters | None,
) -> FetchedModel:
    """Fetch a model, unless its place holds it.

    :param keys: The files of the model, and where each is in the store.
    :param store_of: Opens the store, when it is needed.
    :raises JobConflict: when another model is there.
    """
    files = tuple(keys)
    if place.holds(files):
        log.info(f"The model of job {job_id} is in {place.location} already.")
        return FetchedModel(place.location, files)
    store = store_of()
    title = f"Fetching the model of job {job_id}"
    place.publish(
        files,
        lambda file, target, told: download(store, keys[file], file, target, retry, told),
        lambda tasks: run(title, tasks, log, meters),
    )
    return FetchedModel(place.location, files)
