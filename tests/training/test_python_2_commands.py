# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.training.job import TrainingJob
from airflow_provider_jobapi.training.job_limits import python_2_word


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("python train.py", "python"),
        ("pip install -r requirements.txt && python train.py", "pip"),
        ("pip3 install -r requirements.txt && python train.py", "python"),
        ("python3 a.py; python2 b.py", "python2"),
        ("A=1 B='x y' python train.py", "python"),
        ("(python2.7 train.py)", "python2.7"),
        ("true || pip2 install x", "pip2"),
        ("python3 a.py\npython b.py", "python"),
        ("cat x | python -", "python"),
        ("'python' train.py", "python"),
        ("python3 train.py --test_data=python", None),
        ("python3 train.py 'python train.py'", None),
        ("python3 -m pip install python", None),
        ("python3 train.py && echo pip; ls python", None),
        ("./python train.py", None),
        ("echo 'a\npython b'", None),
        ("python3 train.py '", None),
        ("", None),
    ],
)
def test_a_call_of_python_2_is_found_where_the_shell_would_run_it(command, word):
    assert python_2_word(command) == word


@given(st.text())
def test_any_command_can_be_checked(command):
    assert python_2_word(command) in {None, "python", "python2", "python2.7", "pip", "pip2", "pip2.7"}


@given(st.text(), st.sampled_from([2, 3]), st.sampled_from(["", "numpy"]))
def test_what_the_operator_builds_is_told_apart(value, version, requirements):
    value = value.replace("\0", "")
    job = TrainingJob.of(
        name="x",
        script="x",
        env=[{"name": "A", "value": value}],
        python_major_version=version,
        requirements=requirements,
    )
    assert (python_2_word(job.command()) is None) == (version == 3)
