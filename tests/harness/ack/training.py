# SPDX-License-Identifier: Apache-2.0
"""Run a job's script for real, as SageMaker's framework containers do in script mode.

The rules are those of the sagemaker-training toolkit (its README and ``docs`` on environment variables): the archive of
``sagemaker_submit_directory`` is unpacked, ``sagemaker_program`` is run in it with the other hyperparameters as
``--name value``, and the environment has ``SM_*``. Channels are downloaded, ``model.tar.gz`` is made of
``/opt/ml/model``, a text in ``/opt/ml/output/failure`` becomes the reason of the failure, and what is in
``checkpointConfig.localPath`` is copied to its ``s3URI`` while the job runs, and back when it starts again.

Two things differ: ``/opt/ml`` is a folder of the job's own, so what names it in the code, in the environment or in
hyperparameters is changed to that folder; and ``requirements.txt`` is not installed.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.harness import keeper
from tests.harness.ack.job import Job

ROOT = "/opt/ml"
GRACE_SECONDS = 5.0
"""From SIGTERM to SIGKILL; 120 at the real one."""
LOOK_SECONDS = 0.1
SYNC_SECONDS = 0.5
BATCH_SECONDS = 0.1
"""How long lines are collected before they are sent."""


class Training:
    """The instances of one job; each is a process of this machine."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._parameters = {name: _decoded(text) for name, text in job.spec.get("hyperParameters", {}).items()}
        self._started = time.monotonic()

    def run(self) -> None:
        """Run it to its end, through interruptions and restarts that the test orders."""
        while not self._job.ended:
            with tempfile.TemporaryDirectory(prefix="sagemaker-", ignore_cleanup_errors=True) as home:
                again = self._run_once(Path(home))
            if not again:
                return
            while self._job.describe()["secondaryStatus"] == "Interrupted" and not self._job.told_to_stop:
                time.sleep(LOOK_SECONDS)
            self._job.restart()

    def _run_once(self, home: Path) -> bool:
        """Run until the job has ended, or was interrupted; answers whether it is to run again."""
        job = self._job
        job.home = home
        job.move("Downloading")
        self._download(home)
        instances = [_Instance(job, home, number) for number in range(1, job.instances + 1)]
        job.move("Training")
        processes = [each.start(self._command(home), self._environment(each)) for each in instances]
        reason = self._watch(home, processes)
        for each in instances:
            each.finish()
        self._upload_checkpoints(home)
        if reason == "interrupted":
            return True
        if reason is None:
            return False
        model = {str(path.relative_to(home / "model")): path.read_bytes() for path in _files(home / "model")}
        if reason in {"Stopped", "MaxRuntimeExceeded"}:
            job.stopped(reason, model)
        elif reason:
            job.fail(reason)
        else:
            job.move("Uploading")
            job.complete(model)
        return False

    def _watch(self, home: Path, processes: list[subprocess.Popen[bytes]]) -> str | None:
        """Wait for the processes; answers "" for success, None where the test has ended the job, else the reason."""
        limit = self._job.spec["stoppingCondition"].get("maxRuntimeInSeconds", 86400)
        synced = time.monotonic()
        while any(process.poll() is None for process in processes):
            time.sleep(LOOK_SECONDS)
            why = self._why_to_end(limit)
            if why is not None:
                _terminate(processes)
                return why or None
            if time.monotonic() - synced > SYNC_SECONDS:
                self._upload_checkpoints(home)
                synced = time.monotonic()
            if any(process.poll() for process in processes):  # one has failed: the others are of no use
                _terminate(processes)
        codes = [process.returncode for process in processes if process.returncode]
        code = max(codes, default=0)  # those that were ended because of another have a negative one
        return self._failure(home, code) if code else ""

    def _why_to_end(self, limit: float) -> str | None:
        """Why the processes are to end now; None when they are not, and "" when the job is over."""
        if self._job.told_to_stop:
            return "Stopped"
        if self._job.ended:
            return ""
        if self._job.describe()["secondaryStatus"] in {"Interrupted", "Restarting"}:
            return "interrupted"
        return "MaxRuntimeExceeded" if time.monotonic() - self._started > limit else None

    def _failure(self, home: Path, code: int) -> str:
        written = home / "output" / "failure"
        if written.exists():
            return f"AlgorithmError: {written.read_text()[:1024]}, exit code: {code}"
        program = self._parameters["sagemaker_program"]
        return (
            f'AlgorithmError: ExecuteUserScriptError:\nExitCode {code}\nCommand "python3 {program}", exit code: {code}'
        )

    def _download(self, home: Path) -> None:
        for folder in ("code", "model", "input/config", "input/data", "output/data", "checkpoints"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        archive = self._job.cloud.get(self._parameters["sagemaker_submit_directory"])
        with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
            opened.extractall(home / "code", filter="data")
        for path in _files(home / "code"):
            with suppress(UnicodeDecodeError):  # not a text
                path.write_text(moved(path.read_text(encoding="utf-8"), home), encoding="utf-8")
        for channel in self._job.spec.get("inputDataConfig") or []:
            url = channel["dataSource"]["s3DataSource"]["s3URI"]
            self._copy_down(url, home / "input" / "data" / channel["channelName"])
        if url := (self._job.spec.get("checkpointConfig") or {}).get("s3URI"):
            self._copy_down(f"{url.rstrip('/')}/", self._checkpoints(home))

    def _copy_down(self, url: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        base = url if url.endswith("/") else url.rpartition("/")[0] + "/"
        for each in self._job.cloud.objects(url):
            path = folder / (each.removeprefix(f"{url}/") if each.startswith(f"{url}/") else each.removeprefix(base))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._job.cloud.get(each))

    def _checkpoints(self, home: Path) -> Path:
        local = (self._job.spec.get("checkpointConfig") or {}).get("localPath", f"{ROOT}/checkpoints")
        return Path(moved(local, home))

    def _upload_checkpoints(self, home: Path) -> None:
        url = (self._job.spec.get("checkpointConfig") or {}).get("s3URI")
        for path in _files(self._checkpoints(home)) if url else ():
            with suppress(FileNotFoundError):  # the script has just replaced it
                content = path.read_bytes()
                self._job.cloud.put(f"{url.rstrip('/')}/{path.relative_to(self._checkpoints(home))}", content)

    def _command(self, home: Path) -> list[str]:
        program = str(self._parameters["sagemaker_program"])
        arguments = [moved(text, home) for text in self._arguments()]
        runner = ["/bin/sh"] if program.endswith(".sh") else [sys.executable, "-u"]
        return [*runner, program, *arguments]

    def _arguments(self) -> list[str]:
        found = {name: value for name, value in self._parameters.items() if not name.startswith("sagemaker_")}
        return [text for name, value in sorted(found.items()) for text in (f"--{name}", _text(value))]

    def _environment(self, instance: _Instance) -> dict[str, str]:
        home, job = instance.home, self._job
        hosts = [f"algo-{number}" for number in range(1, job.instances + 1)]
        channels = [each["channelName"] for each in job.spec.get("inputDataConfig") or []]
        own = {name: value for name, value in self._parameters.items() if not name.startswith("sagemaker_")}
        made = {
            "SM_MODEL_DIR": home / "model",
            "SM_INPUT_DIR": home / "input",
            "SM_INPUT_CONFIG_DIR": home / "input" / "config",
            "SM_OUTPUT_DIR": home / "output",
            "SM_OUTPUT_DATA_DIR": home / "output" / "data",
            "SM_MODULE_DIR": self._parameters["sagemaker_submit_directory"],
            "SM_MODULE_NAME": Path(str(self._parameters["sagemaker_program"])).stem,
            "SM_USER_ENTRY_POINT": self._parameters["sagemaker_program"],
            "SM_USER_ARGS": json.dumps(self._arguments()),
            "SM_HPS": json.dumps(own),
            "SM_HOSTS": json.dumps(hosts),
            "SM_CURRENT_HOST": hosts[instance.number - 1],
            "SM_MASTER_ADDR": hosts[0],
            "SM_CHANNELS": json.dumps(channels),
            "SM_NUM_GPUS": 0,
            "SM_NUM_CPUS": os.cpu_count(),
            "SM_LOG_LEVEL": 20,
            "TRAINING_JOB_NAME": job.name,
            "TRAINING_JOB_ARN": job.arn,
            "AWS_REGION": job.region,
        }
        made |= {f"SM_CHANNEL_{name.upper()}": home / "input" / "data" / name for name in channels}
        made |= {f"SM_HP_{name.upper().replace('-', '_')}": _text(value) for name, value in own.items()}
        given = {name: moved(text, home) for name, text in (job.spec.get("environment") or {}).items()}
        base = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}
        return base | {name: str(value) for name, value in made.items()} | given


class _Instance:
    """A process with the lines that it prints."""

    def __init__(self, job: Job, home: Path, number: int) -> None:
        self.job, self.home, self.number = job, home, number
        self._reader: threading.Thread | None = None

    def start(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command,
            cwd=self.home / "code",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        keeper.keep(process.pid)
        stream = self.job.stream(self.number)
        self._reader = threading.Thread(target=self._read, args=(process.stdout, stream), daemon=True)
        self._reader.start()
        return process

    def _read(self, output: io.BufferedReader, stream: str) -> None:
        """Send the lines as the agent of CloudWatch does, some at a time."""
        rest = b""
        with output:
            while part := output.read1():
                *lines, rest = (rest + part).split(b"\n")
                self._log(stream, lines)
                time.sleep(BATCH_SECONDS)
        self._log(stream, [rest] if rest else [])

    def _log(self, stream: str, lines: list[bytes]) -> None:
        now = int(time.time() * 1000)
        texts = [line.decode(errors="replace").rstrip("\r") for line in lines]
        if texts:
            self.job.cloud.log(self.job.region, stream, [(now, text) for text in texts])

    def finish(self) -> None:
        """Wait until everything that it printed is in CloudWatch."""
        if self._reader is not None:
            self._reader.join(GRACE_SECONDS)


def moved(text: str, home: Path) -> str:
    """A text in which the job's folder stands in place of ``/opt/ml``."""
    return text.replace(ROOT, str(home))


def _decoded(text: str) -> Any:
    """A hyperparameter as the toolkit reads it: JSON, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()] if folder.exists() else []


def _terminate(processes: list[subprocess.Popen[bytes]]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, how)
        deadline = time.monotonic() + GRACE_SECONDS
        while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS / 10)
