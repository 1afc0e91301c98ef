# SPDX-License-Identifier: Apache-2.0
"""Evaluate a train's requirements against a station's environment, and name what is unmet. Pure.

A variable counts as set when it is present and not blank, as ``pht`` 1.0 has it. No sentence has a variable's value,
which may be a secret.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from airflow_provider_jobapi.services.train_container.responses import ResponseProblem
from airflow_provider_jobapi.services.train_container.targets import TARGETS, Target
from airflow_provider_jobapi.services.train_container.vocabulary import (
    CheckResult,
    EnvironmentVariable,
    Relation,
    RelationType,
    Requirements,
)

_BY_TRAIN = "is unmet, as the train finds"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Whether requirements are met.

    :ivar unmet: The names of the requirements that are not met and are needed, each once.
    :ivar sentences: What the station would have to offer, one sentence for each relation that does not hold, or for
        each requirement of one that wants all.
    """

    unmet: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether all relations hold."""
        return not self.sentences


def check_targets(requirements: Requirements, targets: Mapping[str, Target] = TARGETS) -> None:
    """Refuse requirements with a target that is not in the vocabulary.

    :raises ResponseProblem: naming them and what can be done.
    """
    unknown = [each.requirement for each in requirements.requirements if each.requirement.target not in targets]
    if unknown:
        named = ", ".join(f"{each.name} with the target {each.target[:80]!r}" for each in unknown[:5])
        them = "it" if len(unknown) == 1 else "the others"
        raise ResponseProblem(
            f"The train requires {named}, and {', '.join(targets)} are known: add {them} to targets of the "
            "connection or of the task."
        )


def evaluate(
    requirements: Requirements, environment: Mapping[str, str], targets: Mapping[str, Target] = TARGETS
) -> Evaluation:
    """Evaluate requirements against an environment.

    :param environment: Variables and their values.
    :raises ResponseProblem: as :func:`check_targets`.
    """
    check_targets(requirements, targets)
    why = {
        number: reason
        for number, requirement in requirements.by_id().items()
        if (reason := _why_unmet(requirement, environment, targets))
    }
    return _evaluation(requirements, why, targets)


def evaluate_check(
    check: CheckResult, listed: Requirements | None = None, targets: Mapping[str, Target] = TARGETS
) -> Evaluation:
    """Evaluate what a train has said of its requirements, by itself, in the environment of the station.

    :param listed: The response to ``list_requirements``, where that to ``check_requirements`` repeats none.
    """
    requirements = check.checked() or listed
    if requirements is None:
        names = tuple(dict.fromkeys(f"requirement {each}" if isinstance(each, int) else each for each in check.unmet))
        return Evaluation(names, tuple(f"The train needs {name}: it {_BY_TRAIN}." for name in names))
    by_id = requirements.by_id()
    if unknown := [each for each in check.unmet if each not in {*by_id, *(one.name for one in by_id.values())}]:
        raise ResponseProblem(
            f"The train's response to check_requirements has {unknown[0]!r} in unmet, which is no requirement of "
            "list_requirements."
        )
    named = set(check.unmet)
    why = {number: _BY_TRAIN for number, each in by_id.items() if {number, each.name} & named}
    return _evaluation(requirements, why, targets)


def holds(relation: Relation, unmet: Collection[int]) -> bool:
    """Whether a relation holds, where these requirements are not met."""
    literals = [
        *(each not in unmet for each in relation.requirements),
        *(each in unmet for each in relation.forbidden),
    ]
    return all(literals) if relation.type is RelationType.ALL else any(literals)


def _why_unmet(requirement: EnvironmentVariable, environment: Mapping[str, str], targets: Mapping[str, Target]) -> str:
    value = environment.get(requirement.name)
    if value is None:
        return "is not set by the station"
    if not value.strip():
        return "is blank at the station"
    target = targets[requirement.target]
    return "" if target.accepts(value, requirement.choices) else "has another value at the station"


def _evaluation(requirements: Requirements, why: Mapping[int, str], targets: Mapping[str, Target]) -> Evaluation:
    by_id = requirements.by_id()
    broken = [relation for relation in requirements.in_force() if not holds(relation, why)]
    names = [by_id[each].name for relation in broken for each in relation.requirements if each in why]
    sentences = [line for relation in broken for line in _sentences(relation, by_id, why, targets)]
    return Evaluation(tuple(dict.fromkeys(names)), tuple(dict.fromkeys(sentences)))


def _sentences(
    relation: Relation,
    by_id: Mapping[int, EnvironmentVariable],
    why: Mapping[int, str],
    targets: Mapping[str, Target],
) -> Iterator[str]:
    if relation.type is RelationType.ALL:
        for each in relation.requirements:
            if each in why:
                yield f"The train needs {_words(by_id[each], targets)}: it {why[each]}."
        for each in relation.forbidden:
            if each not in why:
                yield f"The train does not run where {by_id[each].name} is set: leave it out."
        return
    wanted = [by_id[each].name for each in relation.requirements]
    wanted += [f"no {by_id[each].name}" for each in relation.forbidden]
    reasons = [f"{_words(by_id[each], targets)} {why[each]}" for each in relation.requirements]
    reasons += [f"{by_id[each].name} is set by the station" for each in relation.forbidden]
    yield f"The train needs {' or '.join(wanted)}: {'; '.join(reasons)}."


def _words(requirement: EnvironmentVariable, targets: Mapping[str, Target]) -> str:
    target = targets.get(requirement.target)
    return f"{requirement.name} ({target.words(requirement.choices) if target else requirement.target})"
