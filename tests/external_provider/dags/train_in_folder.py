# SPDX-License-Identifier: Apache-2.0
"""The same training twice: followed by a worker, and by a trigger."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_jobapi.operators.training import SubmitTrainingOperator

SCRIPT = """\
import os, sys
from pathlib import Path
print("training with", *sys.argv[1:])
(Path(os.environ["MODEL_DIR"]) / "model.txt").write_text("trained")
"""

with DAG("train_in_folder", schedule=None):
    for name, deferrable in {"inline": False, "deferred": True}.items():
        SubmitTrainingOperator(
            task_id=name,
            conn_id="folders",
            script=SCRIPT,
            env=[{"name": "HOW", "value": name}],
            deferrable=deferrable,
        )
