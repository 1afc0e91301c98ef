# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_jobapi.services.train_container.commands import Command
from airflow_provider_jobapi.services.train_container.dialects import read_requirements
from airflow_provider_jobapi.services.train_container.judge import Rules, Verdict, judge
from airflow_provider_jobapi.services.train_container.targets import read_targets
from airflow_provider_jobapi.services.train_container.vocabulary import RunResult, RunState, Summary
from airflow_provider_jobapi.training.status import JobState
from tests.services.train_container.dialect_vectors import (
    JANUARY_2019,
    RUN_1_0,
    RUN_JANUARY_2019,
    SEED,
    listed,
    variable,
)

RESPONSES: dict[Command, dict[str, Any]] = {
    Command.LIST_REQUIREMENTS: SEED,
    Command.CHECK_REQUIREMENTS: {"unmet": []},
    Command.PRINT_MODEL_SUMMARY: {"content": "three weights"},
    Command.RUN_ALGORITHM: RUN_JANUARY_2019,
}


def judged(command: Command, content: object, code: int = 0, rules: Rules | None = None, **more: Any) -> Verdict:
    stdout = content if isinstance(content, bytes) else b"a line\n" + json.dumps(content).encode() + b"\n"
    return judge(command, code, stdout, rules or Rules(), **more)


@pytest.mark.parametrize("command", Command)
def test_a_response_at_exit_0_is_success(command: Command) -> None:
    verdict = judged(command, RESPONSES[command])
    assert (verdict.state, verdict.reason, verdict.ok) == (JobState.SUCCESSFUL, None, True)
    assert verdict.answer is not None


@pytest.mark.parametrize("command", Command)
@pytest.mark.parametrize("stdout", [b"", b"done\n", b"}}}"])
def test_no_response_is_a_failure_at_any_exit_code(command: Command, stdout: bytes) -> None:
    verdict = judged(command, stdout)
    assert (verdict.state, verdict.reason) == (JobState.FAILED, "NoResponse")
    assert "one JSON object" in verdict.message
    verdict = judged(command, stdout, 3)
    assert verdict.reason == "NonZeroExit"
    assert verdict.message == f"{command} ended with the exit code 3. It printed no response."


@pytest.mark.parametrize("command", Command)
def test_a_response_at_another_exit_code_is_a_failure_with_its_answer(command: Command) -> None:
    verdict = judged(command, RESPONSES[command], 1)
    assert (verdict.state, verdict.reason) == (JobState.FAILED, "NonZeroExit")
    assert verdict.answer is not None
    assert verdict.message.startswith(f"{command} ended with the exit code 1.")


def test_out_of_memory() -> None:
    verdict = judged(Command.RUN_ALGORITHM, b"", 137, out_of_memory=True)
    assert verdict.reason == "OutOfMemory"


def test_a_failure_at_exit_0_is_a_failure() -> None:
    verdict = judged(Command.RUN_ALGORITHM, RUN_1_0)
    assert (verdict.state, verdict.reason) == (JobState.FAILED, "TrainFailed")
    assert verdict.message == "The train says that its algorithm failed. no rows see the log"
    assert isinstance(verdict.answer, RunResult)
    silent = judged(Command.RUN_ALGORITHM, {"state": "FAILURE", "export_files": ["no path"]})
    assert silent.message == "The train says that its algorithm failed. It does not say why."
    both = judged(Command.RUN_ALGORITHM, RUN_1_0, 2)
    assert both.message == "run_algorithm ended with the exit code 2. " + verdict.message


def test_application_is_no_failure_and_is_noted() -> None:
    verdict = judged(Command.RUN_ALGORITHM, {"state": "APPLICATION", "message": "one more round"})
    assert verdict.ok
    assert verdict.message == "one more round"
    assert isinstance(verdict.answer, RunResult)
    assert verdict.answer.state is RunState.APPLICATION
    assert "application" in verdict.notes[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"state": "success", "next_train_tag": "A_B"}, "next tag cannot be 'A_B'"),
        ({"state": "success", "export_files": ["model"]}, "cannot export 'model'"),
        ({"state": "success", "export_files": ["/data/rows.csv"]}, "in the station's data (/data)"),
        ({"state": "fine"}, "state cannot be 'fine'"),
        (b'{"state": "success", "message": NaN}', "has NaN"),
    ],
)
def test_a_run_whose_response_is_not_valid(content: object, words: str) -> None:
    verdict = judged(Command.RUN_ALGORITHM, content, rules=Rules(data=("/data",)))
    assert (verdict.state, verdict.reason) == (JobState.FAILED, "InvalidResponse")
    assert words in verdict.message


def test_unmet_requirements_are_named() -> None:
    verdict = judged(Command.CHECK_REQUIREMENTS, {**JANUARY_2019, "unmet": [2], "message": "Ask the steward."})
    assert (verdict.state, verdict.reason) == (JobState.FAILED, "RequirementsUnmet")
    assert verdict.message == (
        "The train needs FOO_BAR (a URL such as https://data.example.com/fhir): it is unmet, as the train finds. Add "
        "what is missing to the environment of the station's connection. Ask the steward."
    )
    assert verdict.evaluation is not None
    assert verdict.evaluation.unmet == ("FOO_BAR",)
    failed = judged(Command.CHECK_REQUIREMENTS, {**JANUARY_2019, "unmet": [2]}, 1)
    assert failed.reason == "NonZeroExit"
    assert "FOO_BAR" in failed.message
    assert judged(Command.CHECK_REQUIREMENTS, {**JANUARY_2019, "unmet": [0]}).ok  # the other of the two is met


def test_a_check_in_terms_of_what_was_listed() -> None:
    needs = read_requirements(listed("A", "B", relations=[{"type": "any", "requirements": [0, 1]}]))
    assert judged(Command.CHECK_REQUIREMENTS, {"unmet": [0]}, rules=Rules(listed=needs)).ok
    assert not judged(Command.CHECK_REQUIREMENTS, {"unmet": [0]}).ok
    assert judged(Command.CHECK_REQUIREMENTS, {"unmet": [5]}, rules=Rules(listed=needs)).reason == "InvalidResponse"


@pytest.mark.parametrize("command", [Command.LIST_REQUIREMENTS, Command.CHECK_REQUIREMENTS])
def test_unknown_targets(command: Command) -> None:
    content = {"unmet": [], "requirements": [{"id": 0, "requirement": variable("A", "FHIR")}]}
    verdict = judged(command, content)
    assert verdict.reason == "InvalidResponse"
    assert "target 'FHIR'" in verdict.message
    assert judged(command, content, rules=Rules(targets=read_targets({"FHIR": ""}))).ok


def test_the_strict_mode() -> None:
    stdout = json.dumps(RUN_JANUARY_2019).encode() + b"\nbye\n"
    assert judged(Command.RUN_ALGORITHM, stdout).notes == ("3 characters after the train's response were not read.",)
    assert judged(Command.RUN_ALGORITHM, stdout, rules=Rules(strict=True)).reason == "InvalidResponse"


def test_a_summary_that_is_plain_text() -> None:
    plain = Rules(plain_summary=True)
    verdict = judged(Command.PRINT_MODEL_SUMMARY, b"weights: 1 2 3\n\xff", rules=plain)
    assert verdict.answer == Summary(content="weights: 1 2 3\n\ufffd")
    assert verdict.notes
    assert not judged(Command.PRINT_MODEL_SUMMARY, b"weights: 1 2 3\n").ok
    assert not judged(Command.PRINT_MODEL_SUMMARY, b" \n", rules=plain).ok
    assert not judged(Command.RUN_ALGORITHM, b"weights", rules=plain).ok
    assert judged(Command.PRINT_MODEL_SUMMARY, b'{"content": NaN}', rules=plain).reason == "InvalidResponse"
    assert judged(Command.PRINT_MODEL_SUMMARY, {"content": "x"}, rules=plain).answer == Summary(content="x")
