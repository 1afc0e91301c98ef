# SPDX-License-Identifier: Apache-2.0
"""A node of a job: the directories and variables of its container, and the boot file's process."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from tests.harness.modelarts.obs import Obs, split

SHIM = Path(__file__).parent / "shim"

RUN_TRAIN = """#!/bin/bash
set -e
mkdir -p {code}
cp -R {staged}/. {code}/
export {keys}
exec "$@"
"""
"""``run_train.sh`` of v1's custom images: a container has neither the code nor the keys to OBS before it ran."""


class Node:
    """One node.

    :param place: The job's directory.
    :param spec: What the job is, see ``runs``.
    :param index: Which node.
    :param obs: The store.
    """

    def __init__(self, place: Path, spec: dict[str, Any], index: int, obs: Obs) -> None:
        self.spec, self.index, self.obs = spec, index, obs
        self.home = place / "nodes" / str(index)
        # Below these names the documents place code and data in the container.
        self.root = self.home / ("home/work" if spec["dialect"] == "v1" else "home/ma-user/modelarts")
        self.code_dir = self.root / "user-job-dir"
        self._process: subprocess.Popen[bytes] | None = None
        self._site: Path | None = None

    def prepare(self) -> list[str]:
        """Fill the directories and install the requirements; return the lines of an error."""
        self.root.mkdir(parents=True, exist_ok=True)
        (self.home / "tmp").mkdir(exist_ok=True)
        if self.spec["code_url"]:
            self.code_dir /= Path(split(self.spec["code_url"])[1]).name or "code"
        if self._is_custom_v1():
            self._write_run_train()
        else:
            if self.spec["code_url"]:
                self.obs.download(self.spec["code_url"], self.code_dir)
            self.code_dir.mkdir(parents=True, exist_ok=True)
        for channel in (*self.spec["inputs"], *self.spec["outputs"]):
            (self.home / channel["dir"].lstrip("/")).mkdir(parents=True, exist_ok=True)
        for channel in self.spec["inputs"]:
            self.obs.download(channel["url"], self.home / channel["dir"].lstrip("/"))
        requirements = self.code_dir / "pip-requirements.txt"
        return self._install(requirements) if requirements.is_file() else []

    def start(self) -> IO[bytes]:
        """Start the boot file and return its output."""
        self._process = subprocess.Popen(
            self._command(),
            cwd=self.root,
            env=self._environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        return self._process.stdout

    def code(self) -> int | None:
        """Return the exit code of the container; None while it runs."""
        assert self._process is not None
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def end(self, grace: float) -> None:
        """End the process and its children."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._signal(signal.SIGTERM)
            deadline = time.monotonic() + grace
            while self._process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def upload(self) -> None:
        """Send the output channels to OBS."""
        for channel in self.spec["outputs"]:
            self.obs.upload(self.home / channel["dir"].lstrip("/"), channel["url"])

    def _install(self, requirements: Path) -> list[str]:
        self._site = self.home / "site-packages"
        command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable]
        done = subprocess.run(
            [*command, "--target", str(self._site), "-r", str(requirements)],
            cwd=self.code_dir,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if not done.returncode:
            return []
        return [*done.stdout.decode(errors="replace").splitlines(), "[Modelarts Service Log]pip install failed."]

    def _is_custom_v1(self) -> bool:
        return bool(self.spec["command"]) and self.spec["dialect"] == "v1"

    def _write_run_train(self) -> None:
        staged = self.home / "staged"
        staged.mkdir()
        if self.spec["code_url"]:
            self.obs.download(self.spec["code_url"], staged)
        keys = " ".join(f"{name}={shlex.quote(value)}" for name, value in self._keys().items())
        places = {"code": shlex.quote(str(self.code_dir)), "staged": shlex.quote(str(staged))}
        (self.root / "run_train.sh").write_text(RUN_TRAIN.format(keys=keys, **places))
        # The image's own Python, which has moxing.
        python = self.home / "bin" / "python3"
        python.parent.mkdir()
        python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        python.chmod(0o755)

    def _keys(self) -> dict[str, str]:
        """The variables with which moxing accesses OBS."""
        obs = self.spec["obs"]
        endpoint = urlsplit(obs["endpoint"])
        return {
            "S3_ENDPOINT": endpoint.netloc,
            "S3_USE_HTTPS": "1" if endpoint.scheme == "https" else "0",
            "S3_REGION": obs["region"],
            "ACCESS_KEY_ID": obs["key"],
            "SECRET_ACCESS_KEY": obs["secret"],
        }

    def _command(self) -> list[str]:
        arguments = [f"--{channel['name']}={self._place(channel)}" for channel in self._channels()]
        arguments += [f"--{name}={value}" for name, value in self.spec["parameters"]]
        if self.spec["command"]:
            told = arguments if self.spec["dialect"] == "v2" else []
            command = self.spec["command"]
            if self._is_custom_v1():
                command = command.replace("/home/work/", f"{self.root}/")
            return ["/bin/bash", "-c", " ".join([command, *map(shlex.quote, told)])]
        boot = self.code_dir / self.spec["boot_file"]
        return [sys.executable, str(boot), *arguments]

    def _channels(self) -> list[dict[str, str]]:
        return [*self.spec["remote"], *self.spec["inputs"], *self.spec["outputs"]]

    def _place(self, channel: dict[str, str]) -> str:
        return str(self.home / channel["dir"].lstrip("/")) if "dir" in channel else channel["url"]

    def _environ(self) -> dict[str, str]:
        spec = self.spec
        inherited = {"PATH", "LANG", "MODELARTS_HOME"} & os.environ.keys()
        environ: dict[str, str] = {name: os.environ[name] for name in inherited}
        environ |= {"HOME": str(self.home), "TMPDIR": str(self.home / "tmp"), "MA_NUM_HOSTS": str(spec["nodes"])}
        path = [str(self._site)] if self._site else []
        if spec["dialect"] == "v1":
            path.append(str(SHIM))
            if self._is_custom_v1():
                environ["PATH"] = os.pathsep.join([str(self.home / "bin"), environ.get("PATH", os.defpath)])
            else:
                environ |= self._keys()
            environ |= {
                "DLS_TASK_INDEX": str(self.index),
                "DLS_TASK_NUMBER": str(spec["nodes"]),
                "BATCH_JOB_ID": spec["job_id"],
            }
        else:
            environ |= {
                "MA_JOB_DIR": str(self.root / "user-job-dir"),
                "VC_TASK_INDEX": str(self.index),
                "VC_WORKER_NUM": str(spec["nodes"]),
                "MA_VJ_NAME": f"modelarts-job-{spec['job_id']}",
            }
        if path:
            environ["PYTHONPATH"] = os.pathsep.join(path)
        return environ | dict(spec["env"])

    def _signal(self, number: int) -> None:
        assert self._process is not None
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass
