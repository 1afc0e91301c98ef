# SPDX-License-Identifier: Apache-2.0
"""What the page about SageMaker says of the connection, the fields, the states and the limits is so."""

from __future__ import annotations

import ast
import importlib
import json
import re
from pathlib import Path

import pytest

from airflow_provider_jobapi.services.sagemaker_ack import archive, instance_types, limits, model, options, schema, spec
from airflow_provider_jobapi.services.sagemaker_ack.connection import SageMakerConnection
from airflow_provider_jobapi.training.job import TrainingJob
from tests.harness.pages import rows, section

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "sagemaker.md").read_text()
SAID = " ".join(PAGE.split())


def connection() -> SageMakerConnection:
    """The one that the page shows."""
    shown = re.search(r"AIRFLOW_CONN_SAGEMAKER_DEFAULT='(.*?)'$", PAGE, re.DOTALL | re.MULTILINE)
    assert shown
    given = json.loads(shown[1])
    assert given.pop("conn_type") == "sagemaker_ack"
    return SageMakerConnection.of(**given)


def test_the_connection_and_the_options_of_the_page_make_a_job() -> None:
    shown = re.search(r"^service_options = (\{.*?^\})", PAGE, re.DOTALL | re.MULTILINE)
    assert shown
    given = TrainingJob.of(name="t", script="1", image="tensorflow", service_options=ast.literal_eval(shown[1]))
    places = spec.Places(output="s3://b", code="s3://b/c", channels={"training": "s3://b/d/"})
    made = spec.build(
        given, spec.Identity("1", "n", "d"), connection(), options.Options.of(given.service_options), places
    )
    assert schema.unknown(made["spec"]) == ()


def test_the_options() -> None:
    table = {row[0].strip("`"): row[1] for row in rows(section(PAGE, "Every field"))}
    assert table == {"option": "meaning", **options.SHORTCUTS}


def test_every_field_is_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    table = importlib.import_module("training_job_table").table
    told = [row[0].strip("`") for row in rows(table())]
    assert all(
        any(each == path or each.startswith((f"{path}.", f"{path}[]")) for each in told) for path in schema.fields()
    )
    assert options.FROM_PARAMETERS.keys() <= set(told)


def test_the_fields_that_parameters_set_are_those_of_the_table() -> None:
    given = TrainingJob.of(
        name="t", script="1", image="tensorflow", env={"A": 1}, env_vars={"B": 1},
        metric_definitions=({"name": "a", "regex": "(a)"},), service_options={"enableManagedSpotTraining": True},
    )  # fmt: skip
    places = spec.Places("s3://b", "s3://b/c", {"training": "s3://b/d/"}, "s3://b/k/")
    made = spec.build(
        given, spec.Identity("1", "n", "d"), connection(), options.Options.of(given.service_options), places
    )["spec"]
    del made["enableManagedSpotTraining"]

    def leaves(value: object, path: str) -> set[str]:
        if path in {"hyperParameters", "environment"}:
            return {path}
        if isinstance(value, dict):
            return {leaf for name, each in value.items() for leaf in leaves(each, f"{path}.{name}".lstrip("."))}
        if isinstance(value, list):
            return {leaf for each in value for leaf in leaves(each, f"{path}[]")}
        return {path}

    assert leaves(made, "") == options.FROM_PARAMETERS.keys()


def test_the_numbers() -> None:
    for sentence in (
        f"{limits.MOST_HYPERPARAMETERS} hyperparameters of {limits.LONGEST_HYPERPARAMETER} characters",
        f"{limits.MOST_VARIABLES} environment variables of {limits.LONGEST_VARIABLE}",
        f"{limits.MOST_CHANNELS} channels, {limits.MOST_METRICS} metrics, {limits.LONGEST_RUNTIME // 86_400} days",
        f"more than {archive.LARGEST_RATIO} times its size (and {archive.ALWAYS_ALLOWED // 2**30} GiB)",
        f"Archives of more than {model.LARGEST_LISTED // 10**6} MB",
        f"{', '.join(instance_types.CHOSEN[:-1])} and {instance_types.CHOSEN[-1]}",
    ):
        assert sentence in SAID
