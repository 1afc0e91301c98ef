# SPDX-License-Identifier: Apache-2.0
"""Source distributions whose build runs a program, and an index of this machine that has them, with a password or none.

A package's build runs what the package says: ``backend`` is the source of its build backend, which needs no other
package. An index serves the files of a folder::

    with Index(tmp_path, credentials="user:secret") as index:
        write_sdist(tmp_path, "evil", "print('built')")
        index.url   # http://user:secret@127.0.0.1:…/simple/
"""

from __future__ import annotations

import base64
import hashlib
import io
import ssl
import tarfile
import threading
import zipfile
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

_BACKEND = """
import io, os, tarfile, zipfile
def get_requires_for_build_wheel(config_settings=None):
    return []
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = "{name}-1.0-py3-none-any.whl"
    info = "{name}-1.0.dist-info"
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as wheel:
        wheel.writestr("{name}.py", "")
        wheel.writestr(info + "/METADATA", "Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n")
        wheel.writestr(info + "/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "/RECORD", "")
    return name
"""

_PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "{name}"
version = "1.0"
"""


def write_sdist(folder: Path, name: str, backend: str) -> str:
    """Write a source distribution; answers the name of its file."""
    files = {
        "pyproject.toml": _PYPROJECT.format(name=name),
        "backend.py": backend + _BACKEND.format(name=name),
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
    }
    with tarfile.open(folder / f"{name}-1.0.tar.gz", "w:gz") as archive:
        for path, text in files.items():
            member = tarfile.TarInfo(f"{name}-1.0/{path}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return f"{name}-1.0.tar.gz"


def write_wheel(
    folder: Path,
    name: str,
    tag: str = "py3-none-any",
    *,
    version: str = "1.0",
    requires: Sequence[str] = (),
    module: str = "",
) -> str:
    """Write a wheel with one module; answers the name of its file.

    :param requires: The requirements of the package.
    :param module: The source of the module, which is named as the package.
    """
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", module)
        needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        tags = "".join(f"Tag: {each}-none-any\n" for each in tag.partition("-")[0].split("."))
        wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\n{tags}")
        wheel.writestr(f"{info}/RECORD", "")
    return f"{name}-{version}-{tag}.whl"


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


class Index:
    """A package index of the files in a folder.

    :param credentials: ``user:password``, without which it answers 401; none where it is empty.
    :param tls: The TLS of ``localhost``. Such an index names its files by their whole address, behind a redirect.
    :ivar asked: The paths that were asked for.
    :ivar logins: The values of ``Proxy-Authorization`` that came.
    :ivar gate: While it is not set, files are not sent.
    """

    def __init__(self, folder: Path, credentials: str = "", *, tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[str] = []
        self.logins: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(folder, credentials))
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        scheme, host = ("https", "localhost") if tls else ("http", "127.0.0.1")
        place = f"{host}:{self._server.server_address[1]}"
        self.address = f"{scheme}://{place}"
        self.url = f"{scheme}://{credentials}@{place}/simple/" if credentials else f"{self.address}/simple/"

    def _handler(self, folder: Path, credentials: str) -> type[BaseHTTPRequestHandler]:
        wanted = "Basic " + base64.b64encode(credentials.encode()).decode()
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.asked.append(self.path)
                index.logins.add(self.headers.get("Proxy-Authorization", ""))
                path = urlsplit(self.path).path  # a proxy is asked for whole addresses
                if credentials and self.headers.get("Authorization") != wanted:
                    self._answer(401, b"who are you?", "text/plain")
                elif path.startswith("/simple/"):
                    self._answer(*index._page(folder, path.strip("/").split("/")[-1]), "text/html")
                elif path.startswith("/moved/"):
                    self._answer(302, b"", "text/plain", f"{index.address}{path.replace('moved', 'files')}")
                else:
                    index.gate.wait(60)
                    self._answer(200, (folder / path.split("/")[-1]).read_bytes(), "application/octet-stream")

            do_HEAD = do_GET  # noqa: N815

            def _answer(self, status: int, body: bytes, kind: str, location: str = "") -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                if location:
                    self.send_header("Location", location)
                if status == 401:
                    self.send_header("WWW-Authenticate", 'Basic realm="packages"')
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def _page(self, folder: Path, name: str) -> tuple[int, bytes]:
        place = f"{self.address}/moved" if self.address.startswith("https") else "/files"
        links = [
            f'<a href="{place}/{file.name}#sha256={_sha256(file)}">{file.name}</a>'
            for file in folder.glob(f"{name}-[0-9]*")
        ]
        return 200 if links else 404, "".join(links).encode()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
