# SPDX-License-Identifier: Apache-2.0
"""XComs that are only for people never fail a task when they cannot be written."""

from __future__ import annotations

import pytest

from tests.harness.tries import Task


class OnlyJobId(Task):
    """A task whose Airflow takes no XCom but the job's id, which the guard of a kill needs."""

    def _push(self, key, value):
        if key != "training_job_id":
            raise RuntimeError("503 Service Unavailable")
        super()._push(key, value)


@pytest.mark.parametrize("deferrable", [True, False])
def test_facts_status_and_metrics_that_cannot_be_written(connected, deferrable, caplog):
    train = OnlyJobId(script="print('loss=0.5')\n", deferrable=deferrable)
    result = train.run()
    assert (result["status"], result["metrics"]) == ("SUCCESSFUL", {"loss": 0.5})
    assert set(train.xcoms) == {"training_job_id"}
    assert "The facts of job" in caplog.text
    assert "The end of job" in caplog.text
