# SPDX-License-Identifier: Apache-2.0
"""The check of a spec against the schema of the custom resource."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.sagemaker_ack import schema

DATA = Path(__file__).parents[2] / "harness" / "ack" / "data"


def without_descriptions(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    kept = {name: each for name, each in node.items() if name != "description" or isinstance(each, dict)}
    return {name: without_descriptions(each) for name, each in kept.items()}


def test_the_schema_is_the_one_of_the_crd() -> None:
    crd = yaml.safe_load((DATA / "trainingjobs_crd.yaml").read_text())
    root = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert schema.spec_schema() == without_descriptions(root["properties"]["spec"])


def test_the_schema_uses_no_word_that_is_not_checked() -> None:
    found: set[str] = set()

    def visit(node: Any) -> None:
        found.update(node)
        for inner in (*node.get("properties", {}).values(), node.get("items"), node.get("additionalProperties")):
            if isinstance(inner, dict):
                visit(inner)

    visit(schema.spec_schema())
    assert found == {"type", "properties", "items", "additionalProperties", "required", "format"}


@pytest.mark.parametrize("path", [*sorted((DATA / "observed").iterdir()), DATA / "sample_training_job.yaml"], ids=str)
def test_objects_of_the_controller_fit(path: Path) -> None:
    spec = yaml.safe_load(path.read_text())["spec"]
    assert schema.fitted(spec) == spec
    assert schema.unknown(spec) == ()
    assert schema.missing(spec) == ()


def test_values_become_what_the_api_wants() -> None:
    given = {
        "hyperParameters": {"max_depth": 5, "eta": 0.2, "objective": "multi:softmax"},
        "resourceConfig": {"instanceCount": "2", "volumeSizeInGB": 50.0},
        "enableManagedSpotTraining": "True",
    }
    assert schema.fitted(given) == {
        "hyperParameters": {"max_depth": "5", "eta": "0.2", "objective": "multi:softmax"},
        "resourceConfig": {"instanceCount": 2, "volumeSizeInGB": 50},
        "enableManagedSpotTraining": True,
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"resourceConfig": {"volumeSizeInGB": "big"}},
            "spec.resourceConfig.volumeSizeInGB is a str; it must be an int",
        ),
        ({"resourceConfig": {"instanceCount": 1.5}}, "spec.resourceConfig.instanceCount is 1.5; it must be an integer"),
        (
            {"resourceConfig": {"instanceCount": True}},
            "spec.resourceConfig.instanceCount is True; it must be an integer",
        ),
        ({"resourceConfig": {"instanceCount": 2**63}}, "spec.resourceConfig.instanceCount is 9223"),
        ({"resourceConfig": []}, "spec.resourceConfig is a list; it must be an object"),
        ({"hyperParameters": {"a": True}}, "spec.hyperParameters.a is True; it must be a text"),
        ({"hyperParameters": {"a": {"b": 1}}}, "spec.hyperParameters.a is a dict; it must be a text"),
        ({"tags": [{"key": "a"}, {"key": []}]}, "spec.tags[1].key is a list; it must be a text"),
        ({"tags": [None]}, "spec.tags[0] is None; it must be an object"),
        ({"tags": [{"key": "a", "value": None}]}, "spec.tags[0].value is None; it must be a text"),
        (
            {"inputDataConfig": [{"dataSource": {"s3DataSource": {"attributeNames": ["a", 1, {}]}}}]},
            "spec.inputDataConfig[0].dataSource.s3DataSource.attributeNames[2] is a dict; it must be a text",
        ),
        ({"vpcConfig": {"subnets": "s-1"}}, "spec.vpcConfig.subnets is a str; it must be a list"),
        ({"enableNetworkIsolation": "perhaps"}, "spec.enableNetworkIsolation is a str; it must be true or false"),
    ],
)
def test_the_error_names_the_path_and_no_text(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidJob, match=re.escape(f"service_options: {words}")):
        schema.fitted(given)


def test_unknown_fields_are_found_and_kept() -> None:
    given = {"roleArn": "x", "inputDataConfig": [{"channelName": "a", "colour": 1}], "environment": {"any": "name"}}
    assert schema.unknown(given) == ("roleArn", "inputDataConfig[0].colour")
    assert schema.fitted(given) == given


def test_what_the_cluster_dropped() -> None:
    sent = {"a": {"b": 1, "c": [{"d": 1}, {"d": 2, "e": 3}]}, "f": "x"}
    assert schema.dropped(sent, sent) == ()
    assert schema.dropped(sent, {"a": {"b": 1, "c": [{"d": 1}, {"d": 2}]}, "f": "x", "more": 1}) == ("a.c[1].e",)
    assert schema.dropped(sent, {"a": {"b": 1, "c": []}}) == ("a.c", "f")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("roleArn", "no field spec.roleArn; 'roleARN' may be meant, in ACK's spelling."),
        ("resourceConfig.VolumeSizeInGb", "'volumeSizeInGB' may be meant"),
        ("inputDataConfig[0].dataSource.s3DataSource.s3Uri", "'s3URI' may be meant"),
        ("vpcConfig.subnetIDs", "'subnets' may be meant"),
        ("resourceConfig.subnets", "it may belong to 'vpcConfig'."),
        ("checkpointConfig.xyz", "no field spec.checkpointConfig.xyz. It may have localPath, s3URI."),
        ("instanceType", "no field spec.instanceType; it may belong to 'debugRuleConfigurations[]' or"),
        ("subnets", "no field spec.subnets; it may belong to 'vpcConfig'."),
        ("infraCheckConfig", "Its CRD is older than the one of sagemaker-controller 1.9.1"),
        ("inputDataConfig[3].dataSource.s3DataSource.hubAccessConfig", "Its CRD is older"),
    ],
)
def test_what_was_dropped_is_refused(path: str, words: str) -> None:
    with pytest.raises(InvalidJob, match=re.escape(words)):
        schema.check_known((path,))
    schema.check_known(())


def test_fields_are_those_of_the_documentation() -> None:
    assert "inputDataConfig[].dataSource.s3DataSource.s3URI" in schema.fields()
    assert "resourceConfig.instancePlacementConfig.placementSpecifications[].ultraServerID" in schema.fields()
    assert len(schema.fields()) > 100
