# SPDX-License-Identifier: Apache-2.0
"""The names under which OpenLineage knows data and models; the events themselves are read in the end-to-end tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.sdk import DAG, Asset, ObjectStoragePath

from airflow_provider_jobapi._airflow import AirflowFailException
from airflow_provider_jobapi.lineage.mixins import ServiceJob
from airflow_provider_jobapi.operators.model import FetchSavedModelOperator
from airflow_provider_jobapi.operators.training import SubmitTrainingOperator
from airflow_provider_jobapi.services.base import FetchedModel, ModelFile
from airflow_provider_jobapi.training.status import JobStatus

pytest.importorskip("airflow.providers.openlineage")


@pytest.mark.parametrize(
    ("uri", "dataset"),
    [
        ("/rows/a b.csv", ("file", "/rows/a b.csv")),
        ("file:///rows/a%20b.csv", ("file", "/rows/a b.csv")),
        ("s3://bucket/rows/a.csv", ("s3://bucket", "rows/a.csv")),
        ("s3://my_aws@bucket/rows/a.csv", ("s3://bucket", "rows/a.csv")),
        ("gs://bucket", ("gs://bucket", "/")),
    ],
)
def test_a_place_has_the_name_that_others_give_it(uri, dataset):
    from airflow_provider_jobapi.lineage.openlineage import dataset_of

    assert dataset_of(uri) == dataset


def train(**parameters) -> SubmitTrainingOperator:
    with DAG("lineage", schedule=None):
        return SubmitTrainingOperator(**{"task_id": "train", "script": "print(1)"} | parameters)


def names(datasets) -> list[tuple[str, str]]:
    return [(each.namespace, each.name) for each in datasets]


def test_what_goes_into_a_training():
    data = {
        "a.csv": Path("/rows/a.csv"),
        "b.csv": ObjectStoragePath("s3://conn@bucket/rows/b.csv"),
        "c.csv": "1,2\n",
    }
    told = train(data_input=data).get_openlineage_facets_on_start()
    assert names(told.inputs) == [
        ("file", "/rows/a.csv"),
        ("s3://bucket", "rows/b.csv"),
    ]
    assert told.outputs == []
    assert told.run_facets == {}
    assert told.job_facets["sourceCode"].sourceCode == "print(1)"


@pytest.mark.parametrize("conn_type", ["jobapi", "modelarts"])
def test_a_job_stands_in_the_namespace_of_its_connection(monkeypatch, conn_type):
    monkeypatch.setenv("AIRFLOW_CONN_MINE", f"{conn_type}://")
    operator = train(conn_id="mine", config={"jobName": "digits", "data_input": {"c.csv": "1"}})
    operator._lineage_job = ServiceJob.read("mine", "7", JobStatus(status="SUCCESSFUL", name="digits"), {"loss": 0.5})
    told = operator.get_openlineage_facets_on_complete(None)
    assert names(told.inputs) == [(f"{conn_type}://mine", "digits/c.csv")]
    assert names(told.outputs) == [(f"{conn_type}://mine", "digits")]
    assert told.run_facets["externalQuery"].source == f"{conn_type}://mine"
    assert (told.run_facets["jobapi_training"].jobId, told.run_facets["jobapi_training"].metrics) == (
        "7",
        {"loss": 0.5},
    )


def test_a_training_that_fetched_its_model_names_it_where_it_was_successful():
    operator = train(conn_id="mine", job_name="digits", destination="s3://models/digits")
    operator._lineage_job = ServiceJob("jobapi", "7", JobStatus(status="SUCCESSFUL", name="digits"), {})
    operator._lineage_model = FetchedModel("s3://models/digits/3", (ModelFile("m.onnx", 5, "a" * 64),))
    told = operator.get_openlineage_facets_on_complete(None)
    assert names(told.outputs) == [("jobapi://mine", "digits"), ("s3://models", "digits/3")]
    assert told.outputs[1].outputFacets["outputStatistics"].size == 5
    assert operator.get_openlineage_facets_on_failure(None).outputs == []
    operator._lineage_model = None
    assert names(operator.get_openlineage_facets_on_complete(None).outputs) == [("jobapi://mine", "digits")]


def test_a_folder_and_a_glob_are_told_as_folders():
    data = {
        "a": Path("/srv/rows/2026/*.csv"),
        "b": Path("/srv/labels"),
        "c": ObjectStoragePath("s3://my_aws@bucket/in/**/*.csv"),
    }
    told = train(data_input=data).get_openlineage_facets_on_start().inputs
    assert names(told) == [("file", "/srv/rows/2026"), ("file", "/srv/labels"), ("s3://bucket", "in")]


def test_of_many_files_the_folders_are_told():
    told = train(data_input={f"{n}.csv": Path(f"/rows/{n % 2}/{n}.csv") for n in range(3_000)})
    assert names(told.get_openlineage_facets_on_start().inputs) == [("file", "/rows/0"), ("file", "/rows/1")]


def test_inlets_and_outlets_are_told_too():
    operator = train(inlets=[Asset("jobapi://other/base")], outlets=[Asset("jobapi://jobapi_default/digits")])
    told = operator.get_openlineage_facets_on_failure(None)
    assert names(told.inputs) == [("jobapi://other", "base")]
    assert names(told.outputs) == [("jobapi://jobapi_default", "digits")]


def test_the_source_may_be_kept_back(monkeypatch):
    from airflow.providers.openlineage import conf

    for source in ("disabled", "not there"):
        with monkeypatch.context() as patch:
            if source == "disabled":
                patch.setattr(conf, "is_source_enabled", lambda: False)
            operator = train(script="print(1)" if source == "disabled" else Path("/not/there.py"))
            assert operator.get_openlineage_facets_on_start().job_facets == {}


def test_a_fetch_that_has_not_happened_tells_nothing():
    operator = FetchSavedModelOperator(task_id="fetch", job="1", destination="/models")
    for told in (
        operator.get_openlineage_facets_on_start(),
        operator.get_openlineage_facets_on_complete(None),
        operator.get_openlineage_facets_on_failure(None),
    ):
        assert (told.inputs, told.outputs) == ([], [])


def test_a_fetch_that_fails_names_its_job(jobapi_server, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_JOBAPI_DEFAULT", json.dumps(jobapi_server.connection))
    job_id = jobapi_server.submit("print('no model')")
    jobapi_server.wait_for(job_id)
    operator = FetchSavedModelOperator(task_id="fetch", job=job_id, destination="/models")
    with pytest.raises(AirflowFailException):
        operator.execute({})
    told = operator.get_openlineage_facets_on_failure(None)
    assert (told.inputs, told.outputs) == ([], [])
    facet = told.run_facets["jobapi_training"]
    assert (facet.jobId, facet.status) == (job_id, "SUCCESSFUL")


def test_the_operators_import_nothing_of_it():
    program = (
        "import sys, airflow_provider_jobapi.operators.training, airflow_provider_jobapi.operators.model; "
        "print([name for name in sys.modules if name.startswith('openlineage') or name.endswith('assets.lineage')])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"
