# SPDX-License-Identifier: Apache-2.0
"""Rows 8, 9 and 14 of the kill matrix: retries, a fetch that fails, many tasks at once."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.harness.airflow import settings
from tests.harness.cluster_training import Stage
from tests.harness.proxy_faults import Canned
from tests.harness.waiting import wait_for
from tests.kills.rows import at_once

pytestmark = pytest.mark.slow

OTHER_AIRFLOW = """
import json, sys
from datetime import datetime
from pathlib import Path
from tests.harness.inline import Inline

given = json.loads(sys.argv[1])
moment = datetime.fromisoformat(given["moment"])
dag = Inline(Path(given["folder"])).dags[given["dag_id"]]
assert dag.test(logical_date=moment, run_after=moment, run_conf=given["conf"]).state == "success"
"""
"""Runs a DAG once, on a database of its own, under the run id that ``moment`` makes."""


def test_rows_8_and_9_retries_are_edited_two_airflows_share_a_run_and_a_fetch_fails(
    stage: Stage, tmp_path: Path
) -> None:
    at_once(
        lambda: edit_retries(stage),
        lambda: train_on_two_airflows(stage, tmp_path),
        lambda: fail_to_fetch(stage, tmp_path),
    )


def edit_retries(stage: Stage) -> None:
    """Neither the resumed task nor its retry takes its job for another's: one job a life, whatever ``retries`` says."""
    edited = stage.dags / "kills_edited.py"
    source = edited.read_text()
    training = stage.train("kills_edited")
    job = training.wait_for_job()
    training.wait("deferred")
    try:
        edited.write_text(source.replace("retries=1", "retries=5"))
        wait_for("the edit is parsed", lambda: stage.retries("kills_edited") == 5, 60)
        training.finish(job, code=1)
        second = training.wait_for_job(count=2)
        training.wait("deferred", attempt=2)
        training.end()
    finally:
        edited.write_text(source)
    training.check_lines(job, 1)
    training.check_lines(second, 2)
    training.check("FAILED", "SUCCESSFUL")


def train_on_two_airflows(stage: Stage, tmp_path: Path) -> None:
    """Each has a job of its own."""
    moment = "2026-01-05T06:07:08+00:00"
    name = f"kill-{next(stage.numbers)}"
    conf = {"name": name, "env": {"LINES": "30"}}
    training = stage.train(env={"lines": 30}, run_id=f"manual__{moment}", logical_date=moment, name=name)
    training.wait("success")

    environment = stage.cluster._environment | settings(tmp_path / "other", stage.dags)
    environment["AIRFLOW_CONN_KILLS_PLAIN"] = json.dumps(stage.remote.connection(stage.network))
    (tmp_path / "other").mkdir()
    given = json.dumps({"folder": str(stage.dags), "dag_id": training.dag_id, "moment": moment, "conf": conf})
    done = subprocess.run(
        [sys.executable, "-c", OTHER_AIRFLOW, given], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    with closing(sqlite3.connect(tmp_path / "other" / "airflow.db")) as database:
        assert database.execute("select dag_id, run_id from dag_run").fetchall() == [(training.dag_id, training.run_id)]
    one, other = training.check("SUCCESSFUL", "SUCCESSFUL")
    assert one != other
    training.check_lines(one, 1)
    lines = training.lines(other)
    assert re.findall("|".join([r"line \d+", *map(re.escape, set(lines))]), done.stdout) == lines


def fail_to_fetch(stage: Stage, tmp_path: Path) -> None:
    """The fetch is tried again without a training, in a task of its own and in the training's."""
    begun = []
    with stage.network.always(Canned(403), r"^GET /api/v2/jobs/[^/]+/model"):
        for dag_id, task_id in (("kills_fetch", "fetch"), ("kills_fetch_itself", "train")):
            models = tmp_path / dag_id
            training = stage.train(dag_id, env={"lines": 30, "model": 1}, models=str(models))
            begun.append((training, training.of(task_id=task_id), models))
        for _, fetching, _ in begun:
            fetching.wait("up_for_retry", seconds=120)
    for training, fetching, models in begun:
        fetching.wait("success", seconds=120)
        (job,) = training.check("SUCCESSFUL")
        assert (models / "1" / "saved_model.pb").read_text() == f"trained as {job}"
        training.check_lines(job, training.task()["try_number"])


def test_row_14_a_task_mapped_fifty_times_and_a_backfill_of_ten_runs(stage: Stage) -> None:
    count = 50
    mapped = stage.train("kills_mapped")
    ids = stage.backfill("kills_backfill", "2026-02-01", "2026-02-10")
    assert len(ids) == 10

    tasks = [mapped.of(map_index=index) for index in range(count)]
    wait_for("every mapped task has ended", lambda: mapped.states() == ["success"] * count, 400, 2.0)
    jobs = mapped.check_many(count)
    seen = set()
    for index, task in enumerate(tasks):
        job = task.xcom("return_value")["job_id"]
        seen.add(job)
        task.check_lines(job, task.task()["try_number"])
        assert f"of {index + 1} each" in task.lines(job)[-1]
    assert seen == set(jobs)

    for number, run_id in enumerate(sorted(ids), 1):
        run = mapped.of(dag_id="kills_backfill", run_id=run_id, name=f"backfill-2026-02-{number:02}")
        run.wait("success", seconds=200)
        (job,) = run.check("SUCCESSFUL")
        run.check_lines(job, 1)
