# SPDX-License-Identifier: Apache-2.0
"""The names of a job's container and volumes, and the labels of containers and successor images."""

from __future__ import annotations

PREFIX = "jobapi-"

JOB_ID = "airflow.job_id"
DIGEST = "airflow.job_digest"
NAME = "airflow.job_name"
COMMAND = "airflow.train.command"
IMAGE = "airflow.train.image"
IMAGE_DIGEST = "airflow.train.image_digest"
STATION = "airflow.train.station"
SECONDS = "airflow.train.completion_seconds"
DATA = "airflow.train.data_folder"
RULES = "airflow.train.rules"
TASK_LABELS = ("airflow.dag_id", "airflow.run_id", "airflow.task_id", "airflow.map_index", "airflow.try_number")
STATUS = "airflow.job_status"
RESULT = "airflow.train.result"
ADOPTED = "airflow.train.adopted_job_id"
BY = "airflow.stopped_because"

PARENT = "airflow.train.parent"
PARENT_DIGEST = "airflow.train.parent_digest"
MODE = "airflow.train.successor_mode"
CONTENT = "airflow.train.successor_content"


def container_name(job_id: str) -> str:
    """Return the name of a job's container, which is its claim: an engine has each name once."""
    return f"{PREFIX}{job_id}"


def successor_builder(job_id: str) -> str:
    """Return the name of the container of which a job's successor image is made; a killed worker may leave it."""
    return f"{PREFIX}{job_id}-successor"


def started_record(job_id: str) -> str:
    """Return the name of the volume that says that the job may have begun."""
    return f"{PREFIX}{job_id}-started"


def stop_record(job_id: str) -> str:
    """Return the name of the volume that says that the job was to be stopped, and why."""
    return f"{PREFIX}{job_id}-stop"


def end_record(job_id: str) -> str:
    """Return the name of the volume that says how the job ended."""
    return f"{PREFIX}{job_id}-end"


def adoption_record(job_id: str) -> str:
    """Return the name of the volume that says which ended job this one is, so that it does not run by itself."""
    return f"{PREFIX}{job_id}-adopted"


def data_volume(job_id: str) -> str:
    """Return the name of the volume with the job's data, where they are not mounted from the machine."""
    return f"{PREFIX}{job_id}-data"
