# SPDX-License-Identifier: Apache-2.0
"""The command with the shared server behind it, in a folder of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.command import Command
from tests.harness.server import Server

JOB = "job:\n  name: lines\n  execution:\n    command: python3 train.py\n"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with a job file and a folder of the job's files."""
    folder = tmp_path / "work"
    (folder / "files").mkdir(parents=True)
    (folder / "job.yaml").write_text(JOB)
    # The folder's name makes the script another one in each test: the id follows from the content.
    (folder / "files" / "train.py").write_text(f"print('begun')\n# {tmp_path}\n")
    return folder


@pytest.fixture
def command(work: Path, jobapi_server: Server) -> Command:
    return Command(work, jobapi_server.connection)
