# SPDX-License-Identifier: Apache-2.0
"""How far a job of ModelArts is: the trigger reads it from the lines, since ModelArts does not say it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_jobapi.triggers.xcom_publisher import XComPublisher
from airflow_provider_jobapi.triggers.xcom_writer import XComWriter
from tests.harness.modelarts.double import ModelArts
from tests.harness.modelarts.samples import Samples
from tests.harness.scripted import ScriptedTrigger
from tests.services.modelarts.follow import DIALECTS, following

EPOCHS = """
import os, time
for epoch in range(1, 41):
    while epoch == 22 and not os.path.exists({gate!r}): time.sleep(0.02)
    print('Epoch %d/40 loss 0.5' % epoch, flush=True)
    time.sleep(0.15)
"""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(XComWriter, "least_pause", 0.02)
    monkeypatch.setattr(XComPublisher, "ask_every", (0.1, 0.1))
    monkeypatch.setattr(XComPublisher, "progress_every", 0.0)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("dialect", [*DIALECTS, "previews"])
def test_progress_and_time_left_are_in_the_status_of_the_task(
    samples: Samples, modelarts: ModelArts, tmp_path: Path, dialect: str
) -> None:
    if dialect == "previews":  # whose lines have times that are made up
        modelarts.inject_fault("no_log_pages")
    gate = tmp_path / "gate"
    start = samples.start_v1 if dialect == "v1" else samples.start_v2
    statuses: list[dict[str, Any]] = []

    def sink(key: str, value: dict[str, Any]) -> None:
        if key == "trainingStatus":
            statuses.append(value)
            if value.get("progress", 0) >= 0.5:
                gate.touch()

    trigger = ScriptedTrigger(following(modelarts, start(EPOCHS.format(gate=str(gate)))))
    trigger.sink = sink

    async def run() -> None:
        async with asyncio.timeout(60):
            _ = [event async for event in trigger.run()]

    asyncio.run(run())
    told = [each for each in statuses if "progress" in each]
    values = [each["progress"] for each in told]
    assert values == sorted(values)
    assert {each["status"] for each in told} == {"RUNNING"}
    half = next(each for each in told if each["progress"] >= 0.5)
    assert 1 <= half["remaining"] <= 20  # 3 seconds on a machine that does nothing else
    assert (statuses[-1]["status"], "progress" in statuses[-1]) == ("SUCCESSFUL", False)
