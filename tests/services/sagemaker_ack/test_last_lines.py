# SPDX-License-Identifier: Apache-2.0
"""The last lines of a job's log, of all its instances however often they were started."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.harness.ack import drivers
from tests.harness.ack.cloud import REGION, Cloud
from tests.harness.ack.double import Ack
from tests.services.sagemaker_ack.service import Make, job
from tests.services.sagemaker_ack.test_job_logs import START


@pytest.fixture
def handle(ack: Ack, make: Make) -> dict[str, Any]:
    ack.sagemaker.driver = drivers.by_hand
    return make().submit(job(nodes=4), str(uuid.uuid4())).handle


def write(cloud: Cloud, handle: dict[str, Any], instance: int, epoch: int, *lines: str) -> None:
    stream = f"{handle['name']}/algo-{instance}-{epoch}"
    cloud.log(REGION, stream, [(START + number, line) for number, line in enumerate(lines)])


def test_the_newest_stream_of_each_instance_of_many(make: Make, cloud: Cloud, handle: dict[str, Any]) -> None:
    """120 streams, of which CloudWatch names 50 in one answer."""
    for instance in range(1, 5):
        for epoch in range(101, 131):
            write(cloud, handle, instance, epoch, f"{instance}.{epoch}")
    assert make().last_lines(handle, 20) == tuple(f"[algo-{number}] {number}.130" for number in range(1, 5))


def test_an_instance_that_was_started_again_and_has_written_nothing(
    make: Make, cloud: Cloud, handle: dict[str, Any]
) -> None:
    write(cloud, handle, 1, 101, "interrupted")
    write(cloud, handle, 1, 102)
    assert make().last_lines(handle, 20) == ("interrupted",)
