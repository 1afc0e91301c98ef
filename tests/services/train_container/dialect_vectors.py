# SPDX-License-Identifier: Apache-2.0
"""Responses of every dialect, with what they mean."""

from __future__ import annotations

from typing import Any

SEED = {
    "requirements": [{"id": 0, "requirement": {"type": "environmentVariable", "target": "URL", "name": "FOO"}}],
    "relations": [{"type": "all", "requirements": [0]}],
}
"""The literal example of the specification."""


def variable(name: str, target: str = "URL", **more: Any) -> dict[str, Any]:
    return {"type": "environmentVariable", "target": target, "name": name, **more}


def listed(*names: str, relations: list[dict[str, Any]] | None = None, key: str = "relations") -> dict[str, Any]:
    numbered = [{"id": i, "requirement": variable(name)} for i, name in enumerate(names)]
    return {"requirements": numbered, **({} if relations is None else {key: relations})}


JANUARY_2019 = {
    "type": "ListRequirementsResponse",
    "requirements": [{"id": i, "property": variable(name)} for i, name in enumerate(["BAZ", "BAM", "FOO_BAR", "FOO"])],
    "clauses": [
        {"id": 0, "type": "any", "requirements": [0, 1]},
        {"id": 1, "type": "all", "requirements": [2]},
        {"id": 2, "type": "any", "requirements": [3]},
    ],
    "check": True,
    "unmet": [0],
}

RUN_JANUARY_2019 = {
    "type": "RunAlgorithmResponse",
    "state": "SUCCESS",
    "message": "three rows",
    "next_train_tag": "station.2",
    "rebase": {"type": "docker", "from": "trains/bmi:base"},
    "export_files": ["/opt/pht_train/model/bmi"],
}


def described(
    *properties: dict[str, Any], clauses: list[list[int]] | None, summary: Any = "foo", key: str = "formula_id"
) -> dict[str, Any]:
    """A ``TrainDescription`` of pht 1.0."""
    return {
        "trainVersion": "1.0",
        "descriptionVersion": "1.0",
        "type": "TrainDescription",
        "typeName": "TrainDescription",
        "trainName": "bmi",
        "properties": [{"id": i + 1, "data": data} for i, data in enumerate(properties)],
        "formula": []
        if clauses is None
        else [
            {"id": 1, "data": {"value": clauses, "type": "https://www.wikidata.org/wiki/Q846564"}},
        ],
        "model": {"summary": {"type": "StringModelSummary", "typeName": "StringModelSummary", "value": summary}},
        "algorithm": {"requirement": None if clauses is None else {key: 1, "type": "FormulaAlgorithmRequirement"}},
    }


def older_property(name: str, *, available: bool = False, target: str = "http://schema.org/URL") -> dict[str, Any]:
    return {
        "description": None,
        "target": target,
        "name": name,
        "state": {"isAvailable": available, "reason": "" if available else f"Environment variable '{name}' not set"},
        "type": "http://www.wikidata.org/entity/Q400857",
        "typeName": "environmentVariable",
    }


def later_property(name: str, kind: str, *, satisfied: bool = False, **more: Any) -> dict[str, Any]:
    return {
        "description": "",
        "environmentVariableName": name,
        "state": {"isSatisfied": satisfied},
        "@type": [f"{kind}EnvironmentVariableProperty", "EnvironmentVariableProperty", "Property"],
        "@typeName": f"{kind}EnvironmentVariableProperty",
        "@typeSystem": {"name": "pythonclass", "version": "1.0"},
        **more,
    }


RUN_1_0 = {
    "runResponseVersion": "1.0",
    "exit": {"@type": ["AlgorithmFailureRunExit", "RunExit"], "state": "failure", "reason": "no rows"},
    "freeTextMessage": "see the log",
    "rebase": {
        "exportFiles": [
            {"absolutePhysicalPath": "/opt/pht_train/model/key", "@type": ["ModelFile", "TrainFile"]},
            {"absolutePath": "/opt/pht_train/model/other"},
        ],
        "nextTrainTags": ["2.7.15-slim-jessie", "latest"],
        "from": "personalhealthtrain/base:base",
        "@type": ["DockerRebaseStrategy", "RebaseStrategy"],
        "@typeName": "DockerRebaseStrategy",
    },
    "@typeName": "RunResponse",
}
