# SPDX-License-Identifier: Apache-2.0
"""A training that prints whatever stands in a file, then waits for a gate."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_jobapi.operators.training import SubmitTrainingOperator

SCRIPT = """
import argparse, pathlib, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("--wild")
parser.add_argument("--gate")
arguments = parser.parse_args()
sys.stdout.write(pathlib.Path(arguments.wild).read_text())
sys.stdout.flush()
while not pathlib.Path(arguments.gate).exists():
    time.sleep(0.05)
"""

with DAG("hostile_lines", schedule=None):
    SubmitTrainingOperator(
        task_id="train", deferrable=True, script=SCRIPT, config="{{ dag_run.conf | tojson }}", completion_time="5m"
    )
