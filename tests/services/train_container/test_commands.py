# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.train_container.commands import (
    RULES,
    Command,
    Spelling,
    environment_for,
    read_arguments,
    read_spelling,
)

TABLE = {  # as the specification has it: command, "OCI Image Config at runtime"
    "list_requirements": None,
    "check_requirements": "config.Env",
    "print_model_summary": None,
    "run_algorithm": "config.Env",
}


def test_the_commands_are_those_of_the_specification() -> None:
    assert {str(command): "config.Env" if RULES[command].environment else None for command in Command} == TABLE
    assert [command for command in Command if RULES[command].kept] == [Command.RUN_ALGORITHM]


@pytest.mark.parametrize("command", Command)
def test_only_the_commands_with_an_environment_get_it(command: Command) -> None:
    got = environment_for(command, {"DATA_URL": "https://data.example.com"})
    assert bool(got) == (TABLE[command] is not None)


def test_no_such_command() -> None:
    with pytest.raises(InvalidJob, match=r"command cannot be 'describe': Train API V1 has the commands list_req.*\.$"):
        Command.of("describe")
    assert Command.of("run_algorithm") is Command.RUN_ALGORITHM
    with pytest.raises(InvalidJob):
        Command.of(None)


def test_the_spelling_of_an_image() -> None:
    assert read_spelling().arguments(Command.RUN_ALGORITHM, ["--epochs", "5"]) == ["run_algorithm", "--epochs", "5"]
    later = read_spelling("describe_run", "--station-id 7 --track-info 'two words'")
    assert later.arguments(Command.LIST_REQUIREMENTS) == [
        "--station-id", "7", "--track-info", "two words", "describe",
    ]  # fmt: skip
    assert read_spelling("describe_run").arguments(Command.RUN_ALGORITHM) == ["--station-id", "1", "run"]
    own = read_spelling({"run_algorithm": "algorithm run", "check_requirements": ["requirements", "--check"]}, [])
    assert own.arguments(Command.RUN_ALGORITHM) == ["algorithm", "run"]
    assert own.arguments(Command.CHECK_REQUIREMENTS) == ["requirements", "--check"]
    assert own.arguments(Command.PRINT_MODEL_SUMMARY) == ["print_model_summary"]
    assert read_spelling({}, ["--station-id", 1]) == Spelling({}, ("--station-id", "1"))


@pytest.mark.parametrize(
    ("names", "prefix", "words"),
    [
        ("v2", None, "command_names cannot be 'v2': it is train_api_v1 or describe_run"),
        (["run"], None, "command_names is a list: it is an object of commands"),
        ({"train": "run"}, None, "command cannot be 'train'"),
        ({"run_algorithm": ""}, None, "command_names['run_algorithm'] cannot be []"),
        ({"run_algorithm": None}, None, "command_names['run_algorithm'] cannot be None"),
        (None, "--station-id 'one", "command_prefix cannot be split into words (No closing quotation)"),
        (None, ["a\0b"], "without NUL"),
        (None, {"--station-id": 1}, "command_prefix cannot be {"),
    ],
)
def test_spellings_that_are_refused(names: Any, prefix: Any, words: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        read_spelling(names, prefix)
    assert words in str(caught.value)
    assert str(caught.value).endswith(".")


def test_arguments() -> None:
    assert read_arguments("command_args", None) == ()
    assert read_arguments("command_args", "") == ()
    assert read_arguments("command_args", ["--rate", 0]) == ("--rate", "0")
