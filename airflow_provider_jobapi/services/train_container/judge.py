# SPDX-License-Identifier: Apache-2.0
"""Judge how a command of a train ended, by its response and its exit code. Pure.

A failure in the response with the exit code 0 is usual, since ``pht`` catches the exceptions of algorithms. A command
without a response has failed, at any exit code.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial

from airflow_provider_jobapi.services.train_container.commands import Command
from airflow_provider_jobapi.services.train_container.dialects import read
from airflow_provider_jobapi.services.train_container.export_files import check_paths
from airflow_provider_jobapi.services.train_container.requirements import (
    Evaluation,
    check_targets,
    evaluate_check,
)
from airflow_provider_jobapi.services.train_container.responses import (
    NO_RESPONSE,
    ResponseProblem,
    StdoutTail,
    find_response,
)
from airflow_provider_jobapi.services.train_container.tags import check_next_tag
from airflow_provider_jobapi.services.train_container.targets import TARGETS, Target
from airflow_provider_jobapi.services.train_container.vocabulary import (
    Answer,
    CheckResult,
    Requirements,
    RunResult,
    RunState,
    Summary,
    joined,
)
from airflow_provider_jobapi.training.status import JobState, Reason

TRAIN_FAILED = "TrainFailed"
REQUIREMENTS_UNMET = "RequirementsUnmet"

_OFFER = "Add what is missing to the environment of the station's connection."


@dataclass(frozen=True, slots=True)
class Rules:
    """How responses are read.

    :ivar strict: Whether nothing but blanks may follow a response.
    :ivar plain_summary: Whether the whole stdout of ``print_model_summary`` is the summary where it has no JSON
        object, as ``pht`` 0.2 prints it.
    :ivar targets: The vocabulary of targets.
    :ivar data: The folders of the container that hold the station's data, of which nothing is exported.
    :ivar listed: The train's requirements, where ``check_requirements`` does not repeat them.
    """

    strict: bool = False
    plain_summary: bool = False
    targets: Mapping[str, Target] = field(default_factory=lambda: TARGETS)
    data: Collection[str] = ()
    listed: Requirements | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a command ended.

    :ivar state: SUCCESSFUL or FAILED.
    :ivar reason: Why it failed, in one word.
    :ivar message: Why it failed, or what the train says, in sentences; empty where there is nothing to say.
    :ivar answer: The response, where it could be read; also that of a command that failed.
    :ivar notes: Sentences for the log.
    :ivar evaluation: Of ``check_requirements``: what is unmet.
    """

    state: JobState
    reason: str | None = None
    message: str = ""
    answer: Answer | None = None
    notes: tuple[str, ...] = ()
    evaluation: Evaluation | None = None

    @property
    def ok(self) -> bool:
        """Whether the command was successful."""
        return self.state is JobState.SUCCESSFUL


DEFAULT_RULES = Rules()


def judge(
    command: Command,
    exit_code: int,
    stdout: StdoutTail | bytes,
    rules: Rules = DEFAULT_RULES,
    *,
    out_of_memory: bool = False,
) -> Verdict:
    """Judge a command whose container has ended.

    :param stdout: Without the stderr.
    :param out_of_memory: Whether the engine says that the container was ended for its use of memory.
    """
    try:
        answer, notes = _answer(command, stdout, rules)
        verdict = _of_answer(answer, notes, rules)
    except ResponseProblem as problem:
        verdict = Verdict(JobState.FAILED, problem.reason, str(problem))
    if not exit_code:
        return verdict
    reason = Reason.OUT_OF_MEMORY if out_of_memory else Reason.NON_ZERO_EXIT
    said = f"{command} ended with the exit code {exit_code}."
    more = "It printed no response." if verdict.reason == NO_RESPONSE else verdict.message
    return Verdict(JobState.FAILED, reason, joined([said, more]), verdict.answer, verdict.notes, verdict.evaluation)


def _answer(command: Command, stdout: StdoutTail | bytes, rules: Rules) -> tuple[Answer, tuple[str, ...]]:
    try:
        found = find_response(stdout, strict=rules.strict)
    except ResponseProblem as problem:
        said = bytes(stdout).decode(errors="replace").strip().replace("\0", "")
        if command is Command.PRINT_MODEL_SUMMARY and rules.plain_summary and said and problem.reason == NO_RESPONSE:
            return Summary(content=said), ("The summary is the whole stdout, since it has no JSON object.",)
        raise
    return read(command, found.content), found.notes


def _of_answer(answer: Answer, notes: tuple[str, ...], rules: Rules) -> Verdict:
    if isinstance(answer, RunResult):
        return _of_run(answer, notes, rules)
    if isinstance(answer, CheckResult):
        return _of_check(answer, notes, rules)
    if isinstance(answer, Requirements):
        check_targets(answer, rules.targets)
    return Verdict(JobState.SUCCESSFUL, answer=answer, notes=notes)


def _of_run(answer: RunResult, notes: tuple[str, ...], rules: Rules) -> Verdict:
    if answer.state is RunState.FAILURE:
        said = answer.message.strip() or "It does not say why."
        return Verdict(
            JobState.FAILED, TRAIN_FAILED, f"The train says that its algorithm failed. {said}", answer, notes
        )
    _check_names(answer, rules)
    if answer.state is RunState.APPLICATION:
        notes = (*notes, "The train ended in the state application, whose meaning is its own: see its message.")
    return Verdict(JobState.SUCCESSFUL, message=answer.message, answer=answer, notes=notes)


def _check_names(answer: RunResult, rules: Rules) -> None:
    """Check the tags and the export files, and name what is wrong with both."""
    checks: list[Callable[[], object]] = [partial(check_next_tag, tag) for tag in answer.next_train_tag]
    checks.append(partial(check_paths, answer.export_files, rules.data))
    problems = []
    for check in checks:
        try:
            check()
        except ResponseProblem as problem:
            problems.append(str(problem))
    if problems:
        raise ResponseProblem(joined(problems))


def _of_check(answer: CheckResult, notes: tuple[str, ...], rules: Rules) -> Verdict:
    if (checked := answer.checked()) is not None:
        check_targets(checked, rules.targets)
    found = evaluate_check(answer, rules.listed, rules.targets)
    if found.ok:
        return Verdict(JobState.SUCCESSFUL, message=answer.message, answer=answer, notes=notes, evaluation=found)
    said = joined([*found.sentences, _OFFER, answer.message])
    return Verdict(JobState.FAILED, REQUIREMENTS_UNMET, said, answer, notes, found)
