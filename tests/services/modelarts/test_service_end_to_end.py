# SPDX-License-Identifier: Apache-2.0
"""The service against the double, from submit to fetch, in both dialects."""

from __future__ import annotations

import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import NoSavedModel, QuotaReached
from airflow_provider_jobapi.services.modelarts.service import ModelArtsService
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.training.identity import Content, walk
from airflow_provider_jobapi.training.job import TrainingJob, data_files
from airflow_provider_jobapi.training.logs import fair_shares
from airflow_provider_jobapi.training.status import JobState
from tests.harness.client import MODEL
from tests.harness.modelarts.double import ModelArts
from tests.harness.modelarts.service import ended, job, posted, service, started
from tests.harness.server import poll

WAITS = "import time\nprint('begun', flush=True)\ntime.sleep(600)\n"


def test_from_submit_to_fetch(modelarts_service: ModelArtsService, modelarts: ModelArts, tmp_path: Path) -> None:
    script = (
        "import os, pathlib, sys\nprint(sys.argv[1:], os.environ['Epochs'])\n"
        "print(pathlib.Path('deep/rows.csv').read_text())\n" + MODEL
    )
    job_id = str(uuid.uuid4())
    made = job(script, env={"Epochs": "5"}, data={"deep/rows.csv": b"1,2", "other.txt": "x"})
    submission = modelarts_service.submit(made, job_id)
    handle: dict[str, Any] = submission.handle
    assert json.loads(json.dumps(handle)) == handle
    assert (handle["job_id"], handle["dialect"]) == (job_id, modelarts_service.connection.dialect)
    assert handle["name"] == f"test-{job_id}"
    assert ("version_id" in handle) is (modelarts_service.connection.dialect == "v1")
    assert abs(submission.skew.total_seconds()) < 10
    assert {each.path for each in submission.inputs} == {"train.py", "deep/rows.csv", "other.txt"}
    assert modelarts_service.find(job_id).handle == handle

    status = ended(modelarts_service, handle)
    assert (status.status, status.job_id) == (JobState.SUCCESSFUL, job_id), modelarts_service.last_lines(handle, 50)
    assert status.start_time is not None
    assert status.finish_time is not None
    lines = modelarts_service.last_lines(handle, 50)
    assert "['--epochs=5'] 5" in lines
    assert "1,2" in lines
    assert len(modelarts_service.last_lines(handle, 2)) == 2

    model = modelarts_service.fetch_model(handle, tmp_path / "models", version=3)
    assert {file.path for file in model.files} == {"saved_model.pb", "variables/variables.index"}
    assert (tmp_path / "models" / "3" / "saved_model.pb").read_bytes() == b"graph"
    assert modelarts_service.fetch_model(handle, tmp_path / "models", version=3) == model
    named = modelarts_service.fetch_model(handle, tmp_path / "models")
    assert named.location.endswith(f"/{int(status.finish_time.timestamp())}")


def test_a_folder_of_code(modelarts_service: ModelArtsService) -> None:
    source = {
        "nets/__init__.py": "",
        "nets/layers.py": "WIDTH = 3\n",
        "nets/run.py": "import os, sys\nfrom .layers import WIDTH\n"
        "print(WIDTH, sys.argv[1:], open('config.yaml').read(), os.environ['Token'])\n",
        "config.yaml": "rate: 1",
    }
    made = TrainingJob.of(
        name="folder",
        source=source,
        entry_point="-m nets.run",
        env={"Epochs": 5},
        env_vars={"Token": "t"},
        arguments={"Layers": [64, 32], "amp": None},
        data={"rows.csv": "1"},
    )
    submission = modelarts_service.submit(made, str(uuid.uuid4()))
    assert [each.path for each in data_files(submission.inputs)] == ["rows.csv"]
    status = ended(modelarts_service, submission.handle)
    lines = modelarts_service.last_lines(submission.handle, 20)
    assert status.status is JobState.SUCCESSFUL, lines
    assert "3 ['--epochs=5', '--Layers', '64', '32', '--amp'] rate: 1 t" in lines


def test_a_model_of_another_kind(modelarts_service: ModelArtsService, tmp_path: Path) -> None:
    script = (
        "import os\nopen('debug.log', 'w').write('x')\n"
        "open(os.path.join(os.environ['MODEL_DIR'], 'digits.onnx'), 'w').write('weights')\n"
    )
    handle = modelarts_service.submit(job(script), str(uuid.uuid4())).handle
    assert ended(modelarts_service, handle).status is JobState.SUCCESSFUL
    said = "The script's files outside of MODEL_DIR are lost with this machine: 1 file, 1 byte, such as \"debug.log"
    assert [line for line in modelarts_service.last_lines(handle, 20) if line.startswith(said)]
    model = modelarts_service.model(handle)
    assert model is not None
    assert (model.kind, model.root, [file.path for file in model.files]) == ("onnx", "model", ["digits.onnx"])
    with pytest.raises(NoSavedModel, match="its model is of the kind 'onnx'"):
        modelarts_service.fetch_model(handle, tmp_path, "1", kind="saved_model")
    assert not (tmp_path / "1").exists()
    fetched = modelarts_service.fetch_model(handle, tmp_path, "1", kind="onnx")
    assert (fetched.kind, fetched.files) == ("onnx", model.files)
    assert (tmp_path / "1" / "digits.onnx").read_text() == "weights"


def test_a_job_without_a_model(modelarts_service: ModelArtsService, tmp_path: Path) -> None:
    handle = modelarts_service.submit(job("open('digits.onnx', 'w').write('weights')"), str(uuid.uuid4())).handle
    assert ended(modelarts_service, handle).status is JobState.SUCCESSFUL
    assert modelarts_service.model(handle) is None
    with pytest.raises(NoSavedModel, match="files outside of MODEL_DIR are lost with the job's machine"):
        modelarts_service.fetch_model(handle, tmp_path)


def test_a_model_that_cannot_be_kept(modelarts_service: ModelArtsService, tmp_path: Path) -> None:
    script = "import os\nos.symlink('/etc/hostname', os.environ['MODEL_DIR'] + '/x')"
    handle = modelarts_service.submit(job(script), str(uuid.uuid4())).handle
    assert ended(modelarts_service, handle).status is JobState.FAILED
    with pytest.raises(NoSavedModel, match=r'no model to fetch: Job .* failed.*"model/x" in MODEL_DIR is a link that'):
        modelarts_service.fetch_model(handle, tmp_path)


def test_submit_is_idempotent(modelarts_service: ModelArtsService) -> None:
    job_id = str(uuid.uuid4())
    first = modelarts_service.submit(job(), job_id)
    again = modelarts_service.submit(job(), job_id)
    assert again.handle == first.handle
    assert [each.path for each in again.inputs] == ["train.py"]


def test_a_failed_script(modelarts_service: ModelArtsService) -> None:
    handle = modelarts_service.submit(job("print('the reason')\nraise SystemExit(3)"), str(uuid.uuid4())).handle
    status = ended(modelarts_service, handle)
    assert status.status is JobState.FAILED
    if modelarts_service.connection.dialect == "v2":
        assert (status.exit_code, status.reason) == (3, "NonZeroExit")
    assert "the reason" in modelarts_service.last_lines(handle, 20)


def test_a_stop(modelarts_service: ModelArtsService) -> None:
    handle = modelarts_service.submit(job(WAITS), str(uuid.uuid4())).handle
    started(modelarts_service, handle)
    modelarts_service.stop(handle)
    assert ended(modelarts_service, handle).status is JobState.STOPPED
    modelarts_service.stop(handle)  # one that has ended is no error


def test_several_machines(modelarts: ModelArts) -> None:
    modelarts_service = service(modelarts, "v2")
    made = job("import os\nprint('node', os.environ['VC_TASK_INDEX'])", service_options={"nodes": 2})
    handle = modelarts_service.submit(made, str(uuid.uuid4())).handle
    assert ended(modelarts_service, handle).status is JobState.SUCCESSFUL
    lines = modelarts_service.last_lines(handle, 20)
    assert {"[worker-0] node 0", "[worker-1] node 1"} <= set(lines)


def test_requirements_reach_the_platform(modelarts_service: ModelArtsService) -> None:
    made = job("import iso8601\nprint(iso8601.__name__)", requirements="./no-such-package-of-ours")
    handle = modelarts_service.submit(made, str(uuid.uuid4())).handle
    assert ended(modelarts_service, handle).status is JobState.FAILED
    assert "pip install failed" in modelarts_service.last_lines(handle, 20)[-1]


def test_options_are_passed_on(modelarts_service: ModelArtsService, modelarts: ModelArts) -> None:
    logs = f"/{modelarts.bucket}/logs-{uuid.uuid4()}/"
    options: dict[str, Any] = (
        {"config": {"log_url": logs}}
        if modelarts_service.connection.dialect == "v1"
        else {"spec": {"log_export_path": {"obs_url": logs}}}
    )
    handle = modelarts_service.submit(job("print('hello')", service_options=options), str(uuid.uuid4())).handle
    assert ended(modelarts_service, handle).status is JobState.SUCCESSFUL
    (name,) = modelarts.objects(logs)
    assert b"hello" in modelarts.get(f"{logs}{name}")


def test_two_workers_with_one_id_make_one_job(modelarts_service: ModelArtsService, modelarts: ModelArts) -> None:
    job_id = str(uuid.uuid4())
    with ThreadPoolExecutor(4) as workers:
        handles = list(workers.map(lambda _: modelarts_service.submit(job(), job_id).handle, range(4)))
    assert all(handle == handles[0] for handle in handles)


def test_completion_time_exceeded(modelarts_service: ModelArtsService) -> None:
    handle = modelarts_service.submit(job(WAITS, completion_time="1s"), str(uuid.uuid4())).handle
    status = ended(modelarts_service, handle)
    assert (status.status, status.reason) == (JobState.FAILED, "CompletionTimeExceeded")
    assert any("completion_time is over" in line for line in modelarts_service.last_lines(handle, 20))


def test_exit_code_124_of_the_script(modelarts_service: ModelArtsService) -> None:
    """The command ``timeout`` has this exit code as well, and a retry may help."""
    handle = modelarts_service.submit(job("raise SystemExit(124)", completion_time="1h"), str(uuid.uuid4())).handle
    status = ended(modelarts_service, handle)
    v2 = modelarts_service.connection.dialect == "v2"
    assert (status.status, status.reason) == (JobState.FAILED, "NonZeroExit" if v2 else "FAILED")


def test_a_job_that_is_being_stopped(modelarts_service: ModelArtsService) -> None:
    jobs = Content("client", str(uuid.uuid4()))
    stubborn = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('begun', flush=True)\n"
    handle = modelarts_service.submit(job(stubborn + "time.sleep(600)\n"), jobs.job_id(0)).handle
    poll(lambda: "begun" in modelarts_service.last_lines(handle, 5), 30, "the script to begin")

    def place() -> tuple[int, JobState | None]:
        found = walk(jobs, lambda job_id: modelarts_service.status(modelarts_service.find(job_id).handle).outlook)
        return found.generation, found.state

    assert place() == (0, JobState.RUNNING)
    modelarts_service.stop(handle)
    assert modelarts_service.status(handle).status is JobState.RUNNING
    assert place() == (1, None)
    assert ended(modelarts_service, handle).status is JobState.STOPPED


def test_shares_of_the_last_lines() -> None:
    first, second, third = ("a1", "a2", "a3", "a4"), ("b1",), ("c1", "c2", "c3")
    assert fair_shares([first, second, third], 6) == ("a2", "a3", "a4", "b1", "c2", "c3")
    assert fair_shares([first, second, third], 1) == ("a4",)
    assert fair_shares([first, second], 99) == (*first, *second)
    assert fair_shares([], 3) == fair_shares([first], 0) == ()


def test_time_limit_of_the_last_lines(modelarts_service: ModelArtsService, modelarts: ModelArts) -> None:
    patient = service(modelarts, modelarts_service.connection.dialect, retry=Retry.lasting(600))
    handle = modelarts_service.submit(job(), str(uuid.uuid4())).handle
    ended(modelarts_service, handle)
    modelarts.inject_fault("unavailable", path="log", times=99)
    began = time.monotonic()
    assert patient.last_lines(handle, 20) == ()
    assert time.monotonic() - began < 30


def test_files_of_an_earlier_attempt_are_not_used(modelarts_service: ModelArtsService, modelarts: ModelArts) -> None:
    job_id = str(uuid.uuid4())
    modelarts.inject_fault("quota", jobs=0)
    with pytest.raises(QuotaReached):
        modelarts_service.submit(job(requirements="./no-such-package-of-ours", data={"old.txt": "x"}), job_id)
    modelarts.clear_faults()
    handle = modelarts_service.submit(job("import os\nprint(sorted(os.listdir('.')))"), job_id).handle
    assert ended(modelarts_service, handle).status is JobState.SUCCESSFUL
    assert "['model', 'train.py']" in modelarts_service.last_lines(handle, 20)


def test_invalid_completion_time_is_logged(
    modelarts_service: ModelArtsService, caplog: pytest.LogCaptureFixture
) -> None:
    modelarts_service.submit(job(completion_time="some day"), str(uuid.uuid4()))
    assert "completion_time 'some day' is not a duration" in caplog.text


@pytest.mark.parametrize("value", ["0.1", 'it\'s a "b"; $HOME'])
def test_custom_image(
    modelarts_service: ModelArtsService, modelarts: ModelArts, tmp_path: Path, dialect: str, value: str
) -> None:
    """In v1 the container gets its code and its keys from ``run_train.sh`` alone, as in the reference."""
    made = job(
        "import sys\nprint(open('rows.csv').read(), sys.argv[1:])\n" + MODEL,
        image="swr.example.com/me/tf:1",
        env={"Lr": value},
        data={"rows.csv": "1,2"},
    )
    job_id = str(uuid.uuid4())
    handle = modelarts_service.submit(made, job_id).handle
    assert ended(modelarts_service, handle).status is JobState.SUCCESSFUL, modelarts_service.last_lines(handle, 50)
    assert f"1,2 {[f'--lr={value}']}" in modelarts_service.last_lines(handle, 20)
    assert len(modelarts_service.fetch_model(handle, tmp_path).files) == 2
    if dialect == "v1":
        config = json.loads(posted(modelarts, job_id)[0]["body"])["config"]
        assert config["user_command"].startswith("bash /home/work/run_train.sh ")
