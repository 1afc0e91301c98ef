# SPDX-License-Identifier: Apache-2.0
"""The provider info that Airflow reads at its start: connection types, their forms, and where the classes are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi.services.jobapi.connection import JobApiConnection
from airflow_provider_jobapi.services.mlflow.connection import MlflowConnection
from airflow_provider_jobapi.services.modelarts.connection import ModelArtsConnection
from airflow_provider_jobapi.services.sagemaker_ack.connection import SageMakerConnection
from airflow_provider_jobapi.services.train_container.connection import TrainConnection

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.fields import ConnectionSettings

_INTEGRATION = "jobAPI"

_CONFIG = {
    "jobapi": {
        "description": "How the logs of training jobs are written to the task log.",
        "options": {
            "log_resume": {
                "description": (
                    "How a triggerer continues a job's log after a restart: ``replay`` writes all lines again under "
                    "the same times, which Airflow merges where logs are files, or in S3, GCS or WASB; ``cursor`` "
                    "continues after the last line that was written, for CloudWatch, Elasticsearch and OpenSearch, "
                    "where lines that were written twice are shown twice."
                ),
                "version_added": None,
                "type": "string",
                "example": "cursor",
                "default": "replay",
            }
        },
    }
}


def get_provider_info() -> dict[str, Any]:
    """Describe the provider in the format of Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-provider-jobapi",
        "name": "jobAPI",
        "description": "Train models on a job service, watch them live, and get the model back.",
        "integrations": [{"integration-name": _INTEGRATION, "tags": ["service"]}],
        "connection-types": [
            _connection_type("jobapi", "jobAPI", "hooks.jobapi.JobApiHook", JobApiConnection),
            _connection_type("modelarts", "ModelArts", "hooks.modelarts.ModelArtsHook", ModelArtsConnection),
            _connection_type(
                "sagemaker_ack", "SageMaker (ACK)", "hooks.sagemaker_ack.SageMakerAckHook", SageMakerConnection
            ),
            _connection_type(
                "train_container",
                "Train API (containers)",
                "hooks.train_container.TrainContainerHook",
                TrainConnection,
            ),
            _connection_type("mlflow", "MLflow", "hooks.mlflow.MlflowHook", MlflowConnection),
        ],
        "config": _CONFIG,
        "asset-uris": [
            {
                "schemes": ["jobapi"],
                "handler": "airflow_provider_jobapi.lineage.uri.sanitize_uri",
                "factory": "airflow_provider_jobapi.lineage.uri.create_asset",
                "to_openlineage_converter": "airflow_provider_jobapi.lineage.uri.convert_asset_to_openlineage",
            }
        ],
        "hooks": _modules(
            "hooks.base",
            "hooks.jobapi",
            "hooks.modelarts",
            "hooks.sagemaker_ack",
            "hooks.train_container",
            "hooks.mlflow",
        ),
        "operators": _modules(
            "operators.training",
            "operators.model",
            "operators.saved_model",
            "operators.register",
            "operators.train_container",
        ),
        "sensors": _modules("sensors.training"),
        "triggers": _modules("triggers.training", "triggers.new_data"),
        "task-decorators": [
            {"name": "training", "class-name": "airflow_provider_jobapi.decorators.training.training_task"}
        ],
        "extra-links": [
            "airflow_provider_jobapi.links.training.TrainingLink",
            "airflow_provider_jobapi.links.model.ModelLink",
            "airflow_provider_jobapi.links.registry.RegisteredModelLink",
        ],
    }


def _connection_type(conn_type: str, hook_name: str, hook: str, connection: type[ConnectionSettings]) -> dict[str, Any]:
    return {
        "connection-type": conn_type,
        "hook-name": hook_name,
        "hook-class-name": f"airflow_provider_jobapi.{hook}",
        "ui-field-behaviour": connection.field_behaviour(),
        "conn-fields": connection.conn_fields(),
    }


def _modules(*names: str) -> list[dict[str, Any]]:
    return [{"integration-name": _INTEGRATION, "python-modules": [f"airflow_provider_jobapi.{name}" for name in names]}]
