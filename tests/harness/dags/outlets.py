# SPDX-License-Identifier: Apache-2.0
"""Tasks with models in their outlets: an asset, an alias, a model that stays on the service."""

from __future__ import annotations

from airflow.sdk import DAG, Asset, AssetAlias

from airflow_provider_jobapi.operators.model import FetchSavedModelOperator
from airflow_provider_jobapi.operators.training import SubmitTrainingOperator

STUB = {"script": "scripts/stub.py", "config": "{{ dag_run.conf | tojson }}"}

with DAG("stub_outlets", schedule=None):
    train = SubmitTrainingOperator(
        task_id="train", outlets=[Asset("jobapi://jobapi_default/stub"), AssetAlias("stub_trained")], **STUB
    )
    FetchSavedModelOperator(
        task_id="fetch",
        job=train.output,
        destination="{{ dag_run.conf['models'] }}",
        version="7",
        outlets=[Asset("stub_model"), AssetAlias("stub_fetched")],
    )

with DAG("stub_outlets_destination", schedule=None):
    SubmitTrainingOperator(
        task_id="train", version="8", outlets=[Asset("stub_trained_and_fetched"), AssetAlias("stub_versions")], **STUB
    )
