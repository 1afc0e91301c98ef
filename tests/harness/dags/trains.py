# SPDX-License-Identifier: Apache-2.0
"""A train at a station, for the tests: what it runs, and on which data, are parameters of the run."""

from airflow.sdk import DAG, Param

from airflow_provider_jobapi.operators.training import SubmitTrainingOperator

with DAG(
    "train_at_station",
    schedule=None,
    render_template_as_native_obj=True,
    params={
        "image": Param("localhost/scripted:1", type="string"),
        "code": Param("answer()", type="string"),
        "options": Param({}, type="object"),
        "models": Param("", type="string"),
        "script": Param(None, type=["string", "null"]),
    },
):
    SubmitTrainingOperator(
        task_id="train",
        conn_id="station_default",
        image="{{ params.image }}",
        arguments=["{{ params.code }}"],
        data_input={"rows.csv": "1,2\n"},
        service_options="{{ params.options }}",
        destination="{{ params.models or None }}",
        completion_time="10m",
    )
