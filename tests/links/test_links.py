# SPDX-License-Identifier: Apache-2.0
"""Where the links of a training task lead."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from airflow_provider_jobapi.links.model import ModelLink, page_of
from airflow_provider_jobapi.links.registry import RegisteredModelLink
from airflow_provider_jobapi.links.training import TrainingLink


class Key(NamedTuple):
    """As Airflow's TaskInstanceKey, which moves from version to version."""

    dag_id: str
    task_id: str
    run_id: str
    try_number: int
    map_index: int


KEY = Key(dag_id="a/dag", task_id="group.train", run_id="manual__2026-11-21T09:28:37+00:00", try_number=1, map_index=-1)
TAB = "dags/a%2Fdag/runs/manual__2026-11-21T09%3A28%3A37%2B00%3A00/tasks/group.train/plugin/jobapi-training"


def test_the_tab_of_a_task_and_of_a_mapped_one():
    assert TrainingLink().get_link(None, ti_key=KEY) == TAB
    mapped = KEY._replace(map_index=3)
    assert TrainingLink().get_link(None, ti_key=mapped) == TAB.replace("/plugin", "/mapped/3/plugin")


@pytest.mark.parametrize(
    ("location", "page"),
    [
        ("s3://b/models/7", "https://console.aws.amazon.com/s3/buckets/b?prefix=models/7/"),
        ("s3://conn@b/a b/7/", "https://console.aws.amazon.com/s3/buckets/b?prefix=a%20b/7/"),
        ("gs://b/models/7", "https://console.cloud.google.com/storage/browser/b/models/7"),
        ("https://models.example/7", "https://models.example/7"),
        ("file:///models/7", None),
        ("abfs://c@account/7", None),
        ("javascript:alert(1)", None),
        ("s3://[", None),
        ("s3:///7", None),
        ("", None),
    ],
)
def test_the_page_that_shows_a_model(location, page):
    assert page_of(location) == page


@pytest.fixture
def result(mocker):
    """What the task's result is; only a worker has a real one."""
    return mocker.patch("airflow.sdk.execution_time.xcom.XCom.get_value")


@pytest.mark.parametrize("told", [None, {"model": None}, {"model": 7}, ["s3://b/7"], {"model": "file:///models/7"}])
def test_a_model_without_a_page_leads_to_the_tab(result, told):
    result.return_value = told
    assert ModelLink().get_link(None, ti_key=KEY) == TAB


def test_a_result_that_cannot_be_read_leads_to_the_tab(result):
    result.side_effect = RuntimeError("no supervisor")
    assert ModelLink().get_link(None, ti_key=KEY) == TAB


@pytest.mark.parametrize("told", [{"model": "s3://b/models/7"}, "s3://b/models/7"])
def test_the_model_of_a_training_and_of_a_fetch(result, told):
    result.return_value = told
    assert ModelLink().get_link(None, ti_key=KEY) == page_of("s3://b/models/7")


def test_a_bucket_of_another_server_has_no_page_of_the_cloud(result, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_MINIO", '{"conn_type": "aws", "extra": {"endpoint_url": "http://minio:9000"}}')
    monkeypatch.setenv("AIRFLOW_CONN_AMAZON", '{"conn_type": "aws"}')
    result.return_value = {"model": "s3://minio@b/models/7"}
    assert ModelLink().get_link(None, ti_key=KEY) == TAB
    result.return_value = {"model": "s3://unknown@b/models/7"}
    assert ModelLink().get_link(None, ti_key=KEY) == TAB
    result.return_value = {"model": "s3://amazon@b/models/7"}
    assert ModelLink().get_link(None, ti_key=KEY) == page_of("s3://b/models/7")


PAGE = "https://mlflow.example.com/#/models/digits/versions/3"


@pytest.mark.parametrize(
    ("told", "page"),
    [({"url": PAGE}, PAGE), ({"url": "javascript:alert(1)"}, ""), ({}, ""), (None, ""), ("models:/digits/3", "")],
)
def test_the_page_of_a_registered_version(result, told, page):
    result.return_value = told
    assert RegisteredModelLink().get_link(None, ti_key=KEY) == page


def test_a_registration_that_cannot_be_read_has_no_page(result):
    result.side_effect = RuntimeError("no supervisor")
    assert RegisteredModelLink().get_link(None, ti_key=KEY) == ""
