# SPDX-License-Identifier: Apache-2.0
"""``@task.training`` in DAGs, run by Airflow's own ``dag.test()`` against the real server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from airflow.sdk import DAG, task

from airflow_provider_jobapi._airflow import AirflowFailException
from airflow_provider_jobapi.decorators.training import TrainingDecoratedOperator, training_task
from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.operators.training import SubmitTrainingOperator
from tests.harness.tries import Task


def lines(server, job_id: str) -> list[str]:
    """The lines of a job, without their times and those of the server."""
    texts = [line.partition(" ")[2] for line in server.job_log(job_id).split("\n")[:-1]]
    return [text for text in texts if not text.startswith("jobapi: ")]


def test_every_argument_arrives_and_the_model_is_fetched(inline, connected, tmp_path):
    run = inline.run("function", {"models": str(tmp_path)})
    assert run.state == "success"
    result = run.xcom("train")
    assert (result["status"], connected.status(result["job_id"])["name"]) == ("SUCCESSFUL", "function")
    said = lines(connected, result["job_id"])
    odd = json.loads(said[0].removeprefix("odd "))
    functions = inline.dags["function"].get_task("train").python_callable.__globals__
    assert odd == functions["ODD"] | {"template": "{{ not }} {# a template #}"}
    rest = json.loads(said[1].removeprefix("rest "))
    assert rest == [
        [1, 2],
        ["function"],
        3600,
        {"models": str(tmp_path)},
        {"named": {"a": ["b"]}},
        "1,2\n",
        ["--epochs=3"],
    ]
    assert said[2] == "train returned {'hours': 1}"
    assert (tmp_path / "1" / "saved_model.pb").read_bytes() == b"of a function"
    assert run.xcom("wait")["job_id"] == result["job_id"]


def test_it_maps_and_takes_what_mapped_tasks_gave(inline, connected):
    run = inline.run("function_mapped")
    assert run.state == "success"
    jobs = [run.xcom("again", map_index=index)["job_id"] for index in (0, 1)]
    assert [lines(connected, job) for job in jobs] == [["power 4"], ["power 9"]]
    assert {connected.status(job)["name"] for job in jobs} == {"squares"}
    assert lines(connected, run.xcom("total")["job_id"]) == ["all ['SUCCESSFUL', 'SUCCESSFUL']"]


def test_a_function_that_raises_fails_the_task_and_its_traceback_names_the_line(inline, connected):
    run = inline.run("function_that_fails", {"why": "no rows"})
    assert run.states == {"fail": "failed"}
    said = lines(connected, run.xcom("fail", "training_job_id"))
    assert "    raise ValueError(why)" in said
    assert said[-1] == "ValueError: no rows"


def test_it_is_registered_under_its_name():
    assert task.training is training_task or task.training.__wrapped__ is training_task


def test_it_takes_every_parameter_of_the_operator_but_the_script():
    with DAG("d", schedule=None):

        @training_task(
            task_id="other", requirements=["numpy"], job_resources={"cpus": 2}, retries=3, timeout=5, conn_id="c"
        )
        def train(a):
            pass

        operator = train(a="{{ ds }}").operator
    assert isinstance(operator, SubmitTrainingOperator)
    assert (operator.task_id, operator.requirements, operator.retries, operator.conn_id) == ("other", ["numpy"], 3, "c")
    assert set(operator.template_fields) == {"op_args", "op_kwargs", *SubmitTrainingOperator.template_fields}
    assert operator.custom_operator_name == "@task.training"
    assert operator.multiple_outputs is False


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"script": "pass"}, "takes no script"),
        ({"entry_point": "train.py"}, "takes no entry_point: the function is what is run"),
        ({"python_major_version": 2}, "needs python_major"),
    ],
)
def test_what_makes_no_sense_with_a_function_is_refused(options, words):
    with pytest.raises(InvalidJob, match=words):
        training_task(**options)(test_it_is_registered_under_its_name)


def test_a_function_beside_a_folder_of_modules(connected, tmp_path):
    for path, text in {"nets/__init__.py": "", "nets/a.py": "from .b import X\n", "nets/b.py": "X = 7\n"}.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    (tmp_path / "train.py").write_text("raise SystemExit('another script')\n")
    with DAG("beside", schedule=None):

        @training_task(source=tmp_path, arguments={"Rate": 0.5, "amp": None}, env_vars={"TOKEN": "t"}, deferrable=False)
        def train(width):
            import os
            import sys

            from nets.a import X

            print(X, width, sys.argv[1:], os.environ["TOKEN"])

        operator = train(3).operator
    trained = Task()
    operator.execute(trained.context(operator))
    assert lines(connected, trained.job_id) == ["7 3 ['--Rate=0.5', '--amp'] t"]


def test_a_constant_that_is_changed_below_the_function_fails_the_task(load):
    train = load(
        """
        from airflow.sdk import DAG, task
        L = []
        with DAG("d", schedule=None):
            @task.training
            def learn(): return L
            train = learn()
        ALIAS = L
        ALIAS.append(3)
        """
    )
    with pytest.raises(AirflowFailException, match="learn uses L, which its file binds to another value"):
        train.operator.execute({})


def test_it_can_be_serialized():
    try:
        from airflow.serialization.serialized_objects import DagSerialization as Serialization
    except ImportError:
        from airflow.serialization.serialized_objects import SerializedDAG as Serialization
    with DAG("d", schedule=None) as dag:

        @training_task
        def train(a, b=1):
            pass

        train(1)
        train.partial(b=2).expand(a=[1, 2])
    once, again = (Serialization.to_dict(dag) for _ in range(2))
    assert once == again
    json.dumps(once)


def test_what_the_dag_file_holds_beside_the_function_stays_at_home(inline):
    script = inline.dags["function"].get_task("train").script
    assert "airflow" not in script.replace("airflow-provider-jobapi", "")
    assert "pandas" not in script.replace("pd.DataFrame", "")
    assert "write_model" in script
    assert "ODD" not in script
    assert isinstance(inline.dags["function"].get_task("train"), TrainingDecoratedOperator)
    assert Path(inline.dags["function"].fileloc).name in script.splitlines()[0]


def test_on_a_real_airflow(airflow, jobapi_server, tmp_path):
    run_id = airflow.run("function", {"models": str(tmp_path / "models")})
    for task_id in ("train", "fetch", "wait"):
        airflow.wait_for_state("function", run_id, task_id, "success")
    texts = airflow.lines("function", run_id, "train")
    assert "train returned {'hours': 1}" in texts
    assert "train returned {'hours': 1}" in airflow.lines("function", run_id, "wait")
    assert airflow.task("function", run_id, "train")["operator_name"] == "@task.training"
    job_id = airflow.xcom("function", run_id, "train")["job_id"]
    assert jobapi_server.status(job_id)["status"] == "SUCCESSFUL"
