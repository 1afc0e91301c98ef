# SPDX-License-Identifier: Apache-2.0
"""What an import adds to a process that has ``airflow.sdk`` already, measured in a fresh one."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

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
