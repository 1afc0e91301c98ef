# SPDX-License-Identifier: Apache-2.0
"""What Airflow asks of a provider: its connection types, their forms, and where its classes are."""

from __future__ import annotations

from typing import Any

_INTEGRATION = "jobAPI"

_JOBAPI_FIELDS: dict[str, Any] = {
    "token_url": {
        "label": "Token URL",
        "description": "Where OAuth2 tokens are; by default the host and /oauth/token.",
        "schema": {"type": ["string", "null"], "format": "url"},
    },
    "token_method": {
        "label": "Token method",
        "description": "How the token server wants to be asked: with POST or GET, with HTTP Basic or a form.",
        "schema": {
            "type": ["string", "null"],
            "enum": ["post_basic", "post_form", "get_basic"],
            "default": "post_basic",
        },
    },
    "scope": {
        "label": "Scope",
        "description": "The OAuth2 scope, where the token server wants one.",
        "schema": {"type": ["string", "null"]},
    },
    "version": {
        "label": "API version",
        "description": "The API's version, a part of every path.",
        "schema": {"type": ["string", "null"], "default": "v2"},
    },
    "verify": {
        "label": "Verify TLS",
        "description": "Whether certificates are checked.",
        "schema": {"type": ["boolean", "null"], "default": True},
    },
    "ca_bundle": {
        "label": "CA bundle",
        "description": "A PEM file, on workers and triggerers, of the authorities to trust and no others.",
        "schema": {"type": ["string", "null"]},
    },
    "client_cert": {
        "label": "Client certificate",
        "description": "A PEM file, on workers and triggerers, where the service asks for a certificate.",
        "schema": {"type": ["string", "null"]},
    },
    "client_key": {
        "label": "Client key",
        "description": "The key of the client certificate, where it is in a file of its own.",
        "schema": {"type": ["string", "null"]},
    },
    "proxy": {
        "label": "Proxy",
        "description": "An HTTP proxy for everything; by default the environment says it.",
        "schema": {"type": ["string", "null"], "format": "password"},
    },
    "timeout": {
        "label": "Timeout",
        "description": "Seconds of silence after which an answer is given up.",
        "schema": {"type": ["integer", "null"], "default": 30},
    },
}

_CONFIG = {
    "jobapi": {
        "description": "How trainings are followed.",
        "options": {
            "log_resume": {
                "description": (
                    "What a triggerer does that goes on with a training's log: ``replay`` writes all lines "
                    "anew under the same times, which Airflow merges where logs are files, or lie in S3, GCS "
                    "or WASB; ``cursor`` leaves out what is written, for CloudWatch, Elasticsearch and "
                    "OpenSearch, where lines that were written twice are shown twice."
                ),
                "version_added": None,
                "type": "string",
                "example": "cursor",
                "default": "replay",
            }
        },
    }
}


_MODELARTS_FIELDS: dict[str, Any] = {
    "iam_url": {
        "label": "IAM URL",
        "description": "Where tokens are, such as https://iam.eu-de.otc.t-systems.com/v3.",
        "schema": {"type": ["string", "null"], "format": "url"},
    },
    "domain": {
        "label": "Domain",
        "description": "The name of the account that the user belongs to.",
        "schema": {"type": ["string", "null"]},
    },
    "project": {
        "label": "Project",
        "description": "The project's name, such as eu-de.",
        "schema": {"type": ["string", "null"]},
    },
    "region": {
        "label": "Region",
        "description": "The region of OBS; by default the project's name up to its first underscore.",
        "schema": {"type": ["string", "null"]},
    },
    "obs_endpoint": {
        "label": "OBS endpoint",
        "description": "Where OBS is, such as https://obs.eu-de.otc.t-systems.com.",
        "schema": {"type": ["string", "null"]},
    },
    "obs_access_key": {
        "label": "OBS access key",
        "description": "The access key (AK) to OBS.",
        "schema": {"type": ["string", "null"]},
    },
    "obs_secret_key": {
        "label": "OBS secret key",
        "description": "The secret key (SK) to OBS.",
        "schema": {"type": ["string", "null"], "format": "password"},
    },
    "bucket": {
        "label": "Bucket",
        "description": "The bucket of OBS for the files of jobs.",
        "schema": {"type": ["string", "null"]},
    },
    "prefix": {
        "label": "Prefix",
        "description": "The folder in the bucket below which each job has its own.",
        "schema": {"type": ["string", "null"], "default": "jobs"},
    },
    "dialect": {
        "label": "Dialect",
        "description": "Which API is spoken: v2, or v1 (the old version of training management).",
        "schema": {"type": ["string", "null"], "enum": ["v1", "v2"], "default": "v2"},
    },
    "engine": {
        "label": "Engine",
        "description": "The engine, as name:version, of jobs whose image names no exact one.",
        "schema": {"type": ["string", "null"]},
    },
    "workspace_id": {
        "label": "Workspace",
        "description": "The id of the workspace, where the account has several.",
        "schema": {"type": ["string", "null"], "default": "0"},
    },
    "poll_interval": {
        "label": "Poll interval",
        "description": "Seconds from one look at a job to the next.",
        "schema": {"type": ["number", "null"], "default": 10},
    },
} | {name: _JOBAPI_FIELDS[name] for name in ("verify", "ca_bundle", "proxy", "timeout")}


def get_provider_info() -> dict[str, Any]:
    """The provider, in the shape of Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-provider-jobapi",
        "name": "jobAPI",
        "description": "Train models on a job service, watch them live, and get the SavedModel back.",
        "integrations": [{"integration-name": _INTEGRATION, "tags": ["service"]}],
        "connection-types": [
            {
                "connection-type": "jobapi",
                "hook-name": "jobAPI",
                "hook-class-name": "airflow_provider_jobapi.hooks.jobapi.JobApiHook",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema"],
                    "relabeling": {"host": "Address", "login": "Client ID", "password": "Client secret"},
                    "placeholders": {"host": "https://jobs.example.com"},
                },
                "conn-fields": _JOBAPI_FIELDS,
            },
            {
                "connection-type": "modelarts",
                "hook-name": "ModelArts",
                "hook-class-name": "airflow_provider_jobapi.hooks.modelarts.ModelArtsHook",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema"],
                    "relabeling": {"host": "ModelArts endpoint", "login": "IAM user", "password": "IAM password"},
                    "placeholders": {"host": "https://modelarts.eu-de.otc.t-systems.com"},
                },
                "conn-fields": _MODELARTS_FIELDS,
            },
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
        "hooks": _modules("hooks.base", "hooks.jobapi", "hooks.modelarts"),
        "operators": _modules("operators.training", "operators.saved_model"),
        "sensors": _modules("sensors.training"),
        "triggers": _modules("triggers.training", "triggers.new_data"),
        "task-decorators": [
            {"name": "training", "class-name": "airflow_provider_jobapi.decorators.training.training_task"}
        ],
        "extra-links": [
            "airflow_provider_jobapi.links.training.TrainingLink",
            "airflow_provider_jobapi.links.model.ModelLink",
        ],
    }


def field_behaviour(conn_type: str) -> dict[str, Any]:
    """How the form of a connection type names and hides the fields that every connection has."""
    found: dict[str, Any] = _connection_type(conn_type)["ui-field-behaviour"]
    return found


def connection_fields(conn_type: str) -> dict[str, Any]:
    """The fields of a connection type's own, which are kept in the connection's extra."""
    found: dict[str, Any] = _connection_type(conn_type)["conn-fields"]
    return found


def _connection_type(conn_type: str) -> dict[str, Any]:
    types: list[dict[str, Any]] = get_provider_info()["connection-types"]
    return next(each for each in types if each["connection-type"] == conn_type)


def _modules(*names: str) -> list[dict[str, Any]]:
    return [{"integration-name": _INTEGRATION, "python-modules": [f"airflow_provider_jobapi.{name}" for name in names]}]
