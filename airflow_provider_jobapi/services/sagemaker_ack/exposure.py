# SPDX-License-Identifier: Apache-2.0
"""Refuse secrets in what others can read of a job: its object in Kubernetes, the job in AWS, its folder's names. Pure.

Two things are secrets: what Airflow hides in the worker's log, in every form in which it may be written, and what looks
like one to anybody: a password in an address, and the id of an access key. SageMaker refuses a job with such
credentials by itself (description of ``hyperParameters`` in the CRD), which ACK would try again for ever.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.job import TrainingJob
from airflow_provider_jobapi.training.masking import occurring

_CREDENTIALS = re.compile(r"://[^\s/:@]*:[^\s/@]+@|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")
"""A password in an address, or the id of an access key ("IAM identifiers" of AWS)."""


def refuse_secrets(job: TrainingJob, spec: Mapping[str, Any], secrets: Callable[[], Iterable[str]]) -> None:
    """Refuse a job with a secret.

    :param spec: Its spec, of which the hyperparameters and the environment are searched as they are sent.
    :param secrets: Returns what Airflow hides.
    :raises InvalidJob: naming the place, and what to do.
    """
    given = {
        "hyperParameters": spec.get("hyperParameters", {}),
        "environment": spec.get("environment", {}),
        "service_options": job.service_options,
        "arguments": job.arguments,
        "data_input": sorted(job.data),
        "metric_definitions": job.metric_definitions,
        "job_name": job.name,
        "image": job.image,
    }
    texts = [pair for name, value in given.items() for pair in _texts(value, name)]
    found = occurring(secrets(), [text for _, text in texts])
    for path, text in texts:
        if found and occurring(found, [text]):
            raise _refused(path, "a secret of Airflow's")
        if _CREDENTIALS.search(text):
            raise _refused(path, "a password or the id of an access key")


def _refused(path: str, what: str) -> InvalidJob:
    return InvalidJob(
        f"{path} contains {what}, and whoever may read the TrainingJob in Kubernetes, the job in AWS or its folder in "
        "S3 could read it there: keep it in AWS Secrets Manager or in the Parameter Store, let the job's role read it, "
        "and give the job its name.",
        field=path,
    )


def _texts(value: Any, path: str) -> list[tuple[str, str]]:
    """Return each text of a value, also the names in it, with its path."""
    if isinstance(value, str):
        return [(path, value)]
    if isinstance(value, Mapping):
        names = [(path, str(name)) for name in value]  # before the paths that have them
        return [*names, *(pair for name, each in value.items() for pair in _texts(each, f"{path}.{name}"))]
    if isinstance(value, list | tuple):
        return [pair for i, each in enumerate(value) for pair in _texts(each, f"{path}[{i}]")]
    return [] if value is None or isinstance(value, bool) else [(path, str(value))]
