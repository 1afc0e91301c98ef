# SPDX-License-Identifier: Apache-2.0
"""The URI of a model on its service, as Airflow reads it from a DAG."""

from __future__ import annotations

import subprocess
import sys

import pytest
from airflow.sdk import Asset

from airflow_provider_jobapi.lineage.uri import create_asset


@pytest.mark.parametrize(
    "uri", ["jobapi://jobapi_default/digits", "JOBAPI://jobapi_default/digits/", "jobapi://jobapi_default/digits#x"]
)
def test_one_spelling_is_kept(uri):
    assert Asset(uri).uri == "jobapi://jobapi_default/digits"


@pytest.mark.parametrize(
    "uri",
    [
        "jobapi://jobapi_default",
        "jobapi://jobapi_default/digits/7",
        "jobapi:///digits",
        "jobapi://jobapi_default/digits?version=7",
        "jobapi://me@jobapi_default/digits",
        "jobapi://jobapi_default/-digits",
        "jobapi://jobapi_default/di gits",
        "jobapi://jobapi default/digits",
        "jobapi://jobapi_default/{{ name }}",
    ],
)
def test_what_names_no_model_is_said_so(uri):
    with pytest.raises(ValueError, match=r"names no model: it must be jobapi://<connection id>/<job name>, such as "):
        Asset(uri)


def test_the_factory_makes_the_same():
    assert create_asset(job_name="digits", extra={"owner": "us"}) == Asset(
        "jobapi://jobapi_default/digits", extra={"owner": "us"}
    )
    with pytest.raises(ValueError, match="names no model"):
        create_asset(conn_id="a/b", job_name="digits")


def test_naming_one_imports_nothing_heavy():
    program = "import sys, airflow_provider_jobapi.lineage.uri; print([n for n in sys.modules if n == 'airflow'])"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_openlineage_knows_it_by_the_same_name():
    pytest.importorskip("openlineage.client")
    translate = pytest.importorskip("airflow.providers.common.compat.openlineage.utils.utils").translate_airflow_asset
    dataset = translate(Asset("jobapi://jobapi_default/digits"), None)
    assert (dataset.namespace, dataset.name) == ("jobapi://jobapi_default", "digits")
