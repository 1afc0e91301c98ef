# SPDX-License-Identifier: Apache-2.0
"""Links and special files in ``MODEL_DIR``, as on ModelArts; and with real jobs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_jobapi.server.store import layout
from airflow_provider_jobapi.server.store.work_folder import CHECKPOINTS, Unreadable, WorkFolder
from tests.harness.bench import Bench
from tests.harness.model_folders import MODEL_FOLDERS, PRELUDE


@pytest.mark.parametrize("name", MODEL_FOLDERS)
def test_what_becomes_of_a_model_folder(tmp_path: Path, name: str) -> None:
    case, model, checkpoints = MODEL_FOLDERS[name], tmp_path / "work/model", tmp_path / CHECKPOINTS
    for folder in (model, checkpoints):
        folder.mkdir(parents=True)
    variables = {"MODEL_DIR": str(model), "CHECKPOINT_DIR": str(checkpoints)}
    command = [sys.executable, "-W", "ignore", "-c", PRELUDE + case.script]
    subprocess.run(command, cwd=model.parent, env=os.environ | variables, check=True)
    found, odd = read(tmp_path)
    assert found == (case.kept or {})
    expected = case.left_out or case.refused
    assert odd == (expected and (f"model/{expected[0]}", expected[1].partition(",")[0]))


def read(home: Path) -> tuple[dict[str, str], tuple[str, str] | None]:
    """Return the name that each file holds, by path, and the first thing that is left out or refused."""
    found, left_out = {}, []
    with WorkFolder(home) as work:
        try:
            contents = work.files("model", 100)
        except Unreadable as error:
            return {}, (error.path, error.how)
        for entry in contents.files:
            with work.open(entry.real) as handle:
                found[entry.path.removeprefix("model/")] = os.read(handle, 100).decode()
        left_out = sorted((each.path, each.how) for each in contents.left_out)
    return found, left_out[0] if left_out else None


def test_no_other_path_of_a_jobs_directory_is_opened(tmp_path: Path) -> None:
    for path in ("work/own", "inputs/own", "state/own", "state/checkpoints/own", "own"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    with WorkFolder(tmp_path) as work:
        for path in ("own", "../state/checkpoints/own"):
            with work.open(path):
                pass
        for path in ("../inputs/own", "../own", "../../own", "../state/checkpoints/../../inputs/own"):
            with pytest.raises(PermissionError), work.open(path):
                pass


LINKS = """
import os
folder = os.environ["CHECKPOINT_DIR"]
with open(folder + "/best.bin", "w") as file:
    file.write("weights")
os.symlink(folder + "/best.bin", os.environ["MODEL_DIR"] + "/best.bin")
os.symlink("gone", os.environ["MODEL_DIR"] + "/last.bin")
"""


def test_a_job_that_links_to_its_checkpoint_leaves_a_copy(tmp_path, monkeypatch):
    with Bench(tmp_path) as bench:
        record, there = bench.registry.finish, []

        def finish(key, *values, **named):
            there.append((layout.job_directory(bench.settings.root, *key) / CHECKPOINTS).exists())
            return record(key, *values, **named)

        monkeypatch.setattr(bench.registry, "finish", finish)
        job = bench.wait(bench.submit(LINKS))
        assert there == [True], "a server that is killed before stores the model again"
        assert job.state == "SUCCESSFUL", job.message
        assert job.model is not None
        (file,) = job.model["files"]
        assert (file["path"], file["size"]) == ("best.bin", 7)
        said = "Left out of the model, since it has no bytes: 'model/last.bin' is a link to what is not there."
        assert said in job.message
        assert bench.log(job).endswith(f"{said}\n")
        bench.runner.stop()  # what follows the end is done, too
        assert not (job.directory / "state").exists()
        (job.directory / CHECKPOINTS).mkdir(parents=True)  # as after a kill in between
        bench.registry.leftovers.sweep(job.key.client_id)
        assert not (job.directory / "state").exists()
