# SPDX-License-Identifier: Apache-2.0
"""A folder of checkpoints that changes between the look at it and its copy."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from airflow_provider_jobapi.server.run.supervisor.checkpoint_folder import CheckpointFolder, FolderChanged


def _becomes_a_link(folder: Path) -> None:
    folder.rename(folder.parent / "elsewhere")
    folder.symlink_to("elsewhere")


def _becomes_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.touch()


REPLACED = {"gone": shutil.rmtree, "a link": _becomes_a_link, "a file": _becomes_a_file}


@pytest.mark.parametrize("replaced", ["steps", "steps/1", "steps/1/state"])
@pytest.mark.parametrize("becomes", REPLACED.values(), ids=REPLACED)
def test_what_is_replaced_meanwhile_is_a_change_and_leaves_no_descriptor(
    tmp_path: Path, replaced: str, becomes: Callable[[Path], None]
) -> None:
    source = tmp_path / "checkpoints"
    (source / "steps" / "1" / "state").mkdir(parents=True)
    (source / "steps" / "1" / "state" / "a.json").write_text("{}")
    before = psutil.Process().num_fds()
    with CheckpointFolder(source, {os.getuid()}) as folder:
        becomes(source / replaced)
        with pytest.raises(FolderChanged):
            folder.copy(["steps/1/state/a.json"], tmp_path / "copy")
    assert psutil.Process().num_fds() == before
