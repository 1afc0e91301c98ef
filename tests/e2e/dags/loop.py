# SPDX-License-Identifier: Apache-2.0
"""A DAG that waits for files in a bucket, and one that is late at once."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG, Asset, AssetWatcher, task
from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference

from airflow_provider_jobapi.alerts import slow_training
from airflow_provider_jobapi.new_data.trigger import NewDataTrigger

BUCKET = NewDataTrigger("s3://watched_bucket@data/rows", pattern="*.csv", settle=1, poll_interval=1)
rows = Asset("rows_in_bucket", watchers=[AssetWatcher(name="bucket", trigger=BUCKET)])

with DAG("bucket", schedule=[rows]):

    @task
    def what_came(triggering_asset_events):
        return [event.extra["payload"]["names"] for event in triggering_asset_events[rows]]

    what_came()

at_once = DeadlineAlert(
    reference=DeadlineReference.DAGRUN_QUEUED_AT, interval=timedelta(seconds=1), callback=AsyncCallback(slow_training)
)

with DAG("late", schedule=None, deadline=at_once):

    @task
    def wait():
        gate = Path(os.environ["AIRFLOW_HOME"], "late.gate")
        while not gate.exists():
            time.sleep(0.2)

    wait()
