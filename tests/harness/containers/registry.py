# SPDX-License-Identifier: Apache-2.0
"""A real registry of container images (Debian's docker-registry), with a user and a password."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import requests

from tests.harness import keeper
from tests.harness.airflow import free_ports
from tests.harness.containers.programs import missing, program
from tests.harness.waiting import wait_for

USER, PASSWORD = "station", "train-secret"
_HASH = "$2b$05$Bx2hq4tTv3MytP/pBoVkT.T3eWVMHB.RRyvRHfbIq0LMDZcFZEPx."
"""bcrypt of the password."""

_MANIFESTS = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"


class Registry:
    """A registry; a context manager that leaves nothing behind.

    :param port: By default a free one.
    :ivar address: As in the name of an image: ``127.0.0.1:5000``.
    :ivar other: A port that engines trust as well, for another registry.
    """

    def __init__(self, port: int = 0) -> None:
        assert not missing("docker-registry"), missing("docker-registry")
        self.home = Path(tempfile.mkdtemp(prefix="registry-", dir="/tmp"))
        keeper.keep_folder(self.home)
        free, self.other = free_ports(2)
        self.address = f"127.0.0.1:{port or free}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        (self.home / "users").write_text(f"{USER}:{_HASH}\n")
        settings = {
            "version": 0.1,
            "storage": {"filesystem": {"rootdirectory": str(self.home / "data")}},
            "http": {"addr": self.address},
            "auth": {"htpasswd": {"realm": "test", "path": str(self.home / "users")}},
        }
        (self.home / "registry.yml").write_text(json.dumps(settings))
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self) -> None:
        """Start it (again), with what it has stored."""
        with (self.home / "registry.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(program("docker-registry")), "serve", "registry.yml"],
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        keeper.keep(self._process.pid)
        wait_for("the registry answers", self._ready, 20, 0.1)

    def kill(self) -> None:
        """End it by SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def tags(self, repository: str) -> list[str]:
        """The tags of a repository."""
        return list(self._get(f"{repository}/tags/list").json().get("tags") or [])

    def digest(self, repository: str, tag: str) -> str:
        """The digest of an image."""
        return str(self._get(f"{repository}/manifests/{tag}").headers["Docker-Content-Digest"])

    def labels(self, repository: str, tag: str) -> dict[str, Any]:
        """The labels of an image."""
        manifest = self._get(f"{repository}/manifests/{tag}").json()
        config = self._get(f"{repository}/blobs/{manifest['config']['digest']}").json()
        return dict(config["config"].get("Labels") or {})

    def _get(self, path: str) -> requests.Response:
        answer = requests.get(
            f"http://{self.address}/v2/{path}", auth=(USER, PASSWORD), headers={"Accept": _MANIFESTS}, timeout=30
        )
        answer.raise_for_status()
        return answer

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.home / "registry.log").read_text()[-3000:]
        with suppress(requests.RequestException):
            return requests.get(f"http://{self.address}/v2/", timeout=5).status_code == 401
        return False
