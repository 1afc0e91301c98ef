# SPDX-License-Identifier: Apache-2.0
"""The operators in Airflow: their parameters, templates and mapping."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow.sdk import DAG, BaseOperator, ObjectStoragePath, literal

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.operators.model import FetchModelOperator, FetchSavedModelOperator, job_id_of
from airflow_provider_jobapi.operators.parameters import Parameters
from airflow_provider_jobapi.operators.register import RegisterModelOperator
from airflow_provider_jobapi.operators.train_container import RunTrainOperator, TrainCommandOperator
from airflow_provider_jobapi.operators.train_validation import ValidateTrainOperator
from airflow_provider_jobapi.operators.training import SubmitTrainingOperator
from airflow_provider_jobapi.sensors.training import TrainingSensor

TRAINS = [TrainCommandOperator, RunTrainOperator, ValidateTrainOperator]
OPERATORS = [SubmitTrainingOperator, FetchModelOperator, FetchSavedModelOperator]


def parameters(operator) -> set[str]:
    return set(inspect.signature(operator.__init__).parameters) - {"self", "kwargs"}


def rendered(operator, dag_options=None, context=None, **fields):
    """The operator after Airflow rendered its templates."""
    with DAG("d", schedule=None, **(dag_options or {})):
        task = operator(task_id="t", **fields)
    task.render_template_fields(context or {"name": "world", "ds": "2026-11-21"})
    return task


@pytest.mark.parametrize("operator", [*OPERATORS, *TRAINS, RegisterModelOperator])
def test_no_parameter_is_an_attribute_of_base_operator(operator):
    with DAG("d", schedule=None):
        base = BaseOperator(task_id="base")
    taken = set(dir(base)) | set(inspect.signature(BaseOperator.__init__).parameters)
    # default_args reach every operator, so a name that means something there must not mean another thing here.
    assert not parameters(operator) & taken


@pytest.mark.parametrize("operator", [*OPERATORS, TrainingSensor])
def test_the_default_connection(operator):
    assert inspect.signature(operator.__init__).parameters["conn_id"].default == "jobapi_default"


@pytest.mark.parametrize("operator", [*OPERATORS, RegisterModelOperator])
def test_every_template_field_is_a_parameter(operator):
    assert set(operator.template_fields) <= parameters(operator)
    assert operator.template_ext == ()


def test_what_is_templated_and_what_is_not():
    assert SubmitTrainingOperator.template_fields == (
        "source",
        "entry_point",
        "job_name",
        "env",
        "env_vars",
        "arguments",
        "image",
        "completion_time",
        "job_resources",
        "nodes",
        "requirements",
        "python_major_version",
        "data_input",
        "resume_from",
        "keep_checkpoints",
        "service_options",
        "destination",
        "config",
    )
    assert FetchSavedModelOperator.template_fields == ("conn_id", "job", "destination", "version")
    assert FetchModelOperator.template_fields == ("conn_id", "job", "destination", "version", "kind")


@pytest.mark.parametrize("native", [False, True])
def test_values_keep_their_types_and_their_bytes(native):
    data = {
        "crlf.csv": "a,b\r\n1,2\r\n",
        "braces.json": '{"a": {"b": 1}}\n',
        "number": "5",
        "x.py": "model.yaml",
        "raw": b"{{ name }}\r\n",
        "path": Path("rows/{{ name }}.csv"),
        "object": ObjectStoragePath("file:///rows/a.csv"),
        "template": "hello {{ name }}",
        "chat.jinja": "{{#1}} {# gone? #} {% for m in messages %}\r\n\n",
        "literal": literal("{{ name }}\r\n"),
    }
    env = [{"name": "CONFIG", "value": "model.yaml"}, {"name": "N", "value": 5}, {"name": "S", "value": "5\n"}]
    task = rendered(
        SubmitTrainingOperator,
        {"render_template_as_native_obj": native},
        script="x = {'{{': 1} {# gone? #} {% raw",
        data_input=data,
        env=env,
    )
    assert task.script == "x = {'{{': 1} {# gone? #} {% raw"
    assert task.env == env
    assert task.data_input == data | {"literal": "{{ name }}\r\n"}


@pytest.mark.parametrize("native", [False, True])
def test_data_is_a_template_only_where_the_dag_says_so(native):
    options = {"render_template_as_native_obj": native}
    data = {"a": "hello {{ name }}", "b": literal("{{ name }}"), "c": b"{{ name }}"}
    task = rendered(SubmitTrainingOperator, options, data_input=data, template_data=True)
    assert task.data_input == {"a": "hello world", "b": "{{ name }}", "c": b"{{ name }}"}
    task = rendered(SubmitTrainingOperator, options, data_input="{{ {'a': name} | tojson }}")
    assert task.data_input in ('{"a": "world"}', {"a": "world"})


def test_data_within_config_is_no_template_either():
    config = {"image": "of-{{ name }}", "data_input": {"a": "{# gone? #}\r\n"}}
    assert rendered(SubmitTrainingOperator, config=config).config == config | {"image": "of-world"}


@pytest.mark.parametrize("native", [False, True])
def test_templates_of_numbers_and_dates(native):
    values = {"params": {"cpus": 2, "memory": 512, "python": 3}, "ds_nodash": "20261121"}
    task = rendered(
        SubmitTrainingOperator,
        {"render_template_as_native_obj": native},
        values,
        script="pass",
        job_name="{{ ds_nodash }}",
        job_resources={"cpus": "{{ params.cpus / 1 }}", "memory": " {{ params.memory }} "},
        python_major_version="{{ params.python }}",
        nodes="{{ params.cpus }}",
        completion_time=timedelta(hours=2),
    )
    job = Parameters.of(task).job
    assert (job.name, job.resources.cpus, job.resources.memory, job.python_major_version, job.nodes) == (
        "20261121",
        2,
        512,
        3,
        2,
    )
    assert job.completion_time == "7200"


def test_delimiters_of_the_dags_own_are_kept():
    options = {"jinja_environment_kwargs": {"variable_start_string": "<<", "variable_end_string": ">>"}}
    task = rendered(SubmitTrainingOperator, options, script="pass", job_name="hello-<< name >>", image="{{ name }}")
    assert (task.job_name, task.image) == ("hello-world", "{{ name }}")


def test_it_maps():
    with DAG("d", schedule=None) as dag:
        SubmitTrainingOperator.partial(task_id="t", script="pass", deferrable=True).expand(
            job_resources=[{"cpus": 1}, {"cpus": 2}]
        )
    task = dag.get_task("t").unmap({"job_resources": {"cpus": 2}})
    assert (task.job_resources, task.deferrable) == ({"cpus": 2}, True)


@pytest.mark.parametrize("configured", ["True", "False"])
def test_default_deferrable_is_airflows_setting(configured):
    import os
    import subprocess
    import sys

    source = (
        "from airflow_provider_jobapi.operators.training import SubmitTrainingOperator as S\n"
        "print('deferrable', S(task_id='t', script='pass').deferrable)"
    )
    environment = os.environ | {"AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": configured}
    ran = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True, check=True)
    assert f"deferrable {configured}" in ran.stdout


def test_a_dag_with_every_parameter_can_be_serialized(tmp_path):
    from airflow.sdk import task

    with DAG("d", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), default_args={"retries": 2}) as dag:

        @task
        def data():
            return {"a.csv": "1\n"}

        train = SubmitTrainingOperator(
            task_id="t",
            script=tmp_path / "train.py",
            env={"A": 1},
            job_resources={"cpus": 1, "gpus": 0, "memory": 512},
            data_input={"a.csv": data(), "b": b"\0", "c": Path("c"), "d": ObjectStoragePath("file:///d")},
            config={"completionTime": "2h"},
            timeout=timedelta(hours=1),
            patience=60,
        )
        FetchSavedModelOperator(task_id="f", job=train.output, destination=ObjectStoragePath("file:///m"))
        RegisterModelOperator(task_id="r", job=train.output, name="digits", model=ObjectStoragePath("file:///m/1"))
        FetchModelOperator(task_id="g", job=train.output, destination=ObjectStoragePath("file:///m"), kind="onnx")
    try:
        from airflow.serialization.serialized_objects import DagSerialization as Serialization
    except ImportError:
        from airflow.serialization.serialized_objects import SerializedDAG as Serialization
    once, again = (Serialization.to_dict(dag) for _ in range(2))
    assert once == again
    assert dag.get_task("t").upstream_task_ids == {"data"}
    assert dag.get_task("f").upstream_task_ids == {"t"}


@pytest.mark.parametrize(
    "job", ["2f", {"job_id": "2f", "status": "SUCCESSFUL", "model": None}, '{"job_id": "2f"}', " 2f\n"]
)
def test_a_job_is_named_by_its_result_or_its_id(job):
    assert job_id_of(job) == "2f"


@pytest.mark.parametrize("job", [None, "", "None", " none\n", "null"])
def test_a_training_without_a_result_was_marked_or_skipped(job):
    """What a task that was marked as success has: nothing, and a template writes that as a word."""
    with pytest.raises(InvalidJob, match=r"^job is empty: the training task has no result, since it was marked"):
        job_id_of(job)


@pytest.mark.parametrize("job", [{}, {"job_id": None}, 5, "{'job_id': '2f'}"])
def test_a_job_without_an_id_is_refused(job):
    with pytest.raises(InvalidJob, match=r"^job "):
        job_id_of(job)
