# SPDX-License-Identifier: Apache-2.0
"""The double's rules against the objects that the real controller leaves in its own tests, and against its source."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.harness.ack import OBSERVED, rules
from tests.harness.ack.rules import AwsError

METADATA = {"ownerAccountID": "", "region": ""}
NEVER = "0001-01-01T00:00:00Z"


def observed(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((OBSERVED / f"{name}.yaml").read_text()))


def described(status: dict[str, Any]) -> dict[str, Any]:
    """What DescribeTrainingJob answered where the controller then wrote this status."""
    return {name: status[name] for name in rules.COPIED if name in status} | {
        "arn": status["ackResourceMetadata"]["arn"]
    }


def timeless(status: dict[str, Any]) -> dict[str, Any]:
    conditions = [{**each, "lastTransitionTime": NEVER} for each in status["conditions"]]
    return {**status, "conditions": conditions}


def conditions(status: dict[str, Any]) -> dict[str, str]:
    return {each["type"]: each["status"] for each in status["conditions"]}


@pytest.mark.parametrize("name", ["completed", "created", "stopping"])
def test_a_read_job_gives_the_status_of_the_real_controller(name: str) -> None:
    golden = observed(name)["status"]
    assert timeless(rules.observed(described(golden), METADATA)) == timeless(golden)


def test_an_error_while_reading_gives_the_status_of_the_real_controller() -> None:
    golden = observed("error_on_describe")["status"]
    before = {"ackResourceMetadata": golden["ackResourceMetadata"], "conditions": []}
    error = AwsError("ServiceUnavailable", "Server is down", 0)
    assert rules.with_error(before, error) == golden


def test_every_golden_object_is_held() -> None:
    assert {path.stem for path in OBSERVED.glob("*.yaml")} == {"completed", "created", "stopping", "error_on_describe"}


@pytest.mark.parametrize("name", ["completed", "created", "stopping"])
def test_the_defaults_that_the_controller_writes_are_in_its_objects(name: str) -> None:
    spec = observed(name)["spec"]
    assert rules.initialized(spec) | {"outputDataConfig": None} == spec | {"outputDataConfig": None}


@pytest.mark.parametrize(
    ("code", "kind", "again"),
    [
        ("InvalidParameterValue", rules.TERMINAL, None),
        ("ResourceInUse", rules.TERMINAL, None),
        ("MissingParameter", rules.TERMINAL, None),
        ("ValidationException", rules.RECOVERABLE, rules.BACKOFF_SECONDS),
        ("AccessDeniedException", rules.RECOVERABLE, rules.BACKOFF_SECONDS),
        ("ThrottlingException", rules.RECOVERABLE, rules.BACKOFF_SECONDS),
    ],
)
def test_what_is_tried_again(code: str, kind: str, again: float | None) -> None:
    status = rules.ensured(rules.with_error({"conditions": []}, AwsError(code, "no")), "no")
    assert conditions(status)[kind] == "True"
    assert rules.look_again(status) == again
    # A terminal state does not change, so the controller calls it synced.
    assert conditions(status)[rules.SYNCED] == conditions(status)[rules.READY] == str(kind == rules.TERMINAL)


@pytest.mark.parametrize(
    ("status", "synced"),
    [("InProgress", "False"), ("Stopping", "False"), ("Completed", "True"), ("Failed", "True"), ("Stopped", "True")],
)
def test_synced_means_settled_and_not_successful(status: str, synced: str) -> None:
    found = rules.observed({"arn": "a", "trainingJobStatus": status}, METADATA)
    assert conditions(found) == {rules.SYNCED: synced}
    assert rules.look_again(found) == (rules.SYNCED_SECONDS if synced == "True" else rules.OUT_OF_SYNC_SECONDS)


def test_a_completed_job_is_out_of_sync_while_its_rules_are_evaluated() -> None:
    rule = {"ruleConfigurationName": "overfit", "ruleEvaluationStatus": "InProgress"}
    job = {"arn": "a", "trainingJobStatus": "Completed"}
    assert conditions(rules.observed({**job, "debugRuleEvaluationStatuses": [rule]}, METADATA))[rules.SYNCED] == "False"
    profiled = {**job, "profilerRuleEvaluationStatuses": [rule]}
    assert conditions(rules.observed({**profiled, "profilingStatus": "Enabled"}, METADATA))[rules.SYNCED] == "False"
    assert conditions(rules.observed({**profiled, "profilingStatus": "Disabled"}, METADATA))[rules.SYNCED] == "True"


@pytest.mark.parametrize(
    ("status", "stop", "release"),
    [
        (None, True, False),
        ("InProgress", True, False),
        ("Stopping", False, False),
        ("Completed", False, True),
        ("Failed", False, True),
        ("Stopped", False, True),
        ("Paused", False, True),
    ],
)
def test_what_a_deletion_does(status: str | None, stop: bool, release: bool) -> None:
    assert rules.on_delete(status) == rules.Step(stop=stop, release=release)


def test_a_job_that_is_not_its_own_is_shown_with_a_terminal_condition() -> None:
    status = rules.not_managed(rules.observed({"arn": "a", "trainingJobStatus": "Completed"}, METADATA))
    assert status["trainingJobStatus"] == "Completed"
    assert conditions(status) == {rules.SYNCED: "True", rules.TERMINAL: "True"}
    assert status["conditions"][1]["message"] == "Resource already exists"
