# SPDX-License-Identifier: Apache-2.0
"""Start and stop the double, inject faults, and read its journal of requests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import obstore
import requests
from obstore.store import S3Store

from airflow_provider_jobapi.server.run.supervisor import process_tree
from tests.harness.airflow import free_ports
from tests.harness.modelarts.faults import write_json
from tests.harness.modelarts.obs import split
from tests.harness.s3 import BUCKET, KEY, S3, SECRET, serve
from tests.harness.server import poll

_ROOT = Path(__file__).parents[3]
START_TIMEOUT = 30.0


class ModelArts:
    """The double; a context manager.

    :param home: A directory for everything that it keeps, made when it is not there.
    :param dialects: Which paths it serves.
    :param pace: Seconds that a job stays in each state before and after it runs.
    :param grace: Seconds from the SIGTERM to the SIGKILL of a job that is stopped.
    :param store: A running S3 store in place of its own.
    :ivar url: Where ModelArts is; IAM is at ``{url}/v3``.
    :ivar s3_url: Where OBS is.
    """

    def __init__(
        self,
        home: Path,
        dialects: Sequence[str] = ("v1", "v2"),
        region: str = "eu-de",
        domain: str = "domain",
        project: str = "project",
        user: str = "user",
        password: str = "password of the user",  # noqa: S107 - a default that tests have in common
        *,
        pace: float = 0.1,
        grace: float = 2.0,
        store: S3 | None = None,
    ) -> None:
        self.home = home / "modelarts"
        self.dialects = tuple(dialects)
        self.account = {"domain": domain, "project": project, "user": user, "password": password, "region": region}
        self.bucket, self.access_key, self.secret_key = BUCKET, KEY, SECRET
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self._times = {"pace": pace, "grace": grace}
        self._store = store
        self._ending = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True)
        with ExitStack() as starting:
            starting.callback(self._end_processes)
            self.store = self._store or starting.enter_context(serve(self.home / "s3"))
            obs = {"endpoint": self.s3_url, "key": KEY, "secret": SECRET, "region": self.account["region"]}
            settings = {"account": self.account, "dialects": self.dialects, "url": self.url, "port": self.port}
            write_json(self.home / "settings.json", settings | self._times | {"obs": obs})
            self.restart()
            self._ending = starting.pop_all()
        return self

    def __exit__(self, *_unused: object) -> None:
        self._ending.close()
        assert "Traceback" not in self.log(), f"The double itself has failed:\n{self.log()}"

    @property
    def s3_url(self) -> str:
        return self.store.url

    @property
    def iam_url(self) -> str:
        return f"{self.url}/v3"

    @property
    def connection(self) -> dict[str, Any]:
        """The Airflow connection, for the last of the dialects."""
        return self.connection_for(self.dialects[-1])

    def connection_for(self, dialect: str, **extra: Any) -> dict[str, Any]:
        """The Airflow connection for a dialect.

        :param extra: More fields of the connection's extra, or other ones.
        """
        known = {
            "iam_url": self.iam_url,
            "domain": self.account["domain"],
            "project": self.account["project"],
            "region": self.account["region"],
            "obs_endpoint": self.s3_url,
            "obs_access_key": self.access_key,
            "obs_secret_key": self.secret_key,
            "bucket": self.bucket,
            "dialect": dialect,
            "engine": "TensorFlow:TF-1.8.0-python3.6",
            "poll_interval": 0.2,
        }
        login = {"login": self.account["user"], "password": self.account["password"]}
        return {"conn_type": "modelarts", "host": self.url} | login | {"extra": known | extra}

    def kill(self) -> None:
        """End the server as a power cut would; its jobs go on."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def restart(self) -> None:
        """Start the server (again) with the state that it had."""
        if self._process is not None:
            self.kill()
        with (self.home / "server.log").open("ab") as output:
            begin = output.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.harness.modelarts.server", str(self.home)],
                cwd=_ROOT,
                env={name: value for name, value in os.environ.items() if name in {"PATH", "LANG"}} | self._mark(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        poll(lambda: self._is_up(begin), START_TIMEOUT, "the double of ModelArts to start")

    def inject_fault(self, fault: str, **how: Any) -> None:
        """Switch a fault on.

        :param fault: Which one, see ``faults.FAULTS``.
        :param how: Its options.
        """
        self._control({"on": True, "fault": fault, "how": how})

    def clear_faults(self, fault: str | None = None) -> None:
        """Switch a fault off, or all of them."""
        self._control({"on": False, "fault": fault})

    def requests(self) -> list[dict[str, Any]]:
        """The journal: method, path, query, time (epoch seconds), status (None: not answered), JSON body or ""."""
        return list(requests.get(f"{self.url}/__control__/requests", timeout=30).json())

    def put(self, url: str, content: bytes | str) -> None:
        """Store an object; the bucket is made when it is not there."""
        bucket, key = split(url)
        (self.store.root / bucket).mkdir(exist_ok=True)
        obstore.put(self._bucket(bucket), key, content.encode() if isinstance(content, str) else content)

    def get(self, url: str) -> bytes:
        """The bytes of an object."""
        bucket, key = split(url)
        return bytes(obstore.get(self._bucket(bucket), key).bytes())

    def objects(self, url: str) -> list[str]:
        """The names of the objects below a folder."""
        bucket, key = split(url)
        found = [entry["path"] for chunk in obstore.list(self._bucket(bucket), prefix=key or None) for entry in chunk]
        return sorted(path.removeprefix(key) for path in found)

    def processes(self) -> list[int]:
        """The server, the runners and the boot files that are alive."""
        return process_tree.marked(self._marker())

    def log(self) -> str:
        """What the server has printed."""
        return (self.home / "server.log").read_text(errors="replace")

    def _control(self, wish: dict[str, Any]) -> None:
        answer = requests.post(f"{self.url}/__control__/inject_fault", json=wish, timeout=30)
        if answer.status_code != 200:
            raise ValueError(answer.json()["error"])

    def _bucket(self, bucket: str) -> S3Store:
        return S3Store(
            bucket,
            endpoint=self.s3_url,
            access_key_id=KEY,
            secret_access_key=SECRET,
            region=self.account["region"],
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )

    def _is_up(self, begin: int) -> bool:
        assert self._process is not None
        printed = (self.home / "server.log").read_bytes()[begin:]
        if self._process.poll() is not None:
            raise AssertionError(f"The double ended with code {self._process.returncode}:\n{printed.decode()}")
        return printed.endswith(b"up\n")

    def _mark(self) -> dict[str, str]:
        return {"MODELARTS_HOME": str(self.home)}

    def _marker(self) -> bytes:
        return f"MODELARTS_HOME={self.home}".encode()

    def _end_processes(self) -> None:
        if self._process is not None:
            self.kill()
        left = process_tree.end_marked(self._marker())
        assert left == [], f"These processes could not be ended: {left}"
