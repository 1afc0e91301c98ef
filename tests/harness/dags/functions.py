# SPDX-License-Identifier: Apache-2.0
"""The tests' DAGs of ``@task.training`` and of the sensor."""

from __future__ import annotations

import json as js
from typing import TYPE_CHECKING

from airflow.sdk import DAG, dag, task

from airflow_provider_jobapi.operators.model import FetchSavedModelOperator
from airflow_provider_jobapi.sensors.training import TrainingSensor

if TYPE_CHECKING:
    import pandas as pd

MINUTE = 60
HOUR: int = 60 * MINUTE
ODD = {
    "quotes": 'it\'s "odd" \\ `$HOME` $(id) %s {} ',
    "lines": "a\r\nb\n\n\tc\n",
    "unicode": "žluťoučký 🐎 \u2028 \x00",
    "template": "{% raw %}{{ not }} {# a template #}{% endraw %}",
    "numbers": [0, -1, 2**63 - 1, 1.5e-300, 0.1],
    "nothing": None,
    "nested": [[], {}, [[1, [True, {"deep": [None]}]]]],
    "--flag": "; rm -rf / #",
    "empty": "",
}


def told(value: object) -> str:
    """What the log shows of a value."""
    return js.dumps(value)


def write_model() -> None:
    import os
    from pathlib import Path

    Path(os.environ["MODEL_DIR"]).mkdir(exist_ok=True)
    (Path(os.environ["MODEL_DIR"]) / "saved_model.pb").write_bytes(b"of a function")


@dag(schedule=None)
def function():
    @task
    def before() -> dict[str, list[int]]:
        return {"sizes": [1, 2]}

    @task.training(deferrable=True, job_name="function", data_input={"a.csv": "1,2\n"}, env={"EPOCHS": 3})
    def train(odd, sizes: pd.DataFrame, /, *more, limit=HOUR, params=None, **named) -> dict[str, int]:
        """Learns nothing.

        This line stands further left than the code."""
        import sys
        from pathlib import Path

        print("odd", told(odd))
        print("rest", told([sizes, more, limit, params, named, Path("a.csv").read_text(), sys.argv[1:]]))
        write_model()
        return {"hours": limit // HOUR}

    trained = train(ODD, before()["sizes"], "{{ dag.dag_id }}", named={"a": ("b",)})
    FetchSavedModelOperator(task_id="fetch", job=trained, destination="{{ dag_run.conf['models'] }}", version="1")
    TrainingSensor(task_id="wait", job=trained, deferrable=True)


function()

with DAG("function_mapped", schedule=None):

    @task.training(deferrable=False)
    def square(base, power, **_):
        print("power", base**power)

    @task
    def bases():
        return [2, 3]

    @task.training(deferrable=True)
    def total(jobs):
        print("all", sorted(job["status"] for job in jobs))

    total(square.override(task_id="again", job_name="squares").partial(power=2).expand(base=bases()))

with DAG("function_that_fails", schedule=None):

    @task.training(deferrable=True)
    def fail(why):
        raise ValueError(why)

    fail("{{ dag_run.conf['why'] }}")

for name, deferrable in (("sensor", True), ("sensor_inline", False)):
    with DAG(name, schedule=None):
        TrainingSensor(task_id="wait", job="{{ dag_run.conf['job'] }}", deferrable=deferrable)
        TrainingSensor(task_id="soft", job="{{ dag_run.conf['job'] }}", deferrable=deferrable, soft_fail=True)

with DAG("sensor_timeout", schedule=None):
    TrainingSensor(task_id="wait", job="{{ dag_run.conf['job'] }}", deferrable=True, timeout=2)
    TrainingSensor(task_id="soft", job="{{ dag_run.conf['job'] }}", deferrable=False, timeout=2, soft_fail=True)

with DAG("sensor_fetch", schedule=None):
    wait = TrainingSensor(task_id="wait", job="{{ dag_run.conf['job'] }}", deferrable=True, timeout=6 * 3600)
    FetchSavedModelOperator(task_id="fetch", job=wait.output, destination="{{ dag_run.conf['models'] }}")
