# SPDX-License-Identifier: Apache-2.0
"""A triggerer's modules are left out of garbage collections, once; a worker's are not."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import gc, json
from types import SimpleNamespace
import tests.conftest
from airflow.sdk.execution_time.xcom import XCom
from tests.harness.scripted import ScriptedFollower, ScriptedTrigger, chunk, end

XCom.set = lambda *_, **__: None  # there is no supervisor to write to
frozen = []
for task in (None, *[SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1)] * 2):
    trigger = ScriptedTrigger(ScriptedFollower([chunk("a"), chunk("b"), end()]))
    trigger.shortest, trigger.task_instance = 0.0, task
    trigger.events()
    frozen.append(gc.get_freeze_count())
print(json.dumps(frozen))
"""


def test_modules_are_left_out_of_collections_in_a_triggerer() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=120)
    in_worker, in_triggerer, later = json.loads(ran.stdout.splitlines()[-1])
    assert in_worker == 0
    assert in_triggerer == later > 50_000
