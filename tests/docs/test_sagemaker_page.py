# SPDX-License-Identifier: Apache-2.0
"""What the page about SageMaker says of the connection, the fields, the states and the limits is so."""

from __future__ import annotations

import ast
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_provider_jobapi.hooks.base import TrainingHook
from airflow_provider_jobapi.operators.training import SubmitTrainingOperator
from airflow_provider_jobapi.services.sagemaker_ack import (
    archive,
    instance_types,
    limits,
    model,
    options,
    schema,
    spec,
    status,
)  # fmt: skip
from airflow_provider_jobapi.services.sagemaker_ack.connection import SageMakerConnection
from airflow_provider_jobapi.services.sagemaker_ack.service import SageMakerAckService
from airflow_provider_jobapi.training.job import TrainingJob
from tests.harness.ack import CRD
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
        f"{limits.MOST_CHANNELS} channels, {limits.MOST_METRICS} metrics, {limits.MOST_TAGS} tags",
        f"{limits.MOST_TAGS} tags, {limits.LONGEST_RUNTIME // 86_400} days",
        f"more than {archive.LARGEST_RATIO} times its size (and {archive.ALWAYS_ALLOWED // 2**30} GiB)",
        f"Archives of more than {model.LARGEST_LISTED // 10**6} MB",
        f"{', '.join(instance_types.CHOSEN[:-1])} and {instance_types.CHOSEN[-1]}",
    ):
        assert sentence in SAID


def leaves_of_schema(node: Any, path: str = "") -> Iterator[str]:
    """The same of a schema."""
    if "properties" in node:
        for name, inner in node["properties"].items():
            yield from leaves_of_schema(inner, f"{path}.{name}".lstrip("."))
    elif "items" in node:
        yield from leaves_of_schema(node["items"], f"{path}[]")
    else:
        yield path


def leaves_of(reference: Any, path: str = "") -> Iterator[str]:
    """The fields of ACK's reference that have no fields of their own."""
    if isinstance(reference, dict) and reference:
        for name, inner in reference.items():
            yield from leaves_of(inner, f"{path}.{name}".lstrip("."))
    elif isinstance(reference, list):
        yield from leaves_of(reference[0], f"{path}[]")
    else:
        yield path


REFERENCE = yaml.safe_load(CRD.with_name("reference.yaml").read_text())


def test_every_field_of_acks_reference_is_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    of_spec = {row[0].strip("`") for row in rows(importlib.import_module("training_job_table").table())}
    assert {path.removesuffix("[]") for path in leaves_of(REFERENCE["spec"])} <= of_spec
    of_status = {
        path
        for row in rows(section(PAGE, "The state of a job").partition("Every field of the status")[2])
        for path in re.findall(r"`([\w.\[\]]+)`", row[0])
    } - {"status"}  # of the table's head
    assert set(leaves_of(REFERENCE["status"])) <= of_status
    definition = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]
    told = definition["schema"]["openAPIV3Schema"]["properties"]["status"]
    assert of_status == set(leaves_of_schema(told))


def test_every_word_of_a_state_is_known() -> None:
    words = {word for row in rows(section(PAGE, "The state of a job")) for word in re.findall(r"[A-Z]\w+", row[0])}
    assert words >= {"InProgress", "Completed", "Failed", "Stopping", "Stopped", *status._LIMITS}


def test_the_examples_are_jobs_that_can_run() -> None:
    shown = re.search(r"```python\n(from pathlib.*?)```", PAGE, re.DOTALL)
    assert shown
    found = list[dict[str, Any]]()
    code = shown[1].replace("from airflow_provider_jobapi.operators.training import SubmitTrainingOperator\n", "")
    exec(code, {"SubmitTrainingOperator": lambda **given: found.append(given)})  # noqa: S102 -- our own page
    assert [given["task_id"] for given in found] == ["pytorch", "xgboost"]
    for given in found:
        SubmitTrainingOperator(**given)
        job = TrainingJob.of(
            name=given["task_id"],
            resources=given.get("job_resources", {}),
            **({"script": "1"} if "script" in given else {}),
            **{
                name: given[name]
                for name in ("image", "env", "nodes", "completion_time", "service_options")
                if name in given
            },
        )
        folders = ["training"] if job.program else sorted({path.partition("/")[0] for path in given["data_input"]})
        places = spec.Places("s3://b", "s3://b/c" if job.program else "", {name: f"s3://b/{name}/" for name in folders})
        made = spec.build(
            job, spec.Identity("1", "n", "d"), connection(), options.Options.of(job.service_options), places
        )
        assert schema.unknown(made["spec"]) == ()
        assert made["spec"]["algorithmSpecification"]["trainingImage"] == given["image"]


def test_the_uri_is_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = re.search(r"`(sagemaker-ack://\S+)`", PAGE)
    assert shown
    monkeypatch.setenv("AIRFLOW_CONN_BY_URI", shown[1])
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", "aws://")
    service = TrainingHook.service_of("by_uri")
    assert isinstance(service, SageMakerAckService)
    assert service.connection.role_arn == connection().role_arn


def test_the_hidden_fields_are_those_that_are_not_used() -> None:
    behaviour = SageMakerConnection.field_behaviour()
    assert set(behaviour["hidden-fields"]) == {"host", "login", "password", "schema"}
    assert behaviour["relabeling"] == {"port": "Port (enter 0)"}, "without it the Test button is refused"


def test_the_form_says_what_an_empty_field_means() -> None:
    told = {name: field["description"] for name, field in SageMakerConnection.conn_fields().items()}
    assert told["bucket"].endswith(" in the same region. Required.")
    assert told["namespace"].endswith(" If empty: the namespace of the Kubernetes connection, else default.")
    assert told["prefix"].endswith(" one folder for each job."), "the form shows the default"


POLICIES = sorted((DOCS / "sagemaker_ack" / "iam").iterdir())


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_the_policies_are_shown_and_name_what_the_page_names(path: Path) -> None:
    policy = json.loads(path.read_text())
    assert policy["Version"] == "2012-10-17"
    assert f"sagemaker_ack/iam/{path.name}" in PAGE
    names = {"my-trainings", "my-trainings/jobs/*", "role/training", "123456789012", "eu-central-1", "*"}
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow"
        assert any(name in statement.get("Resource", "*") for name in names)


def test_the_policy_of_airflow_allows_what_is_called() -> None:
    allowed = {
        action
        for statement in json.loads((DOCS / "sagemaker_ack" / "iam" / "airflow.json").read_text())["Statement"]
        for action in [statement["Action"], *statement["Action"]]
        if isinstance(action, str)
    }
    room = Path(spec.__file__).parent
    called = {name for file in room.glob("*.py") for name in re.findall(CALL, file.read_text())}
    assert called == {
        "describe_log_streams",
        "get_log_events",
        "describe_training_job",
        "get_bucket_location",
        "get_caller_identity",
    }
    named = {name.partition(":")[2].lower() for name in allowed}
    assert {each.replace("_", "") for each in called - {"get_caller_identity"}} <= named  # which needs no right


CALL = r"\b(describe_log_streams|get_log_events|describe_\w+_job|get_bucket_\w+|get_caller_identity|put_\w+_object)\b"
