# SPDX-License-Identifier: Apache-2.0
"""What an import adds to a process that has ``airflow.sdk`` already, measured in a fresh one."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from statistics import median

from tests.benchmarks.table import Row

OURS = {
    "SubmitTrainingOperator": "from airflow_provider_jobapi.operators.training import SubmitTrainingOperator",
    "FetchSavedModelOperator": "from airflow_provider_jobapi.operators.model import FetchSavedModelOperator",
}
ANCHOR = "from airflow.providers.amazon.aws.operators.sagemaker import SageMakerTrainingOperator"
RUNS = 7

PROGRAM = """
import json, sys, time
from airflow.sdk import DAG, BaseOperator, dag, task
before, begin = set(sys.modules), time.perf_counter()
try:
    {statement}
except ImportError:
    print("RESULT null")
else:
    took = (time.perf_counter() - begin) * 1_000
    print("RESULT " + json.dumps([sorted(set(sys.modules) - before), took]))
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """The modules that an import loads, and the milliseconds that it takes."""

    modules: list[str]
    milliseconds: float


def cost(statement: str) -> Cost | None:
    """Measure an import; None where it is not installed."""
    program = PROGRAM.format(statement=statement)
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    (line,) = (line for line in ran.stdout.splitlines() if line.startswith("RESULT "))
    result = json.loads(line.removeprefix("RESULT "))
    return None if result is None else Cost(*result)


def measure() -> list[Row]:
    """Import each operator beside the one of Amazon SageMaker, in turn.

    :raises RuntimeError: when the Amazon provider is not installed.
    """
    rows = []
    for name, statement in OURS.items():
        pairs = [(cost(statement), cost(ANCHOR)) for _ in range(RUNS)]
        costs = [(ours.milliseconds, anchor.milliseconds) for ours, anchor in pairs if ours and anchor]
        if not costs:
            raise RuntimeError("The anchor is not installed: pip install apache-airflow-providers-amazon")
        ours, anchor = (median(each) for each in zip(*costs, strict=True))
        rows.append(Row(f"import {name}", ours, anchor, "ms", 0.1, anchor_is="SageMakerTrainingOperator"))
    return rows
