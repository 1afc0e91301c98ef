# SPDX-License-Identifier: Apache-2.0
"""A DAG on a v1 that has only what the procedure of the documents shows: no list of jobs, and no ``base_line``."""

from __future__ import annotations

import json

import pytest


@pytest.mark.parametrize("takes", ["flavor", "spec_id"])
def test_a_dag_on_a_service_as_the_procedure_shows_it(inline, modelarts, monkeypatch, capfd, takes):
    monkeypatch.setenv("AIRFLOW_CONN_JOBAPI_DEFAULT", json.dumps(modelarts.connection_for("v1")))
    modelarts.inject_fault("no_job_list")
    modelarts.inject_fault("cursors", mode="ignored")
    modelarts.inject_fault("string_numbers")
    modelarts.inject_fault("flavor_field", takes=takes)
    script = "import time\nfor number in range(8):\n    print('line', number, flush=True)\n    time.sleep(0.3)\n"
    run = inline.run("train_from_conf", {"script": script, "requirements": ""})
    assert run.states == {"train": "success"}
    shown = "".join(capfd.readouterr())
    for number in range(8):
        assert shown.count(f"line {number}\n") + shown.count(f"line {number} ") == 1, number
    assert "lines may be missing" not in shown
