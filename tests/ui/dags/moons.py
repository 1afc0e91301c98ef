# SPDX-License-Identifier: Apache-2.0
"""The training of the pictures: a small network learns to tell two moons apart, on data of its own."""

from __future__ import annotations

import math
import random
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG

from airflow_provider_jobapi.operators.training import SubmitTrainingOperator


def moons(count: int) -> str:
    """Points on two half circles that reach into each other, as CSV."""
    chance = random.Random(7)  # noqa: S311 -- the same data each time
    rows = ["x,y,moon"]
    for number in range(count):
        angle, moon = chance.uniform(0, math.pi), number % 2
        x = math.cos(angle) if moon == 0 else 1 - math.cos(angle)
        y = math.sin(angle) if moon == 0 else 0.5 - math.sin(angle)
        rows.append(f"{chance.gauss(x, 0.16):.4f},{chance.gauss(y, 0.16):.4f},{moon}")
    return "\n".join(rows) + "\n"


with DAG("two_moons", schedule=None):
    SubmitTrainingOperator(
        task_id="train",
        deferrable=True,
        script=Path(__file__).parent / "scripts" / "moons.py",
        requirements="numpy>=2",
        job_resources={"cpus": 1, "gpus": 0, "memory": 2048},
        completion_time=3600,
        env=[
            {"name": "RATE", "value": "{{ (dag_run.conf['rates'] + [0.4])[ti.try_number - 1] }}"},
            {"name": "PAUSE", "value": "{{ dag_run.conf['pause'] }}"},
        ],
        data_input={"moons.csv": moons(1200)},
        destination="{{ dag_run.conf['models'] }}",
        retries=2,
        retry_delay=timedelta(seconds=1),
    )
