# SPDX-License-Identifier: Apache-2.0
"""Start and stop etcd and kube-apiserver."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from base64 import b64encode
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import requests
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.harness import keeper
from tests.harness.airflow import free_ports, wait_for
from tests.harness.kubernetes import rights
from tests.harness.kubernetes.client import Client, collection
from tests.harness.kubernetes.programs import missing, program
from tests.harness.tls import Authority

START_TIMEOUT = 60.0
"""Seconds to start on an idle machine, where it takes 5."""
PROGRAMS = ("etcd", "kube-apiserver")
MEMORY = "512MiB"
"""What each process tries to stay below; kube-apiserver begins with 310 and etcd with 45."""


class Kubernetes:
    """A Kubernetes API; a context manager that leaves nothing behind, also where the tests are killed.

    :ivar url: Where it is; its certificate is for ``localhost``.
    :ivar authority: The file of the certificate to trust.
    :ivar admin: The API as an administrator sees it.
    :ivar home: The temporary folder; ``etcd.log`` and ``kube-apiserver.log`` are in it.
    """

    def __init__(self) -> None:
        assert not missing(*PROGRAMS), missing(*PROGRAMS)
        self.home = Path(tempfile.mkdtemp(prefix="kubernetes-"))
        keeper.keep_folder(self.home)
        self._ports = dict(zip(("etcd", "peer", "api"), free_ports(3), strict=True))
        self.url = f"https://localhost:{self._ports['api']}"
        authority = Authority(self.home / "certificates")
        self.authority, self._certificate = authority.bundle, authority.issue()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._frozen = False
        self.admin = Client(self.url, self.authority, uuid.uuid4().hex)
        self._write_keys()

    def __enter__(self) -> Self:
        try:
            self._start_etcd()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.thaw()
        for name in tuple(self._processes):
            self._kill(name)
        shutil.rmtree(self.home, ignore_errors=True)

    def start(self) -> None:
        """Start the API (again) and wait until it is ready."""
        self._run("kube-apiserver", *self._flags())
        wait_for("the Kubernetes API is ready", self._ready, START_TIMEOUT, 0.1)

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End the API; etcd keeps its objects.

        :param how: SIGTERM ends watches first, SIGKILL is a crash.
        """
        self.thaw()
        self._kill("kube-apiserver", how)

    def freeze(self) -> None:
        """Let the API answer no more, on connections that stay open."""
        self._processes["kube-apiserver"].send_signal(signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        """Let the API answer again."""
        if self._frozen:
            self._processes["kube-apiserver"].send_signal(signal.SIGCONT)
        self._frozen = False

    def forget_history(self) -> None:
        """Restart the API without its past: a watch from any resourceVersion of before is answered with 410 Gone."""
        self.stop()
        revision = 0
        for _ in range(3):  # newer than anything that a client may have seen
            answer = self._etcd("put", {"key": _base64("test"), "value": _base64(uuid.uuid4().hex)})
            revision = int(answer["header"]["revision"])
        self._etcd("compaction", {"revision": str(revision), "physical": True})
        self.start()

    def memory(self) -> dict[str, int]:
        """The resident bytes of each process."""
        pages = {
            name: int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
            for name, process in self._processes.items()
        }
        return {name: count * os.sysconf("SC_PAGE_SIZE") for name, count in pages.items()}

    def log(self, name: str = "kube-apiserver") -> str:
        """What a process has printed."""
        return (self.home / f"{name}.log").read_text(errors="replace")

    def namespace(self, prefix: str = "test") -> str:
        """A new namespace."""
        name = f"{prefix}-{uuid.uuid4().hex[:10]}"
        self.admin.json("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        return name

    def apply(self, path: Path, namespace: str = "") -> None:
        """Create the objects of a YAML file; a resource definition is served when this returns."""
        for document in yaml.safe_load_all(path.read_text()):
            self.admin.apply(document, namespace)
            if document["kind"] == "CustomResourceDefinition":
                self._wait_until_served(document)

    def grant(self, kustomization: Path, namespace: str, account: str = "") -> str:
        """A token with the rights that a folder of the documentation tells users to give.

        :param kustomization: The folder with its ``kustomization.yaml``.
        :param account: A service account of this name, in place of the folder's own.
        """
        return rights.grant(self.admin, kustomization, namespace, account)

    def revoke(self, namespace: str, account: str) -> None:
        """Delete a service account, by which its tokens are refused from some seconds later on."""
        rights.revoke(self.admin, namespace, account)

    def client(self, token: str) -> Client:
        """The API as the owner of a token sees it."""
        return Client(self.url, self.authority, token)

    def kubeconfig(self, token: str, namespace: str = "default", url: str = "") -> dict[str, Any]:
        """A kubeconfig; all that it needs is in it.

        :param url: The address of a proxy that speaks no TLS, in place of the API's own.
        """
        authority = b64encode(self.authority.read_bytes()).decode()
        cluster = {"server": url} if url else {"server": self.url, "certificate-authority-data": authority}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
        }

    def connection(self, token: str, namespace: str = "default", url: str = "") -> dict[str, Any]:
        """The Airflow connection of type ``kubernetes``, as the JSON of an ``AIRFLOW_CONN_…`` has it."""
        extra = {"kube_config": json.dumps(self.kubeconfig(token, namespace, url)), "namespace": namespace}
        return {"conn_type": "kubernetes", "extra": extra}

    def _write_keys(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        formats = (serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
        (self.home / "accounts.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, *formats))
        (self.home / "tokens.csv").write_text(f"{self.admin.token},admin,admin,system:masters\n")

    def _start_etcd(self) -> None:
        client, peer = (f"http://127.0.0.1:{self._ports[name]}" for name in ("etcd", "peer"))
        self._run(
            "etcd",
            *("--data-dir", "etcd", "--unsafe-no-fsync"),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"default={peer}"),
        )

    def _flags(self) -> list[str]:
        flags = {
            "etcd-servers": f"http://127.0.0.1:{self._ports['etcd']}",
            "bind-address": "127.0.0.1",
            "secure-port": self._ports["api"],
            "advertise-address": "192.0.2.1",  # nobody's: no Pod is there to ask for it
            "endpoint-reconciler-type": "none",
            "tls-cert-file": self._certificate,
            "tls-private-key-file": self._certificate,
            "cert-dir": "certificates",
            "token-auth-file": "tokens.csv",
            "authorization-mode": "RBAC",
            "service-account-issuer": "https://localhost",
            "service-account-key-file": "accounts.key",
            "service-account-signing-key-file": "accounts.key",
            "service-cluster-ip-range": "10.0.0.0/24",
            "disable-admission-plugins": "ServiceAccount",
            "enable-priority-and-fairness": "false",
            "profiling": "false",
        }
        return [f"--{name}={value}" for name, value in flags.items()]

    def _run(self, name: str, *arguments: str) -> None:
        path = program(name)
        assert path is not None, missing(name)
        with (self.home / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [path, *arguments],
                cwd=self.home,
                env={"PATH": os.environ["PATH"], "HOME": str(self.home), "GOMEMLIMIT": MEMORY},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests
            )
        keeper.keep(self._processes[name].pid)

    def _kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        process = self._processes.pop(name, None)
        if process is None:
            return
        keeper.end(process, how)

    def _ready(self) -> bool:
        for name, process in self._processes.items():
            assert process.poll() is None, f"{name} ended:\n{self.log(name)[-3000:]}"
        with suppress(requests.RequestException):
            return self.admin.call("GET", "/readyz", timeout=5).text == "ok"
        return False

    def _wait_until_served(self, definition: dict[str, Any]) -> None:
        spec, name = definition["spec"], definition["metadata"]["name"]
        path = f"{collection(definition)}/{name}"

        def served() -> bool:
            conditions = (self.admin.get(path).get("status") or {}).get("conditions") or []
            if not any(each["type"] == "Established" and each["status"] == "True" for each in conditions):
                return False
            version = next(each["name"] for each in spec["versions"] if each["served"])
            return self.admin.call("GET", f"/apis/{spec['group']}/{version}/{spec['names']['plural']}").ok

        wait_for(f"{name} is served", served, 20, 0.05)

    def _etcd(self, action: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = requests.post(f"http://127.0.0.1:{self._ports['etcd']}/v3/kv/{action}", json=body, timeout=30)
        answer.raise_for_status()
        return dict(answer.json())


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode()
