# SPDX-License-Identifier: Apache-2.0
"""Secrets are refused wherever others could read them."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from typing import Any
from urllib.parse import quote

import pytest

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.sagemaker_ack import exposure
from tests.services.sagemaker_ack.building import build, job

SECRET = "hunter2-secret/of@ours"


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"env": {"KEY": f"pass {SECRET}"}}, "hyperParameters.key"),
        ({"env_vars": {"KEY": SECRET}}, "environment.KEY"),
        ({"env_vars": {"URL": f"postgres://user:{quote(SECRET, safe='')}@host/db"}}, "environment.URL"),
        ({"env_vars": {"CODED": b64encode(f"x:{SECRET}".encode()).decode()}}, "environment.CODED"),
        ({"service_options": {"tags": [{"key": "a", "value": SECRET}]}}, "service_options.tags[0].value"),
        ({"service_options": {"tags": [{"key": SECRET}]}}, "service_options.tags[0].key"),
        ({"service_options": {"environment": {"A": json.dumps({"b": SECRET})}}}, "environment.A"),
        ({"service_options": {"hyperParameters": {SECRET: "1"}}}, "hyperParameters"),
        ({"service_options": {"debugHookConfig": {"hookParameters": {SECRET: "1"}}}},
         "service_options.debugHookConfig.hookParameters"),
        ({"service_options": {"debugRuleConfigurations": [{"ruleParameters": {"a": SECRET}}]}},
         "service_options.debugRuleConfigurations[0].ruleParameters.a"),
        ({"service_options": {"retryStrategy": {"fieldOfTomorrow": [[SECRET]]}}},
         "service_options.retryStrategy.fieldOfTomorrow[0][0]"),
        ({"arguments": ["--key", SECRET]}, "arguments[1]"),
        ({"data": {f"in/{SECRET}.csv": "1"}}, "data_input[0]"),
        ({"metric_definitions": ({"name": "loss", "regex": f"{SECRET}=(.*)"},)}, "metric_definitions[0].regex"),
        ({"image": f"registry/{SECRET}"}, "image"),
    ],
)  # fmt: skip
def test_secrets_are_refused(more: dict[str, Any], place: str) -> None:
    given = job(**more)
    made = build(given)["spec"]
    with pytest.raises(InvalidJob, match="^" + re.escape(f"{place} contains a secret of Airflow's")) as refused:
        exposure.refuse_secrets(given, made, lambda: frozenset({SECRET, "another-one"}))
    assert "hunter2" not in str(refused.value)
    assert "AWS Secrets Manager" in str(refused.value)
    if place != "environment.URL":
        exposure.refuse_secrets(given, made, frozenset)


@pytest.mark.parametrize(
    "text",
    ["postgres://user:pass@host/db", "https://:token@index/simple", "key AKIAIOSFODNN7EXAMPLE", "ASIA" + "Q" * 16],
)
def test_credentials_are_refused_that_airflow_does_not_know(text: str) -> None:
    """SageMaker would refuse them itself, again and again."""
    given = job(env_vars={"VALUE": text})
    with pytest.raises(
        InvalidJob, match=r"^environment\.VALUE contains a password or the id of an access key"
    ) as refused:
        exposure.refuse_secrets(given, build(given)["spec"], frozenset)
    assert text not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "https://host:8080/path@v1",
        "s3://bucket/a:b@c",
        "pkg @ git+ssh://git@host/x",
        "image@sha256:" + "a" * 64,
        "AKIA",
    ],
)
def test_what_is_no_credential(text: str) -> None:
    given = job(env_vars={"VALUE": text})
    exposure.refuse_secrets(given, build(given)["spec"], lambda: frozenset({"not-in-there"}))
