# SPDX-License-Identifier: Apache-2.0
"""A small image FROM scratch with this machine's own Python and busybox, so that no registry of images is needed."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path

from tests.harness.containers.programs import program

TOOLS = ("sh", "cat", "sleep", "ls", "env", "id", "kill", "true", "false", "ps", "mount", "wget", "head", "yes")
"""What the image has of busybox."""

_LEFT_OUT = {"site-packages", "test", "tests", "idlelib", "lib2to3", "ensurepip", "tkinter", "turtledemo", "pydoc_data"}
_LEFT_OUT |= {"lib-dynload", "encodings_test", "distutils", "__phello__"}
_MODULES = re.compile(r"^(_tkinter|_test|_xx|xx|_curses|_dbm|_gdbm|readline|nis)")
_FOLDERS = {"tmp": 0o1777, "proc": 0o755, "sys": 0o755, "dev": 0o755, "opt": 0o777, "data": 0o755, "etc": 0o755}
_FILES = {
    "etc/passwd": "root:x:0:0:root:/:/bin/sh\ntrain:x:1000:1000:train:/tmp:/bin/sh\n",
    "etc/group": "root:x:0:\ntrain:x:1000:\n",
    "usr/bin/env": '#!/bin/busybox sh\nexec /bin/busybox env "$@"\n',
}


def write_tree(path: Path) -> None:
    """Write the tar file of the image's one layer; some 60 MB, in a second."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    stdlib = Path(sysconfig.get_path("stdlib"))
    python = Path(sys._base_executable).resolve()
    extensions = sorted(Path(sysconfig.get_config_var("DESTSHARED")).glob("*.so"))
    extensions = [each for each in extensions if not _MODULES.match(each.name)]
    with tarfile.open(path, "w") as tar:
        for name, mode in _FOLDERS.items():
            add_folder(tar, name, mode)
        for name, text in _FILES.items():
            add_bytes(tar, name, text.encode(), mode=0o755)
        tar.add(python, f"usr/local/bin/{version}")
        for name in ("python", "python3"):
            _link(tar, f"usr/local/bin/{name}", version)
        for file in _files(stdlib):
            tar.add(file, f"usr/local/lib/{version}/{file.relative_to(stdlib)}", recursive=False)
        for extension in extensions:
            tar.add(extension, f"usr/local/lib/{version}/lib-dynload/{extension.name}")
        for name, place in _libraries(python, *extensions).items():
            tar.add(Path(place).resolve(), name.lstrip("/"))
        busybox = program("busybox")
        assert busybox is not None
        tar.add(busybox.resolve(), "bin/busybox")
        for tool in TOOLS:
            _link(tar, f"bin/{tool}", "busybox")


def add_bytes(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    """Add a file to a tar."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))


def add_folder(tar: tarfile.TarFile, name: str, mode: int) -> None:
    """Add a folder to a tar."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    tar.addfile(entry)


def _files(stdlib: Path) -> Iterator[Path]:
    for file in sorted(stdlib.rglob("*")):
        parts = set(file.relative_to(stdlib).parts)
        wanted = not parts & _LEFT_OUT and file.suffix != ".a" and ".opt-" not in file.name
        if wanted and file.is_file() and not any(part.startswith("config-") for part in parts):
            yield file


def _libraries(*programs: Path) -> dict[str, str]:
    """Where each library belongs in the image, and where it is here; all but the loader are where it looks first."""
    done = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False).stdout
    found = {f"lib/{name}": place for name, place in re.findall(r"^\s+(\S+) => (/\S+) \(", done, re.MULTILINE)}
    return found | {loader: loader for loader in re.findall(r"^\s+(/\S+) \(", done, re.MULTILINE)}


def _link(tar: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    tar.addfile(entry)
