# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_jobapi.services.train_container.commands import Command
from airflow_provider_jobapi.services.train_container.dialects import (
    read,
    read_check,
    read_requirements,
    read_run,
    read_summary,
)
from airflow_provider_jobapi.services.train_container.responses import ResponseProblem
from airflow_provider_jobapi.services.train_container.vocabulary import Requirements, RunState
from tests.services.train_container.dialect_vectors import (
    JANUARY_2019,
    RUN_1_0,
    RUN_JANUARY_2019,
    SEED,
    described,
    later_property,
    listed,
    older_property,
    variable,
)


def needs(read: Requirements) -> dict[int, tuple[str, str]]:
    return {number: (each.target, each.name) for number, each in read.by_id().items()}


def relations(read: Requirements) -> list[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    return [(each.type.value, each.requirements, each.forbidden) for each in read.relations]


def test_the_example_of_the_specification() -> None:
    found = read_requirements(SEED)
    assert needs(found) == {0: ("URL", "FOO")}
    assert relations(found) == [("all", (0,), ())]


def test_pht_0_2() -> None:
    assert needs(read_requirements({"requirements": ["DATA", "KEY"]})) == {0: ("text", "DATA"), 1: ("text", "KEY")}
    check = read_check({"unmet": ["DATA"], "message": "no data"})
    assert (check.unmet, check.message, check.checked()) == (("DATA",), "no data", None)
    run = read_run({"success": True, "nextTrainTag": "station.2"})
    assert (run.state, run.next_train_tag, run.message) == (RunState.SUCCESS, ("station.2",), "")
    assert read_run({"success": False, "nextTrainTag": "x", "message": "m"}).state is RunState.FAILURE


def test_pht_of_january_2019() -> None:
    found = read_requirements(JANUARY_2019)
    assert [name for _, name in needs(found).values()] == ["BAZ", "BAM", "FOO_BAR", "FOO"]
    assert relations(found) == [("any", (0, 1), ()), ("all", (2,), ()), ("any", (3,), ())]
    check = read_check(JANUARY_2019)
    assert check.unmet == (0,)
    assert check.checked() == found
    run = read_run(RUN_JANUARY_2019)
    assert (run.state, run.message, run.next_train_tag) == (RunState.SUCCESS, "three rows", ("station.2",))
    assert (run.base, run.export_files) == ("trains/bmi:base", ("/opt/pht_train/model/bmi",))
    assert read_summary({"type": "PrintModelSummaryResponse", "content": "three weights"}).content == "three weights"


def test_pht_1_0() -> None:
    older = described(older_property("FOO", available=True), older_property("BAZ"), clauses=[[-2, 1], [1]])
    found = read_requirements(older)
    assert needs(found) == {1: ("URL", "FOO"), 2: ("URL", "BAZ")}
    assert relations(found) == [("any", (1,), (2,)), ("any", (1,), ())]
    assert read_check(older).unmet == (2,)
    assert read_summary(older).content == "foo"
    later = described(
        later_property("FOO", "Url", satisfied=True),
        later_property("BAR", "Enum", choices=["A", "B"]),
        later_property("KEY", "Token"),
        later_property("DATA", "BindMount", mountType="directory"),
        clauses=[[1]],
        summary={"a": 1},
        key="value",
    )
    found = read_requirements(later)
    assert needs(found) == {1: ("URL", "FOO"), 2: ("enum", "BAR"), 3: ("token", "KEY"), 4: ("bindMount", "DATA")}
    assert found.by_id()[2].choices == ("A", "B")
    assert read_check(later).unmet == (2, 3, 4)
    assert read_summary(later).content == {"a": 1}
    run = read_run(RUN_1_0)
    assert (run.state, run.message) == (RunState.FAILURE, "no rows see the log")
    assert run.next_train_tag == ("2.7.15-slim-jessie", "latest")
    assert (run.base, run.export_files) == (
        "personalhealthtrain/base:base",
        ("/opt/pht_train/model/key", "/opt/pht_train/model/other"),
    )


def test_a_description_without_a_requirement_requires_nothing() -> None:
    found = read_requirements(described(older_property("FOO"), clauses=None))
    assert relations(found) == [("all", (), ())]
    plain = described(older_property("FOO"), clauses=None)
    plain["model"] = {"summary": "a text"}
    assert read_summary(plain).content == "a text"
    assert read_summary({**plain, "model": {"summary": None}}).content == ""


def test_run_of_library_jvm() -> None:
    run = read_run(
        {
            "state": "application",
            "free_text_message": "m",
            "rebase": {"type": "docker", "from": "b", "next_train_tag": "t", "export_files": ["/a"]},
        }
    )
    assert (run.state, run.message, run.next_train_tag, run.base, run.export_files) == (
        RunState.APPLICATION, "m", ("t",), "b", ("/a",),
    )  # fmt: skip


@pytest.mark.parametrize("content", ["text", {"a": [1]}, ["a", 1], ""])
def test_summaries(content: Any) -> None:
    assert read_summary({"content": content}).content == content


@pytest.mark.parametrize("state", ["success", "SUCCESS", "Success", "FAILURE", "Application"])
def test_states_in_any_case(state: str) -> None:
    assert read_run({"state": state}).state == state.lower()


def test_relations_and_clauses_are_the_same() -> None:
    relation = [{"type": "any", "requirements": [0, 1]}]
    assert read_requirements(listed("A", "B", relations=relation, key="clauses")) == read_requirements(
        listed("A", "B", relations=relation)
    )
    assert read_requirements({**listed("A", "B", relations=relation), "clauses": relation}).relations
    assert read_requirements({**listed("A", "B", relations=[]), "clauses": relation}).relations


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("list_requirements", {}, "requirements is missing: it is a list of"),
    ("list_requirements", {"requirements": 1}, "requirements cannot be 1: it is a list of"),
    ("list_requirements", {"requirements": [1]}, "requirements[0] cannot be 1"),
    ("list_requirements", {"requirements": [{}]}, "requirements[0].id is missing: it is a whole number from 0"),
    ("list_requirements", listed("FOO1"), "requirements[0].requirement.name cannot be 'FOO1': it is words of the"),
    ("list_requirements", listed("FOO\n"), "requirements[0].requirement.name cannot be 'FOO\\n'"),
    ("list_requirements", listed("foo"), "name cannot be 'foo'"),
    ("list_requirements", listed("A__B"), "name cannot be 'A__B'"),
    ("list_requirements", listed("_A"), "name cannot be '_A'"),
    ("list_requirements", listed(""), "name cannot be ''"),
    ("list_requirements", {"requirements": ["FOO1"]}, "requirements[0].requirement.name cannot be 'FOO1'"),
    (
        "list_requirements",
        {"requirements": [{"id": 0, "requirement": {"type": "gpu", "target": "URL", "name": "A"}}]},
        "requirement.type cannot be 'gpu': it is environmentVariable, the only type",
    ),
    (
        "list_requirements",
        {"requirements": [{"id": True, "requirement": variable("A")}]},
        "requirements[0].id cannot be True",
    ),
    ("list_requirements", {"requirements": [{"id": -1, "requirement": variable("A")}]}, "id cannot be -1"),
    ("list_requirements", {"requirements": [{"id": "0", "requirement": variable("A")}]}, "id cannot be '0'"),
    (
        "list_requirements",
        {"requirements": [{"id": 0, "requirement": variable("A")}] * 2},
        "two requirements have the id 0",
    ),
    (
        "list_requirements",
        listed("A", relations=[{"type": "all", "requirements": [1]}]),
        "relations[0] has the id 1, which no requirement has",
    ),
    (
        "list_requirements",
        listed("A", relations=[{"type": "oneOf", "requirements": [0]}]),
        "relations[0].type cannot be 'oneOf': it is all or any",
    ),
    (
        "list_requirements",
        listed("A", relations=[{"type": "any", "requirements": []}]),
        "relations[0] wants any one of no requirements",
    ),
    ("list_requirements", listed("A", relations=[{"type": "all"}]), "relations[0].requirements is missing"),
    (
        "list_requirements",
        {**listed("A", relations=[{"type": "all", "requirements": [0]}]), "clauses": [{"type": "any"}]},
        "relations and clauses",
    ),
    ("list_requirements", described(older_property("A"), clauses=[[0]]), "the clause [0]"),
    ("list_requirements", described(older_property("A"), clauses=[[2]]), "relations[0] has the id 2"),
    ("list_requirements", described(older_property("A"), clauses=[[]]), "wants any one of no requirements"),
    ("list_requirements", {**described(clauses=[[1]]), "formula": []}, "requires the formula 1"),
    ("list_requirements", {"properties": {}}, "properties that are no list"),
    ("list_requirements", {"properties": [{"id": 1, "data": {"type": "gpu", "name": "A"}}]}, "type cannot be 'gpu'"),
    ("check_requirements", {}, "unmet is missing: it is a list of ids or names"),
    ("check_requirements", {"unmet": "FOO"}, "unmet cannot be 'FOO'"),
    ("check_requirements", {"unmet": [1.5]}, "unmet[0] cannot be 1.5"),
    ("check_requirements", {"unmet": [7], **listed("A")}, "unmet has 7, which is neither an id nor a name"),
    ("check_requirements", {"unmet": [], "message": 1}, "message cannot be 1: it is a sentence for people"),
    ("print_model_summary", {}, "content is missing: it is a text"),
    ("print_model_summary", {"content": 1}, "content cannot be 1"),
    ("print_model_summary", {"content": None}, "content cannot be None"),
    ("run_algorithm", {}, "state is missing: it is success, failure or application"),
    ("run_algorithm", {"state": "done"}, "state cannot be 'done': it is success, failure or application"),
    ("run_algorithm", {"state": "success", "export_files": "/a"}, "export_files cannot be '/a'"),
    ("run_algorithm", {"state": "success", "export_files": [1]}, "export_files[0] cannot be 1"),
    ("run_algorithm", {"state": "success", "rebase": {"type": "oci", "from": "a"}}, "rebase.type cannot be 'oci'"),
    ("run_algorithm", {"state": "success", "rebase": "docker"}, "rebase cannot be 'docker'"),
    ("run_algorithm", {"state": "success", "next_train_tag": 5}, "next_train_tag cannot be 5"),
    ("run_algorithm", {"success": "yes"}, "state is missing"),
]


@pytest.mark.parametrize(("command", "content", "words"), BAD)
def test_what_is_refused(command: str, content: dict[str, Any], words: str) -> None:
    with pytest.raises(ResponseProblem) as caught:
        read(Command(command), content)
    assert words in str(caught.value)
    assert str(caught.value).endswith(".")
    assert caught.value.reason == "InvalidResponse"


VECTORS: list[tuple[Command, dict[str, Any]]] = [
    (Command.LIST_REQUIREMENTS, SEED),
    (Command.LIST_REQUIREMENTS, {"requirements": ["DATA"]}),
    (Command.CHECK_REQUIREMENTS, JANUARY_2019),
    (Command.RUN_ALGORITHM, RUN_JANUARY_2019),
    (Command.RUN_ALGORITHM, RUN_1_0),
    *((command, described(older_property("A"), later_property("B", "Url"), clauses=[[1, -2]])) for command in Command),
]
VALUES = st.sampled_from(
    [None, True, 0, 1, -1, 1.5, "", "x", "FOO", [], [1], ["x"], [None], [[1]], [{}], {}, {"id": 1}]
)


def places(value: Any) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(), *((name, *rest) for name, each in inner for rest in places(each))]


def put(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = put(value[place[0]], place[1:], new)
    return copy


@settings(max_examples=400)
@given(st.sampled_from(VECTORS), st.data())
def test_any_object_is_an_answer_or_one_sentence(vector: tuple[Command, dict[str, Any]], data: st.DataObject) -> None:
    command, content = vector
    for _ in range(2):
        place = data.draw(st.sampled_from([each for each in places(content) if each]))
        content = put(content, place, data.draw(VALUES))
    found, sentence = None, ""
    try:
        found = read(command, content)
    except ResponseProblem as error:
        sentence = str(error)
    assert found is not None or sentence.endswith(".")
