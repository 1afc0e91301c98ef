# SPDX-License-Identifier: Apache-2.0
"""Messages spell the parameters of a job as their reader writes them."""

from __future__ import annotations

import pytest

from airflow_provider_jobapi.training.parameter_names import COMMAND_LINE, entry, named, setting, spelled, spelling

CASES = [
    ("data['a b.csv'] is no file", "data_input['a b.csv'] is no file", "--data a b.csv is no file"),
    ("data is no file", "data_input is no file", "--data is no file"),
    ("name cannot be x", "job_name cannot be x", "--name cannot be x"),
    ("env_vars[0].value cannot", "env_vars[0].value cannot", "--env-var (number 1) cannot"),
    ("arguments[2] cannot", "arguments[2] cannot", "the arguments after -- (number 3) cannot"),
    ("resources.cpus cannot", "job_resources.cpus cannot", "resources.cpus cannot"),
    ("requirements.txt, line 3: no", "requirements.txt, line 3: no", "requirements.txt, line 3: no"),
    ("The name is taken", "The name is taken", "The name is taken"),
    ("--name is missing", "--name is missing", "--name is missing"),
    ("", "", ""),
]


@pytest.mark.parametrize(("message", "in_a_dag", "on_the_command_line"), CASES)
def test_a_message_that_begins_with_a_parameter(message, in_a_dag, on_the_command_line):
    assert spelled(message) == in_a_dag
    with spelling(COMMAND_LINE):
        assert spelled(message) == on_the_command_line
    assert spelled(message) == in_a_dag


def test_parameters_within_a_message():
    def said() -> list[str]:
        return [
            named("data"),
            entry("data", "a.csv"),
            entry("entry_point", "-m net"),
            setting("entry_point", "-m net"),
            setting("env_vars", "PYTHONPATH", "src"),
            setting("requirements", "uv.lock"),
        ]

    assert said() == [
        "data_input",
        "data_input['a.csv']",
        "entry_point '-m net'",
        "entry_point='-m net'",
        'env_vars={"PYTHONPATH": "src"}',
        "Path('uv.lock')",
    ]
    with spelling(COMMAND_LINE):
        assert said() == ["--data", "--data a.csv", "-m net", "-m net", "--env-var PYTHONPATH=src", "-r uv.lock"]
