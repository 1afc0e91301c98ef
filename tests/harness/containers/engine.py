# SPDX-License-Identifier: Apache-2.0
"""Start and stop a real podman and a real dockerd, with all of their data in a temporary folder."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import tarfile
import tempfile
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Self

from tests.harness import keeper
from tests.harness.airflow import free_ports
from tests.harness.containers import left_behind
from tests.harness.containers.image import add_bytes, add_folder
from tests.harness.containers.programs import missing, program
from tests.harness.tls import Authority
from tests.harness.waiting import wait_for

BASE = "localhost/base:1"
"""The image with Python and busybox."""
PATH = "/usr/local/bin:/usr/bin:/bin"

START_TIMEOUT = 30.0
"""Seconds to start on an idle machine, where it takes 1."""


class Engine:
    """A container engine behind a socket; a context manager that leaves nothing behind, also where tests are killed.

    :param counted: Whether :meth:`starts` and :meth:`die_at_a_start` work.
    :ivar home: The temporary folder; ``engine.log`` is in it.
    :ivar url: The address, as a Docker client reads it.
    :ivar client: A ``docker.APIClient``.
    """

    name: ClassVar[str]
    programs: ClassVar[tuple[str, ...]]

    def __init__(self, *, registries: Sequence[str] = (), counted: bool = False) -> None:
        assert not missing(*self.programs), missing(*self.programs)
        self.home = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir="/tmp"))
        self.home.chmod(0o711)  # below it is the root of containers that run as another user
        self.socket = self.home / "api.sock"
        self.url = f"unix://{self.socket}"
        self.cgroup = f"{self.name}-{uuid.uuid4().hex[:8]}"
        self._watch = left_behind.Watch(self.home, self.cgroup, "libpod_parent")
        self._registries = tuple(registries)
        self._runtime = self._counting_runtime() if counted else None
        self._process: subprocess.Popen[bytes] | None = None
        self._client: Any = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.thaw()
        self._close()
        with suppress(Exception):
            self._end_containers()
        self.stop(signal.SIGTERM)
        self._watch.end()

    @property
    def client(self) -> Any:
        """A ``docker.APIClient``."""
        from docker import APIClient

        if self._client is None:
            self._client = APIClient(base_url=self.url, version="auto", timeout=60)
        return self._client

    def start(self) -> None:
        """Start the engine (again) and wait until it answers; containers that go on are still there."""
        self.socket.unlink(missing_ok=True)
        with (self.home / "engine.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                cwd=self.home,
                env={"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "HOME": str(self.home), **self._environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        (self.home / "service.pid").write_text(str(self._process.pid))
        wait_for(f"{self.name} answers", self._ready, START_TIMEOUT, 0.1)

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End the engine; SIGKILL is a crash."""
        self.thaw()
        self._close()
        process, self._process = self._process, None
        if process is None:
            return
        keeper.end(process, how)

    def freeze(self) -> None:
        """Let the engine answer no more, on connections that stay open."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the engine answer again."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)

    def starts(self) -> Counter[str]:
        """How often each container was started, by its id, whatever the engine knows of it."""
        with suppress(FileNotFoundError):
            return Counter((self.home / "starts").read_text().split())
        return Counter()

    def die_at_a_start(self) -> None:
        """Let the next container be started, and the engine be killed before it can know."""
        (self.home / "die").touch()

    def _counting_runtime(self) -> Path:
        path, home = self.home / "counting-runtime", self.home
        path.write_text(
            "#!/bin/sh\n"
            'for word in "$@"; do [ "$word" != start ] || begins=yes; last=$word; done\n'
            f'[ -n "$begins" ] || exec {program("runc")} "$@"\n'
            f'echo "$last" >> {home}/starts\n'
            f'{program("runc")} "$@"\n'
            "code=$?\n"
            f"if [ -e {home}/die ]; then rm {home}/die; kill -9 $(cat {home}/service.pid); fi\n"
            "exit $code\n"
        )
        path.chmod(0o755)
        return path

    def log(self) -> str:
        """What the engine has printed."""
        return (self.home / "engine.log").read_text(errors="replace")

    def containers(self) -> list[dict[str, Any]]:
        """All containers, also those that have ended."""
        return list(self.client.containers(all=True))

    def load(self, tree: Path, reference: str) -> None:
        """Load a tar file of a root folder as an image."""
        repository, _, tag = reference.rpartition(":")
        answer = self.client.import_image(str(tree), repository=repository, tag=tag, changes=[f"ENV PATH={PATH}"])
        image = json.loads(answer.splitlines()[-1])["status"]
        self.client.tag(image, repository, tag)  # podman 4 calls it "latest"

    def make_image(self, reference: str, files: Mapping[str, bytes], *changes: str, base: str = BASE) -> str:
        """Make an image of another one and files; returns its id.

        :param files: Contents by absolute path; the files are executable. A path that ends with ``/`` is a folder that
            everybody may write.
        :param changes: Instructions of a Containerfile, such as ``ENTRYPOINT ["python", "/train.py"]``.
        """
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for path, content in files.items():
                if path.endswith("/"):
                    add_folder(tar, path.strip("/"), 0o777)
                else:
                    add_bytes(tar, path.lstrip("/"), content, mode=0o755)
        container = self.client.create_container(base, ["true"])["Id"]
        try:
            self._put(container, packed.getvalue()[: tar.offset])
            repository, _, tag = reference.rpartition(":")
            return str(self.client.commit(container, repository, tag, changes="\n".join(changes))["Id"])
        finally:
            self.client.remove_container(container)

    def _put(self, container: str, tar: bytes) -> None:
        """Unpack a tar, without the padding behind its end, at which Podman's pipe may break; it does so under load."""
        from docker.errors import APIError

        for left in (2, 1, 0):
            try:
                self.client.put_archive(container, "/", tar)
            except APIError as error:
                if "broken pipe" not in str(error) or not left:
                    raise
            else:
                return

    def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _end_containers(self) -> None:
        for each in self.containers():
            with suppress(Exception):
                self.client.remove_container(each["Id"], force=True)

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"{self.name} ended:\n{self.log()[-3000:]}"
        try:
            return bool(self.client.ping())
        except Exception:  # noqa: BLE001 -- not yet
            self._close()
            return False

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _environment(self) -> dict[str, str]:
        return {}


class Podman(Engine):
    """Podman's service of the Docker API. Its containers go on without it."""

    name = "podman"
    programs = ("podman", "runc")

    def _command(self) -> list[str]:
        podman = program("podman")
        # Its folders are also named here, by which its processes are found.
        options = ["--root", self.home / "root", "--runroot", self.home / "run", "--tmpdir", self.home / "tmp"]
        options += ["--cgroup-manager", "cgroupfs"]
        self._write_configuration()
        return [str(each) for each in (podman, *options, "system", "service", "--time=0", self.url)]

    def _environment(self) -> dict[str, str]:
        return {
            "CONTAINERS_CONF": str(self.home / "containers.conf"),
            "CONTAINERS_REGISTRIES_CONF": str(self.home / "registries.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.home / "storage.conf"),
            "TMPDIR": str(self.home),
        }

    def _write_configuration(self) -> None:
        # Root without CAP_SYS_RESOURCE can raise no limit; crun refuses a mix of cgroups v1 and v2.
        (self.home / "containers.conf").write_text(
            "[containers]\n"
            'default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]\n'
            'base_hosts_file = "none"\n'
            "[engine]\n"
            f'runtime = "{self._runtime or "runc"}"\n'
            'lock_type = "file"\n'
            'events_logger = "file"\n'
            f'volume_path = "{self.home / "volumes"}"\n'
            f'static_dir = "{self.home / "root" / "libpod"}"\n'
        )
        (self.home / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\nrunroot = "{self.home / "run"}"\ngraphroot = "{self.home / "root"}"\n'
        )
        (self.home / "registries.conf").write_text(
            "".join(f'[[registry]]\nlocation = "{each}"\ninsecure = true\n' for each in self._registries)
        )


class Dockerd(Engine):
    """Docker's daemon, without networks of its own: no bridge and no rule of iptables is made.

    :param tls: Also listen on a loopback port, for clients with a certificate of this authority.
    :param live_restore: Whether containers go on when it ends; else it ends them when it is back after a crash.
    :ivar live_restore: The same.
    :ivar tcp: The address of that port; empty where there is none.
    """

    name = "dockerd"
    programs = ("dockerd", "containerd", "runc")

    def __init__(
        self,
        *,
        registries: Sequence[str] = (),
        counted: bool = False,
        tls: Authority | None = None,
        live_restore: bool = False,
    ) -> None:
        super().__init__(registries=registries, counted=counted)
        self.live_restore = live_restore
        self._tls = tls
        self.tcp = "" if tls is None else f"tcp://localhost:{free_ports(1)[0]}"

    def _command(self) -> list[str]:
        options = ["--data-root", self.home / "data", "--exec-root", self.home / "exec", "-p", self.home / "docker.pid"]
        options += ["--host", self.url, "--group", "root", "--cgroup-parent", f"/{self.cgroup}"]
        options += ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]
        options += [word for each in self._registries for word in ("--insecure-registry", each)]
        options += [f"--add-runtime=counting={self._runtime}", "--default-runtime=counting"] if self._runtime else []
        options += ["--live-restore"] if self.live_restore else []
        if self._tls is not None:
            files = keys_of(self._tls, self.home / "certificates", "localhost")
            options += ["--host", self.tcp, "--tlsverify"]
            options += [f"--tls{name}={file}" for name, file in zip(("cacert", "cert", "key"), files, strict=True)]
        # It has ended, its containerd with it; until someone reaps that, its pid would count as a containerd to use.
        for file in ("docker.pid", "exec/containerd/containerd.pid"):
            (self.home / file).unlink(missing_ok=True)
        return [str(each) for each in (program("dockerd"), *options)]

    def _environment(self) -> dict[str, str]:
        return {"TMPDIR": str(self.home)}


def keys_of(authority: Authority, folder: Path, name: str) -> tuple[Path, Path, Path]:
    """The files of an authority, of a certificate for a name, and of its key, as Docker wants them."""
    folder.mkdir(exist_ok=True)
    text = authority.issue(name).read_text()
    begin = text.index("-----BEGIN CERTIFICATE")
    certificate, key = folder / f"{name}-cert.pem", folder / f"{name}-key.pem"
    key.write_text(text[:begin])
    certificate.write_text(text[begin:])
    return authority.bundle, certificate, key
