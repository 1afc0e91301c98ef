# SPDX-License-Identifier: Apache-2.0
"""The helper for training scripts, copied beside a script as users do it, and the schema of its lines."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import jsonschema
import pytest

from airflow_provider_jobapi.training import jobapi_metrics
from airflow_provider_jobapi.training.metrics.definitions import MOST_NAMES
from airflow_provider_jobapi.training.metrics.helper import read_helper, read_progress, readable

FILE = Path(jobapi_metrics.__file__)
SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "metrics.schema.json").read_text())


class Tensor:
    """What a framework gives for a number."""

    def __init__(self, value: float) -> None:
        self._value = value

    def __float__(self) -> float:
        return self._value


class Broken:
    def __float__(self) -> float:
        raise RuntimeError("this tensor is on another device")


@pytest.fixture
def written(monkeypatch, capsys):
    monkeypatch.setenv("JOB_ID", "6f2d9b0e")
    return lambda: [line for line in capsys.readouterr().out.split("\n") if line]  # as a log is cut into lines


def test_a_line_a_step_fits_its_schema_and_is_read_back(written):
    jobapi_metrics.log(3, loss=Tensor(0.25), accuracy=1, bad="x", worse=Broken(), nothing=None)
    jobapi_metrics.log(Tensor(4.5), {"val/loss": float("nan"), "ä\n": float("-inf")}, loss=float("inf"))
    jobapi_metrics.log(loss="0.5")
    first, second, third = lines = written()
    for line in lines:
        jsonschema.validate(json.loads(line), SCHEMA)
    assert json.loads(first) == {"jobapi_metrics": 1, "step": 3.0, "metrics": {"loss": 0.25, "accuracy": 1.0}}
    assert json.loads(second)["metrics"] == {"val/loss": "NaN", "ä\n": "-Infinity", "loss": "Infinity"}
    assert read_helper(second)[0][0].step == 4.5
    assert json.loads(third) == {"jobapi_metrics": 1, "step": None, "metrics": {"loss": 0.5}}


def test_many_metrics_are_several_lines_that_a_log_can_hold(written):
    jobapi_metrics.log(1, {chr(0x10400 + number) * 300: -1.2345678901234567e-300 for number in range(MOST_NAMES)})
    lines = written()
    assert sum(len(read_helper(line)[0][0].values) for line in lines) == MOST_NAMES
    for line in lines:
        jsonschema.validate(json.loads(line), SCHEMA)
        assert len(line.encode()) < 16_000


@pytest.mark.parametrize(
    "arguments",
    [(1,), (1, {}), (1, [1, 2]), (1, "loss"), (1, {"loss": "x"}), ("x", {"a": object()})],
)
def test_nothing_to_tell_is_nothing_written_and_no_error(written, arguments):
    jobapi_metrics.log(*arguments)
    assert written() == []


def test_a_step_that_is_no_number_is_none(written):
    jobapi_metrics.log("first", loss=1)
    jobapi_metrics.log(float("nan"), loss=1)
    assert [json.loads(line)["step"] for line in written()] == [None, None]


def test_it_does_nothing_where_nobody_listens(monkeypatch, capsys):
    monkeypatch.delenv("JOB_ID", raising=False)
    jobapi_metrics.log(1, loss=0.5)
    assert capsys.readouterr().out == ""


def test_a_closed_output_does_not_end_the_training(tmp_path):
    shutil.copy(FILE, tmp_path / "jobapi_metrics.py")
    (tmp_path / "train.py").write_text(
        "import os, jobapi_metrics\n"
        "os.close(1)\n"
        "jobapi_metrics.log(1, loss=0.5)\n"
        "os.write(2, b'trained')\n"
        "os._exit(0)\n"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-c", "import sys; sys.path.insert(0, '.'); import train"],
        cwd=tmp_path, env={**os.environ, "JOB_ID": "x"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, "trained")


def test_it_is_one_file_of_python_3_8_that_needs_the_standard_library_only():
    tree = ast.parse(FILE.read_text(), feature_version=(3, 8))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names])
    }
    assert imported <= set(sys.stdlib_module_names)


def test_keras_gets_it_as_a_callback(written):
    """LambdaCallback calls ``on_epoch_end(epoch, logs)``, as the documentation shows."""
    on_epoch_end = lambda epoch, logs: jobapi_metrics.log(epoch + 1, logs)  # noqa: E731
    on_epoch_end(0, {"loss": Tensor(0.5)})
    assert json.loads(written()[0])["step"] == 1


def test_the_progress_is_written_at_most_once_a_second_and_at_the_end(written, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(jobapi_metrics.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(jobapi_metrics, "_next_progress", 0.0)
    for step in range(1, 31):
        now[0] += 0.125
        jobapi_metrics.progress(Tensor(float(step)), 30)
    lines = written()
    for line in lines:
        jsonschema.validate(json.loads(line), SCHEMA)
    assert [read_progress(line) for line in lines] == [(done, 30.0) for done in (1, 9, 17, 25, 30)]
    assert readable(f"a bar{lines[1]}") == "a barprogress: 9 of 30"
    assert read_helper(lines[0]) == []


@pytest.mark.parametrize(
    "arguments",
    [(1, 0), (-1, 10), (11, 10), (1, float("inf")), (float("nan"), 10), ("x", 10), (1, None), (Broken(), 10)],
)
def test_a_progress_that_is_none_is_not_written(written, arguments, monkeypatch):
    monkeypatch.setattr(jobapi_metrics, "_next_progress", 0.0)
    jobapi_metrics.progress(*arguments)
    assert written() == []


def test_no_progress_is_written_where_nobody_listens(monkeypatch, capsys):
    monkeypatch.delenv("JOB_ID", raising=False)
    jobapi_metrics.progress(1, 2)
    assert capsys.readouterr().out == ""


def touch(folder: Path, name: str, when: int, content: bytes = b"x") -> None:
    place = folder / name
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(content)
    os.utime(place, (when, when))


@pytest.mark.parametrize(
    ("files", "latest"),
    [
        ([], None),
        (["epoch-1.pt", "epoch-2.pt"], "epoch-2.pt"),
        (["epoch-10.pt", "epoch-9.pt"], "epoch-10.pt"),
        (["state.npz"], "state.npz"),
        (["state.npz", "state.npz.tmp", "log.csv", "args.json"], "state.npz"),
        (["state.json", "state.json.tmp"], "state.json"),
        (["checkpoint-5/trainer_state.json", "checkpoint-10/optimizer.pt"], "checkpoint-5"),
        (["checkpoint-5/a", "checkpoint-10/a", "tmp-checkpoint-15/a"], "checkpoint-10"),
        (["5/a", "10.orbax-checkpoint-tmp-1/a"], "5"),
        (["ckpt-1.index", "ckpt-1.data-00000-of-00001", "ckpt-2.data-00000-of-00001", "checkpoint"], "ckpt-1"),
        (["epoch=1-step=4.ckpt", "last.ckpt"], "last.ckpt"),
        (["latest.weights.h5", "training_metadata.json"], "latest.weights.h5"),
        (["loss=0.25-epoch=9.ckpt", "loss=0.05-epoch=10.ckpt"], "loss=0.05-epoch=10.ckpt"),
        (["w.9-0.25.h5", "w.10-0.05.h5"], "w.10-0.05.h5"),
        (["best_0.81.pt", "best_0.79.pt"], "best_0.79.pt"),
        (["a.tmp", ".hidden"], None),
    ],
)
def test_the_latest_checkpoint_is_the_newest_whole_one(tmp_path, monkeypatch, files, latest):
    for number, name in enumerate(files):
        touch(tmp_path, name, 1000 + number)
    expected = latest and str(tmp_path / latest)
    monkeypatch.delenv("CHECKPOINT_DIR", raising=False)
    assert jobapi_metrics.latest_checkpoint() is None
    assert jobapi_metrics.latest_checkpoint(str(tmp_path)) == expected
    monkeypatch.setenv("CHECKPOINT_DIR", str(tmp_path))
    assert jobapi_metrics.latest_checkpoint() == expected


def test_a_link_to_nothing_and_a_fifo_are_no_checkpoints(tmp_path):
    touch(tmp_path, "epoch-1.pt", 1000)
    (tmp_path / "last.ckpt").symlink_to("gone.ckpt")
    os.mkfifo(tmp_path / "epoch-2.pt")
    assert jobapi_metrics.latest_checkpoint(str(tmp_path)) == str(tmp_path / "epoch-1.pt")


def test_an_archive_without_its_end_is_no_checkpoint(tmp_path):
    with zipfile.ZipFile(tmp_path / "epoch-1.pt", "w") as file:
        file.writestr("data.pkl", b"x" * 100)
    touch(tmp_path, "epoch-2.pt", 2_000_000_000, (tmp_path / "epoch-1.pt").read_bytes()[:-10])
    touch(tmp_path, "epoch-3.pt", 2_000_000_000, b"")
    assert jobapi_metrics.latest_checkpoint(str(tmp_path)) == str(tmp_path / "epoch-1.pt")
    assert jobapi_metrics.latest_checkpoint(str(tmp_path / "nowhere")) is None
