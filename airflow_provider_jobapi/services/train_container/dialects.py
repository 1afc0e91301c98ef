# SPDX-License-Identifier: Apache-2.0
"""Read the responses of a train, in the dialect of any version, in the words of one vocabulary. Pure.

============================  ======================================================================================
dialect                       told by
============================  ======================================================================================
Train API V1 (2019-01)        ``requirements`` with a ``requirement`` each, ``relations``
``pht`` 0.2 (2018-09)         ``requirements`` and ``unmet`` are names; ``success``, ``nextTrainTag``
``pht`` of January 2019       ``clauses`` in place of ``relations``, or ``property`` of ``requirement``; ``check``
``pht`` 1.0 (2019-04)         ``properties`` and a ``formula`` in conjunctive normal form; ``exit``, ``rebase``
============================  ======================================================================================

The sources are those of PersonalHealthTrain/train-api-python (5b1f0dd, 6dc4e69, 1.0rc11) and of library-jvm. Each is
rewritten as the first one, which is then validated, so that errors are the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.train_container.commands import Command
from airflow_provider_jobapi.services.train_container.responses import ResponseProblem
from airflow_provider_jobapi.services.train_container.targets import ALIASES
from airflow_provider_jobapi.services.train_container.vocabulary import (
    Answer,
    CheckResult,
    Part,
    RelationType,
    Requirements,
    RunResult,
    Summary,
    joined,
)
from airflow_provider_jobapi.training.validation import validated

Model = TypeVar("Model", bound=Part)
Json = Mapping[str, Any]

VARIABLE_TYPES = frozenset({"environmentVariable", "http://www.wikidata.org/entity/Q400857"})
"""How the type of an environment variable is written; ``pht`` 1.0 has the term of Wikidata."""

MOST_PROBLEMS = 5
"""Fields of a response that an error is about: whoever builds an image mends them together."""

_VARIABLE_CLASS = "EnvironmentVariableProperty"
_TARGET_OF_CLASS = {"Url": "URL", "Token": "token", "Enum": "enum", "BindMount": "bindMount"}


def read(command: Command, content: Json) -> Answer:
    """Read a response.

    :param content: The JSON object.
    :raises ResponseProblem: naming the field that is wrong, in the words of Train API V1, and what is allowed.
    """
    return READERS[command](content)


def read_requirements(content: Json) -> Requirements:
    """Read the response to ``list_requirements``.

    :raises ResponseProblem: as :func:`read`.
    """
    read = _validated(Requirements, _requirements(content), Command.LIST_REQUIREMENTS)
    _check_ids(read, Command.LIST_REQUIREMENTS)
    return read


def read_check(content: Json) -> CheckResult:
    """Read the response to ``check_requirements``.

    :raises ResponseProblem: as :func:`read`.
    """
    command = Command.CHECK_REQUIREMENTS
    given: dict[str, Any] = {"unmet": content.get("unmet"), "message": content.get("message") or ""}
    if "requirements" in content or _is_description(content):
        given |= _requirements(content)
    if _is_description(content):
        given["unmet"] = list(_unavailable(content))
    read = _validated(CheckResult, {name: value for name, value in given.items() if value is not None}, command)
    if (checked := read.checked()) is not None:
        _check_ids(checked, command)
        known = {*checked.by_id(), *(each.name for each in checked.by_id().values())}
        if unknown := [each for each in read.unmet if each not in known]:
            raise _problem(command, f"unmet has {unknown[0]!r}, which is neither an id nor a name of a requirement.")
    return read


def read_summary(content: Json) -> Summary:
    """Read the response to ``print_model_summary``.

    :raises ResponseProblem: as :func:`read`.
    """
    if _is_description(content):
        found = _object(content.get("model")).get("summary")
        found = found.get("value") if isinstance(found, Mapping) and "value" in found else found
        content = {"content": "" if found is None else found}
    return _validated(Summary, content, Command.PRINT_MODEL_SUMMARY)


def read_run(content: Json) -> RunResult:
    """Read the response to ``run_algorithm``.

    :raises ResponseProblem: as :func:`read`.
    """
    end, rebase = _object(content.get("exit")), _object(content.get("rebase"))
    state = _first(content, "state") or end.get("state")
    if state is None and isinstance(success := content.get("success"), bool):
        state = "success" if success else "failure"
    files = _first(content, "export_files") or _first(rebase, "exportFiles", "export_files")
    given = {
        "state": state,
        "message": _message(content, end),
        "next_train_tag": _first(content, "next_train_tag", "nextTrainTag")
        or _first(rebase, "nextTrainTags", "next_train_tag", "next_train_tags"),
        "rebase": {"type": _rebase_type(rebase), "from": rebase.get("from")} if rebase else content.get("rebase"),
        "export_files": [_path(each) for each in files] if isinstance(files, list) else files,
    }
    return _validated(
        RunResult, {name: value for name, value in given.items() if value is not None}, Command.RUN_ALGORITHM
    )


READERS: Mapping[Command, Callable[[Json], Answer]] = MappingProxyType(
    {
        Command.LIST_REQUIREMENTS: read_requirements,
        Command.CHECK_REQUIREMENTS: read_check,
        Command.PRINT_MODEL_SUMMARY: read_summary,
        Command.RUN_ALGORITHM: read_run,
    }
)


def _requirements(content: Json) -> dict[str, Any]:
    """The requirements and relations of a response, in the words of Train API V1."""
    if _is_description(content):
        return {"requirements": list(_properties(content)), "relations": list(_formula(content))}
    given: dict[str, Any] = {}
    if isinstance(listed := content.get("requirements"), list):
        given["requirements"] = [_requirement(place, each) for place, each in enumerate(listed)]
    elif listed is not None:
        given["requirements"] = listed
    relations, clauses = content.get("relations"), content.get("clauses")
    if relations and clauses and relations != clauses:
        raise ResponseProblem(
            "The train's response has relations and clauses, which mean the same, with different contents: leave out "
            "clauses."
        )
    given["relations"] = relations or clauses or []
    return given


def _requirement(place: int, given: Any) -> Any:
    if isinstance(given, str):
        return {"id": place, "requirement": {"type": "environmentVariable", "target": "text", "name": given}}
    if not isinstance(given, Mapping):
        return given
    inner = given.get("requirement", given.get("property"))
    if isinstance(inner, Mapping) and isinstance(target := inner.get("target"), str):
        inner = {**inner, "target": ALIASES.get(target, target)}
    return {name: value for name, value in (("id", given.get("id")), ("requirement", inner)) if value is not None}


def _is_description(content: Json) -> bool:
    """Whether a response is a ``TrainDescription`` of ``pht`` 1.0, which answers three of the commands."""
    return "properties" in content


def _properties(content: Json) -> Iterator[Any]:
    listed = content["properties"]
    if not isinstance(listed, list):
        raise ResponseProblem("The train's response has properties that are no list.")
    for each in listed:
        data = _object(_object(each).get("data"))
        kind, target = _types(data), data.get("target")
        for part, word in _TARGET_OF_CLASS.items():
            target = word if target is None and any(name.startswith(part) for name in kind) else target
        is_variable = bool(VARIABLE_TYPES & set(kind)) or any(name.endswith(_VARIABLE_CLASS) for name in kind)
        requirement = {
            "type": "environmentVariable" if is_variable else next(iter(kind), None),
            "target": ALIASES.get(target, target) if isinstance(target, str) else "text",
            "name": data.get("environmentVariableName", data.get("name")),
            "choices": data.get("choices"),
        }
        yield {
            "id": _object(each).get("id"),
            "requirement": {name: value for name, value in requirement.items() if value is not None},
        }


def _types(data: Json) -> list[str]:
    found: list[str] = []
    for name in ("type", "@type", "typeName", "@typeName", "display"):
        value = data.get(name)
        found += [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]
    return found


def _formula(content: Json) -> Iterator[dict[str, Any]]:
    """The formula that the algorithm requires, as relations; without one the algorithm requires nothing."""
    required = _object(_object(content.get("algorithm")).get("requirement"))
    wanted = _first(required, "formula_id", "formulaId", "value")
    if wanted is None:
        yield {"type": RelationType.ALL, "requirements": []}
        return
    formulas = content.get("formula")
    for each in formulas if isinstance(formulas, list) else []:
        if _object(each).get("id") == wanted:
            clauses = _object(_object(each).get("data")).get("value")
            break
    else:
        raise ResponseProblem(f"The train's response requires the formula {wanted!r}, which it does not have.")
    if not isinstance(clauses, list) or not all(isinstance(clause, list) for clause in clauses):
        raise ResponseProblem("The train's response has a formula that is no list of lists of numbers.")
    for clause in clauses:
        if not all(isinstance(literal, int) and not isinstance(literal, bool) and literal for literal in clause):
            raise ResponseProblem(f"The train's response has the clause {clause!r}: it is a list of ids, without 0.")
        yield {
            "type": RelationType.ANY,
            "requirements": [literal for literal in clause if literal > 0],
            "forbidden": [-literal for literal in clause if literal < 0],
        }


def _unavailable(content: Json) -> Iterator[Any]:
    for each in content["properties"]:
        state = _object(_object(_object(each).get("data")).get("state"))
        if not _first(state, "isAvailable", "isSatisfied"):
            yield _object(each).get("id")


def _message(content: Json, end: Json) -> Any:
    said = _first(content, "message", "freeTextMessage", "free_text_message")
    if said is not None and not isinstance(said, str):
        return said
    reason = end.get("reason")
    return joined([reason if isinstance(reason, str) else "", said or ""])


def _rebase_type(rebase: Json) -> Any:
    kind = _types(rebase)
    return "docker" if not kind or any(name.startswith("Docker") for name in kind) else kind[0]


def _path(given: Any) -> Any:
    return _first(given, "absolutePhysicalPath", "absolutePath") if isinstance(given, Mapping) else given


def _first(content: Json, *names: str) -> Any:
    return next((content[name] for name in names if content.get(name) is not None), None)


def _object(value: Any) -> Json:
    return value if isinstance(value, Mapping) else {}


def _validated(model: type[Model], content: Json, command: Command) -> Model:
    try:
        return validated(model, content, most=MOST_PROBLEMS)
    except InvalidJob as error:
        raise _problem(command, str(error)) from None


def _problem(command: Command, what: str) -> ResponseProblem:
    return ResponseProblem(f"The train's response to {command} is not valid: {what}")


def _check_ids(read: Requirements, command: Command) -> None:
    """Refuse ids that occur twice, relations of ids that do not exist, and ones that nothing can satisfy."""
    seen = set[int]()
    for each in read.requirements:
        if each.id in seen:
            raise _problem(command, f"two requirements have the id {each.id}; number them.")
        seen.add(each.id)
    for place, relation in enumerate(read.relations):
        if unknown := [each for each in (*relation.requirements, *relation.forbidden) if each not in seen]:
            raise _problem(command, f"relations[{place}] has the id {unknown[0]}, which no requirement has.")
        if relation.type is RelationType.ANY and not relation.requirements and not relation.forbidden:
            raise _problem(command, f"relations[{place}] wants any one of no requirements, which no station can meet.")
