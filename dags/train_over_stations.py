# SPDX-License-Identifier: Apache-2.0
"""Move a train over two stations, and compare what it has learned: the data stay, the train comes to them.

Needs the image of docs/train_container.md in a registry, and the connections ``station_one_default`` and
``station_two_default`` of the type ``train_container``, each with a ``docker_conn_id`` for the registry and
``{"PATIENTS_URL": "file:///data/patients.csv"}`` as its environment.
"""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import chain, dag, task

from airflow_provider_jobapi.operators.train_container import RunTrainOperator, TrainCommandOperator

STATIONS = {
    "station_one_default": {"patients.csv": Path.home() / "station_one" / "patients.csv"},
    "station_two_default": {"patients.csv": Path.home() / "station_two" / "patients.csv"},
}
"""By the connection: the data of the station. Where they are on other machines, each station has a worker of its own,
and its task a ``queue``."""


@dag(schedule=None, params={"train": "registry.example.com/trains/bmi:base"}, tags=["jobapi"])
def train_over_stations():
    @task
    def compare(summaries):
        first, last = (each["response"]["content"] for each in summaries)
        return {"patients": [first["patients"], last["patients"]], "mean_bmi": [first["mean_bmi"], last["mean_bmi"]]}

    image, tasks, summaries = "{{ params.train }}", [], []
    for conn_id, data in STATIONS.items():
        station = conn_id.removesuffix("_default")
        run = RunTrainOperator(task_id=f"run_{station}", conn_id=conn_id, image=image, data_input=data, deferrable=True)
        image = f"{{{{ ti.xcom_pull('{run.task_id}')['successor']['image'] }}}}"
        summary = TrainCommandOperator(
            task_id=f"summary_{station}", conn_id=conn_id, image=image, command="print_model_summary"
        )
        tasks += [run, summary]
        summaries.append(summary.output)
    chain(*tasks, compare(summaries))


train_over_stations()
