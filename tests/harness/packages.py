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
import io
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

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


def write_wheel(folder: Path, name: str) -> str:
    """Write a wheel with one empty module; answers the name of its file."""
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return f"{name}-1.0-py3-none-any.whl"


class Index:
    """A package index of the files in a folder.

    :param credentials: ``user:password``, without which it answers 401; none where it is empty.
    :ivar asked: The paths that were asked for.
    :ivar gate: While it is not set, files are not sent.
    """

    def __init__(self, folder: Path, credentials: str = "") -> None:
        self.asked: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        wanted = "Basic " + base64.b64encode(credentials.encode()).decode()
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.asked.append(self.path)
                if credentials and self.headers.get("Authorization") != wanted:
                    self._answer(401, b"who are you?", "text/plain")
                elif self.path.startswith("/simple/"):
                    name = self.path.strip("/").split("/")[-1]
                    links = [f'<a href="/files/{file.name}">{file.name}</a>' for file in folder.glob(f"{name}-1.0*")]
                    self._answer(200 if links else 404, "".join(links).encode(), "text/html")
                else:
                    index.gate.wait(60)
                    self._answer(200, (folder / self.path.split("/")[-1]).read_bytes(), "application/octet-stream")

            do_HEAD = do_GET  # noqa: N815

            def _answer(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                if status == 401:
                    self.send_header("WWW-Authenticate", 'Basic realm="packages"')
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        place = f"127.0.0.1:{self._server.server_address[1]}"
        self.address = f"http://{place}"
        self.url = f"http://{credentials}@{place}/simple/" if credentials else f"http://{place}/simple/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
