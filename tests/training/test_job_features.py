# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import Field

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.job_features import (
    Feature,
    check_features,
    features_of,
    of_header,
    to_header,
    used_features,
    without_unused,
)
from airflow_provider_jobapi.training.validation import Strict


class Part(Strict):
    size: int = 0
    mode: Annotated[str, Feature("modes", "mode"), Field(default="")]


class Document(Strict):
    name: str = ""
    parts: tuple[Part, ...] = ()
    inner: Part | None = None
    labels: Annotated[tuple[str, ...], Feature("labels", "labels="), Field(default=(), alias="jobLabels")]


def dumped(document: Document) -> dict:
    return without_unused(document, document.model_dump(mode="json", by_alias=True))


def test_a_field_of_a_feature_is_written_only_where_it_is_used():
    assert dumped(Document(parts=(Part(), Part(size=2)))) == {
        "name": "",
        "parts": [{"size": 0}, {"size": 2}],
        "inner": None,
    }
    used = Document(parts=(Part(), Part(mode="x")), inner=Part(mode="y"), labels=("a",))
    assert dumped(used) == {
        "name": "",
        "parts": [{"size": 0}, {"size": 0, "mode": "x"}],
        "inner": {"size": 0, "mode": "y"},
        "jobLabels": ["a"],
    }
    assert Document.model_validate(dumped(used)) == used


def test_the_features_of_a_document_are_those_of_its_fields():
    assert {"labels", "modes"} <= set(features_of(Document))
    assert used_features(Document(name="a", parts=(Part(size=1),))) == {}
    used = used_features(Document(inner=Part(mode="y"), labels=("a",)))
    assert {path: feature.name for path, feature in used.items()} == {"inner.mode": "modes", "jobLabels": "labels"}


def test_a_server_without_a_feature_is_named_before_the_upload():
    document = Document(labels=("a",))
    check_features(document, {"labels"})
    check_features(Document(), ())
    with pytest.raises(InvalidJob, match="does not know labels=: leave it out, or have the server updated") as refused:
        check_features(document, {"modes"})
    assert refused.value.field == "jobLabels"


def test_features_are_read_as_they_were_written():
    assert of_header(to_header({"b-2", "a"})) == {"a", "b-2"}
    assert of_header("") == frozenset()
    assert of_header("a,, b;c, _x, " + "d" * 50 + ", e") == {"a", "e"}
