# SPDX-License-Identifier: Apache-2.0
"""The body of the request that creates a job's container, as Docker's API has it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_jobapi.services.train_container import names
from airflow_provider_jobapi.services.train_container.commands import RULES
from airflow_provider_jobapi.services.train_container.connection import TrainConnection
from airflow_provider_jobapi.services.train_container.isolation import Isolation
from airflow_provider_jobapi.services.train_container.plan import Plan

DATA_VARIABLE = "DATA_DIR"
"""The variable that has the folder of the data, where there are any."""


def labels_of(
    plan: Plan, job_id: str, digest: str, connection: TrainConnection, image_digest: str, task: Mapping[str, str]
) -> dict[str, str]:
    """Return the labels of a container, from which its job is read again.

    :param digest: Of what is run.
    :param image_digest: Of the train's image.
    :param task: Labels of the task that runs it.
    """
    targets = {**connection.targets, **plan.targets}
    rules = {"strict": plan.strict, "plain_summary": plan.plain_summary, "targets": targets, "listed": plan.listed}
    labels = {name: value for name, value in task.items() if name in names.TASK_LABELS and value}
    labels |= {
        names.JOB_ID: job_id,
        names.DIGEST: digest,
        names.NAME: plan.name,
        names.COMMAND: plan.command.value,
        names.IMAGE: plan.image,
        names.IMAGE_DIGEST: image_digest,
        names.STATION: connection.station,
        names.DATA: connection.data_folder if plan.data else "",
        names.SECONDS: "" if plan.seconds is None else f"{plan.seconds:g}",
        names.RULES: json.dumps(rules),
    }
    return labels


def container_config(
    plan: Plan,
    labels: Mapping[str, str],
    environment: Mapping[str, str],
    isolation: Isolation,
    mounts: Sequence[Mapping[str, Any]],
    image_user: str,
) -> dict[str, Any]:
    """Return the body of the request.

    :param environment: All variables of the container, those of the station included.
    :param mounts: The station's data.
    :param image_user: ``Config.User`` of the image.
    :raises InvalidJob: when a mount contradicts the isolation.
    """
    isolated = isolation.configuration(keeps_files=RULES[plan.command].kept, mounts=mounts, image_user=image_user)
    host = {
        **isolated["HostConfig"],
        # Whatever the engine's default is: one that can be read again.
        "LogConfig": {"Type": "json-file", "Config": {}},
        "RestartPolicy": {"Name": "no"},
        "AutoRemove": False,
    }
    return {
        **isolated,
        "Image": plan.image,
        "Cmd": plan.words,
        "Env": [f"{name}={value}" for name, value in sorted(environment.items())],
        "Labels": dict(labels),
        "HostConfig": host,
    }
