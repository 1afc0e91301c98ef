# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.job_file import JobFile, check_path
from tests.harness.work import seconds_of

# The two public job files of the real service, as far as their documents show them.
SAPML_2018 = """
job:
  name: "train-character-cnn"
  execution:
    image: "tensorflow/tensorflow:1.6.0-gpu-py3"
    command: "./scripts/run_train.sh"
    completionTime: "20h"
    resources: {cpus: 2, memory: 32000, gpus: 1}
  env:
    - {name: "EPOCHS_COUNT", value: 50}
    - {name: "LEARNING_RATE", value: 0.00003}
    - {name: "SHUFFLE", value: "True"}
"""
SUBMIT_2019 = """
job:
  name: Training
  env: [{name: job_name, value: Training}, {name: job_id, value: "2f1c"}]
  execution:
    command: 'pip3 install -r requirements.txt && python3 model_training.py'
    completionTime: 10000
    image: 'ml-foundation/sklearn:0.19.1-py3'
    resourcePlanId: basic
    retries: 0
"""


def test_the_job_file_of_2018_is_read():
    job = JobFile.parse(SAPML_2018).job
    assert job.execution.resources.model_dump() == {"cpus": 2, "gpus": 1, "memory": 32000}
    assert [variable.value for variable in job.env] == ["50", "3e-05", "True"]


def test_the_submit_of_2019_is_read():
    job = JobFile.parse(SUBMIT_2019).job
    assert job.execution.completion_time == "10000"
    assert job.execution.resource_plan_id == "basic"


def test_yaml_and_json_and_another_order_of_keys_are_the_same_job():
    content = yaml.safe_load(SAPML_2018)
    turned = {"job": dict(reversed(content["job"].items()))}
    digests = {
        JobFile.parse(text).digest() for text in (SAPML_2018, json.dumps(content), json.dumps(turned, indent="\t"))
    }
    assert len(digests) == 1


def test_defaults_are_part_of_the_canonical_form():
    short = "job: {name: a, execution: {command: x}}"
    full = "job: {name: a, env: [], execution: {command: x, image: '', resources: {cpus: 1, gpus: 0}, retries: 0}}"
    assert JobFile.parse(short).canonical() == JobFile.parse(full).canonical()


@pytest.mark.parametrize(
    ("written", "text"),
    [("1:30:00", "1:30:00"), ("010", "010"), ("0x10", "0x10"), ("1_000", "1_000"), ("2026-01-01", "2026-01-01"),
     ("90", "90"), ("1.5", "1.5"), (":".join(["1"] * 300) + ".0", ":".join(["1"] * 300) + ".0")],
)  # fmt: skip
def test_only_plain_decimal_numbers_are_numbers(written, text):
    value = JobFile.parse(f"job: {{name: a, env: [{{name: A, value: {written}}}], execution: {{command: x}}}}").job.env[
        0
    ]
    assert value.value == text


def test_the_order_of_env_counts():
    text = "job: {{name: a, execution: {{command: x}}, env: [{{name: {}, value: 1}}, {{name: {}, value: 1}}]}}"
    assert JobFile.parse(text.format("A", "B")).digest() != JobFile.parse(text.format("B", "A")).digest()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "holds no job"),
        ("- a", "holds no job"),
        ("job: {execution: {command: x}}", "job.name is missing"),
        ("job: {name: a}", "job.execution is missing"),
        ("job: {name: a, execution: {command: ''}}", "job.execution.command cannot be ''"),
        ("job: {name: a/b, execution: {command: x}}", "job.name cannot be 'a/b'"),
        ("job: {name: a, execution: {command: x, retries: 2}}", "retries cannot be 2: it is 0"),
        ("job: {name: a, execution: {command: x}, colour: blue}", "job.colour is not a known field"),
        ("job: {name: a, execution: {command: x, resources: {memory: 2GB}}}", "memory cannot be '2GB'"),
        ("job: {name: a, execution: {command: x, resources: {memory: .nan}}}", "memory cannot be '.nan'"),
        ("job: &anchor {name: a, execution: {command: x}}", "anchor"),
        ("job: {name: &a a, execution: *a}", "anchor"),
        ("job: !!python/object/apply:os.system [ls]", "tag"),
        ("job: {name: a, name: b, execution: {command: x}}", "'name' twice"),
        ('{"job": {"name": "a", "name": "b"}}', "'name' twice"),
        ("job: {name: a, execution: {command: x}, env: [{name: A, value: 1}, {name: A, value: 2}]}", "'A' twice"),
        ("job: {name: a, execution: {command: x}, inputs: [{path: ../a, size: 1, sha256: b}]}", "inputs[0].path"),
        ("[" * 5_000, "neither YAML nor JSON"),
        ("{" * 5_000, "neither YAML nor JSON"),
        ("job: [", "neither YAML nor JSON"),
        (b"\xff\xfe", "UTF-8"),
        ("a: \x07", "neither YAML nor JSON"),
        ("job: {name: a, execution: {command: x, resources: {memory: 0x" + "f" * 5_000 + "}}}", "memory cannot be"),
        (
            '{"job": {"name": "a", "execution": {"command": "x", "resources": {"memory": ' + "9" * 4_299 + "}}}}",
            "memory",
        ),
        ('{"job": {"name": "a", "execution": {"command": "x", "completionTime": ' + "9" * 9_999 + "}}}", "neither"),
        ('{"job": {"name": "a", "execution": {"command": "\\ud800"}}}', "job.execution.command cannot be"),
        ("job: " + "a," * 200_000, "write it as JSON"),
    ],
)
def test_a_bad_job_file_gives_one_clear_sentence(text, part):
    with pytest.raises(InvalidJob) as caught:
        JobFile.parse(text)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bomb_of_aliases_is_refused_at_once():
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{name}: &{name} [{','.join(['*' + last] * 9)}]\n" for last, name in zip("abcdefgh", "bcdefghi", strict=True)
    )

    def refused() -> None:
        with pytest.raises(InvalidJob, match="anchor"):
            JobFile.parse(bomb)

    assert seconds_of(refused) < 1


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text):
    with contextlib.suppress(InvalidJob):
        assert JobFile.parse(text).canonical()


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
KEYS = st.sampled_from(["job", "name", "execution", "command", "env", "value", "resources", "cpus", "inputs"])
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_no_value_of_any_type_breaks_the_reader(value):
    with contextlib.suppress(InvalidJob):
        assert JobFile.parse(json.dumps({"job": value})).canonical()


@pytest.mark.parametrize(
    "path", ["", "/a", "a/../b", "..", ".", "./a", "a/", "a//b", "a\\b", "a\nb", "a\0b", "x" * 1025, "a/./b"]
)
def test_a_path_that_could_leave_its_directory_is_refused(path):
    with pytest.raises(ValueError):  # noqa: PT011 -- the message is the caller's
        check_path(path)


@pytest.mark.parametrize("path", ["a", "data/train.csv", "ümlaut.csv", "a b", "..a", "a..b", "-rf"])
def test_a_path_inside_is_accepted(path):
    assert check_path(path) == path
