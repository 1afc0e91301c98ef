# SPDX-License-Identifier: Apache-2.0
"""A client that closes the connection while it follows jobs: nothing waits for it any more."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from starlette.requests import Request

from airflow_provider_jobapi.server.config import Settings
from airflow_provider_jobapi.server.http.app import build
from airflow_provider_jobapi.server.http.follow import FollowedJob
from airflow_provider_jobapi.server.store import layout
from airflow_provider_jobapi.server.store.job_record import JobKey
from airflow_provider_jobapi.server.store.reserve import open_database
from airflow_provider_jobapi.training.job_file import JobFile

JOB_ID = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"


def test_a_client_that_has_gone_is_not_waited_for(tmp_path: Path):
    settings = Settings(root=tmp_path / "root", jobs_as_root=os.geteuid() == 0)
    layout.prepare_root(settings.root)
    database = open_database(settings.root)
    server = build(settings, database)
    server.clients.add("airflow")
    server.registry.submit("airflow", JOB_ID, JobFile.parse(b'{"job": {"name": "x", "execution": {"command": "y"}}}'))

    async def run() -> None:
        server.log_watcher.open()
        hang_up = asyncio.Event()

        async def receive() -> dict[str, str]:
            await hang_up.wait()
            return {"type": "http.disconnect"}

        request = Request({"type": "http"}, receive)
        job = FollowedJob(JobKey("airflow", JOB_ID), 0, None, has_scalars=False)
        asking = asyncio.create_task(server.follow.news(request, [job], 25.0))
        async with asyncio.timeout(20):
            while job.watch is None or not job.watch.waiters:  # noqa: ASYNC110 -- nothing says so
                await asyncio.sleep(0.01)
            hang_up.set()
            assert await asking == b""
        assert not job.watch.waiters
        server.log_watcher.close()

    asyncio.run(run())
    database.close()
