# SPDX-License-Identifier: Apache-2.0
"""Parsing a DAG stays light."""

from __future__ import annotations

import pytest

from tests.benchmarks.imports import cost

HEAVY = {
    "aiohttp",
    "asgiref",
    "authlib",
    "boto3",
    "docker",
    "joserfc",
    "keystoneauth1",
    "kubernetes",
    "obstore",
    "requests",
}


@pytest.mark.parametrize(
    "statement",
    [
        "from airflow_provider_jobapi.operators.training import SubmitTrainingOperator",
        "from airflow_provider_jobapi.operators.model import FetchSavedModelOperator",
    ],
)
def test_an_operator_adds_little_to_a_dag_file(statement):
    paid = cost(statement)
    assert paid is not None
    assert len(paid.modules) <= 30, paid.modules
    assert not {module.partition(".")[0] for module in paid.modules} & HEAVY
