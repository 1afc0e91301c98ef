# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.train_container.dialects import read_check, read_requirements
from airflow_provider_jobapi.services.train_container.requirements import evaluate, evaluate_check, holds
from airflow_provider_jobapi.services.train_container.responses import ResponseProblem
from airflow_provider_jobapi.services.train_container.targets import TARGETS, is_url, read_targets
from airflow_provider_jobapi.services.train_container.vocabulary import Relation, RelationType
from tests.services.train_container.dialect_vectors import (
    JANUARY_2019,
    SEED,
    described,
    later_property,
    listed,
    older_property,
    variable,
)

URL = "https://data.example.com/fhir"


def test_the_example_of_the_specification() -> None:
    needs = read_requirements(SEED)
    assert evaluate(needs, {"FOO": URL}).ok
    found = evaluate(needs, {})
    assert found.unmet == ("FOO",)
    assert found.sentences == (
        "The train needs FOO (a URL such as https://data.example.com/fhir): it is not set by the station.",
    )


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", "is blank at the station"),
        (" \t\n", "is blank at the station"),
        ("s3cret-token", "has another value at the station"),
    ],
)
def test_set_means_present_not_blank_and_of_the_target(value: str, why: str) -> None:
    found = evaluate(read_requirements(SEED), {"FOO": value})
    assert not found.ok
    assert found.sentences[0].endswith(f": it {why}.")
    assert not value.strip() or value not in str(found)


def test_no_relations_mean_all_requirements() -> None:
    for relations in (None, []):
        needs = read_requirements(listed("A", "B", relations=relations))
        assert evaluate(needs, {"A": URL, "B": URL}).ok
        assert evaluate(needs, {"A": URL}).unmet == ("B",)
        assert evaluate(needs, {}).unmet == ("A", "B")
    assert evaluate(read_requirements({"requirements": []}), {}).ok


def test_any_and_all() -> None:
    needs = read_requirements(JANUARY_2019)  # (BAZ or BAM) and FOO_BAR and FOO
    assert evaluate(needs, {"BAM": URL, "FOO_BAR": URL, "FOO": URL}).ok
    found = evaluate(needs, {"FOO": "no url"})
    assert found.unmet == ("BAZ", "BAM", "FOO_BAR", "FOO")
    words = "a URL such as https://data.example.com/fhir"
    assert found.sentences == (
        "The train needs BAZ or BAM: "
        + "; ".join(f"{name} ({words}) is not set by the station" for name in ("BAZ", "BAM"))
        + ".",
        f"The train needs FOO_BAR ({words}): it is not set by the station.",
        f"The train needs FOO: FOO ({words}) has another value at the station.",
    )


def test_requirements_in_no_relation_are_not_needed() -> None:
    needs = read_requirements(listed("A", "B", relations=[{"type": "all", "requirements": [0]}]))
    assert evaluate(needs, {"A": URL}).ok


def test_formulas_of_pht_1_0() -> None:
    needs = read_requirements(described(older_property("A"), older_property("B"), clauses=[[-2, 1]]))
    assert evaluate(needs, {}).ok
    assert evaluate(needs, {"A": URL, "B": URL}).ok
    found = evaluate(needs, {"B": URL})
    assert found.sentences[0].endswith(") is not set by the station; B is set by the station.")
    forbidden = read_requirements(described(older_property("A"), clauses=[[-1]]))
    assert evaluate(forbidden, {}).ok
    assert evaluate(forbidden, {"A": URL}).sentences == ("The train needs no A: A is set by the station.",)
    assert evaluate(read_requirements(described(older_property("A"), clauses=None)), {}).ok


@given(
    st.lists(st.lists(st.sampled_from([-3, -2, -1, 1, 2, 3]), min_size=1, max_size=3), max_size=4),
    st.sets(st.integers(1, 3)),
)
def test_formulas_as_logic_has_them(clauses: list[list[int]], met: set[int]) -> None:
    names = ["A", "B", "C"]
    needs = read_requirements(described(*(older_property(name) for name in names), clauses=clauses or [[1, -1]]))
    truth = all(any((literal > 0) == (abs(literal) in met) for literal in clause) for clause in clauses)
    found = evaluate(needs, {names[number - 1]: URL for number in met})
    assert found.ok is truth
    assert truth or found.sentences


def test_every_relation_of_two() -> None:
    for kind, unmet in itertools.product(RelationType, [set[int](), {0}, {1}, {0, 1}]):
        relation = Relation(type=kind, requirements=(0, 1))
        expected = not unmet if kind is RelationType.ALL else unmet != {0, 1}
        assert holds(relation, unmet) is expected
    assert holds(Relation(type=RelationType.ALL, requirements=(), forbidden=(0,)), {0})
    assert not holds(Relation(type=RelationType.ALL, requirements=(), forbidden=(0,)), ())


def test_targets() -> None:
    of = {"URL": URL, "text": "x", "token": "t", "enum": "B", "bindMount": "/data"}
    assert set(of) == set(TARGETS)
    for target, value in of.items():
        more = {"choices": ["A", "B"]} if target == "enum" else {}
        needs = read_requirements({"requirements": [{"id": 0, "requirement": variable("X", target, **more)}]})
        assert evaluate(needs, {"X": value}).ok
        if target not in {"text", "token"}:
            assert not evaluate(needs, {"X": "else"}).ok
    enum = read_requirements(described(later_property("X", "Enum", choices=["A", "B"]), clauses=[[1]]))
    assert "X (one of 'A', 'B')" in evaluate(enum, {"X": "C"}).sentences[0]


def test_an_unknown_target_and_one_that_is_added() -> None:
    needs = read_requirements({"requirements": [{"id": 0, "requirement": variable("X", "FHIR")}]})
    with pytest.raises(ResponseProblem, match=r"X with the target 'FHIR', and URL, .* are known: add it to targets"):
        evaluate(needs, {})
    targets = read_targets({"FHIR": "https?://.+/fhir", "TEXT": ""})
    assert evaluate(needs, {"X": URL}, targets).ok
    assert "a text that matches https?://.+/fhir" in evaluate(needs, {"X": "https://x"}, targets).sentences[0]
    assert not evaluate(needs, {"X": f"{URL}/more"}, targets).ok
    assert targets["TEXT"].accepts("anything", ())
    assert read_targets(None) is TARGETS


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["FHIR"], "targets is a list: it is an object of names and regular expressions"),
        ({"URL": "x"}, "targets cannot have 'URL'"),
        ({"http://schema.org/URL": "x"}, "targets cannot have 'http://schema.org/URL'"),
        ({" ": "x"}, "targets cannot have ' '"),
        ({1: "x"}, "targets cannot have 1"),
        ({"A": "("}, "targets['A'] is no regular expression"),
        ({"A": 5}, "targets['A'] is no regular expression"),
    ],
)
def test_targets_that_are_refused(more: Any, words: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        read_targets(more)
    assert words in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "value",
    [
        URL, "http://localhost:8080", "ftp://host/x", "s3://bucket/key", "file:///data", "https://[::1]:80/",
        "jdbc:postgresql://db:5432/x", "HTTPS://EXAMPLE.COM", "postgresql+psycopg://u:p@db/x?ssl=1#f",
    ],
)  # fmt: skip
def test_urls(value: str) -> None:
    assert is_url(value)


@pytest.mark.parametrize(
    "value",
    [
        "", "x", "localhost:8080", "https:/x", "https://", "https:///path", "://x", "file://", "https://a b", "https://a\n",
        "https://x:99999", "https://x:port", "C:\\data",
        "https://[::1", "1http://x", "https://a\\b", "//x", "mailto:a@b",
    ],
)  # fmt: skip
def test_no_urls(value: str) -> None:
    assert not is_url(value)


def test_what_a_train_finds_unmet_by_itself() -> None:
    found = evaluate_check(read_check(JANUARY_2019))
    assert found.ok  # BAZ is unmet, but BAM is met
    found = evaluate_check(read_check({**JANUARY_2019, "unmet": [0, 1]}))
    assert found.unmet == ("BAZ", "BAM")
    assert (
        "BAZ or BAM: BAZ (a URL such as https://data.example.com/fhir) is unmet, as the train finds; BAM"
        in found.sentences[0]
    )
    found = evaluate_check(read_check({**JANUARY_2019, "unmet": ["FOO"]}))
    assert found.unmet == ("FOO",)


def test_a_check_that_repeats_no_requirements() -> None:
    assert evaluate_check(read_check({"unmet": []})).ok
    found = evaluate_check(read_check({"unmet": ["DATA", 3, "DATA"]}))
    assert found.unmet == ("DATA", "requirement 3")
    assert found.sentences[0] == "The train needs DATA: it is unmet, as the train finds."
    needs = read_requirements(listed("A", "B", relations=[{"type": "any", "requirements": [0, 1]}]))
    assert evaluate_check(read_check({"unmet": [0]}), needs).ok
    assert evaluate_check(read_check({"unmet": [0, "B"]}), needs).unmet == ("A", "B")
    with pytest.raises(ResponseProblem, match=r"has 'C' in unmet, which is no requirement of list_requirements\."):
        evaluate_check(read_check({"unmet": ["C"]}), needs)
