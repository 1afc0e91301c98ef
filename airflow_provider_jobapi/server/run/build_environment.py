# SPDX-License-Identifier: Apache-2.0
r"""Make one Python environment: the first step of a job, run as the job's user.

Standard library only, Python 3.8 and newer.
``python -I -S build_environment.py UV PYTHON REQUIREMENTS TARGET VERSION [OPTION …]``
makes the environment TARGET of the interpreter PYTHON from the file REQUIREMENTS, unless it exists. It is made under
another name and renamed, so that it never exists in part; and under a lock, so that two jobs with the same requirements
make it once. uv makes it, except for Python 2.7, for which virtualenv 20.21 and its pip do. The options are those with
which uv and pip install; without any they install the file REQUIREMENTS.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Mapping, Sequence  # noqa: UP035 -- Python 3.8 has the others only as annotations

INSTALLED = "installed.txt"
"""The list of its packages in an environment, as ``pip freeze`` writes it."""

_PIP = """\
#!/bin/sh
# The environment is shared with every job of the same requirements, so no job changes it.
here=$(dirname -- "$(dirname -- "$0")")
if [ "$#" = 3 ] && [ "$1" = install ] && [ "$2" = -r ] && [ -f "$3" ] &&
    [ "$(cat -- "$3")" = "$(cat -- "$here/requirements.txt")" ]; then
  echo "jobapi: the packages of $3 are installed."
  exit 0
fi
echo "jobapi: pip can only do 'pip3 install -r requirements.txt' here, with the job's own requirements:" \\
  "the environment is shared; name what the job needs in requirements." >&2
exit 2
"""


def write_line(text: str) -> None:
    """Write a line to the job's log, marked as not being the job's own."""
    print("jobapi: " + text, flush=True)  # noqa: T201 -- its output is the job's log


def take_lock(lock: Path, waiting: str) -> int:
    """Lock a file exclusively; returns its handle.

    :param waiting: A line for the log when another process holds the lock; may be empty.
    """
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if waiting:
            write_line(waiting)
        fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


_RUN_PIP = """\
# Run the program pip of this environment, as `python -m pip`.
import os, sys
os.execv(os.path.join(sys.prefix, "bin", "pip"), ["pip"] + sys.argv[1:])
"""

_PIP_OF = (
    ("UV_DEFAULT_INDEX", "PIP_INDEX_URL"),
    ("UV_INDEX_URL", "PIP_INDEX_URL"),
    ("UV_INDEX", "PIP_EXTRA_INDEX_URL"),
    ("UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL"),
    ("UV_FIND_LINKS", "PIP_FIND_LINKS"),
    ("UV_CONSTRAINT", "PIP_CONSTRAINT"),
    ("UV_NO_INDEX", "PIP_NO_INDEX"),
    ("SSL_CERT_FILE", "PIP_CERT"),
)
"""The variables of uv that pip knows under another name."""


def pip_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with which pip installs from where uv does."""
    variables = {**environ, "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    variables["PIP_CACHE_DIR"] = str(Path(environ.get("UV_CACHE_DIR", ""), "pip-of-python-2"))
    if environ.get("UV_PRERELEASE") == "allow":
        variables["PIP_PRE"] = "1"
    hosts: set[str] = set()
    for of_uv, of_pip in _PIP_OF:
        value = re.sub(r"(?<!\S)[\w.-]+=(?=\w+://)", "", environ.get(of_uv, ""))
        if of_uv == "UV_FIND_LINKS":
            value = value.replace(",", " ")
        if value:
            variables[of_pip] = " ".join([*variables.get(of_pip, "").split(), value])
        hosts |= set(re.findall(r"http://(?:[^\s/@]*@)?([^\s/]+)", value))
    if hosts:
        variables["PIP_TRUSTED_HOST"] = " ".join(sorted(hosts))
    return variables


def make_with_uv(uv: str, python: str, part: Path, requirements: Path, options: Sequence[str]) -> int:
    """Make an environment of Python 3 with uv; returns the exit code."""
    code = subprocess.call([uv, "venv", "--quiet", "--relocatable", "--python", python, str(part)])
    if code or not requirements.read_text(encoding="utf-8").strip():
        return code
    write_line("Making the Python environment of requirements.txt.")
    return subprocess.call([uv, "pip", "install", "--python", str(part / "bin" / "python"), *options])


def make_with_virtualenv(uv: str, python: str, part: Path, requirements: Path, options: Sequence[str]) -> int:
    """Make an environment of Python 2.7, which uv cannot do; returns the exit code."""
    command = [uv, "tool", "run", "--quiet", "--python", sys.executable, "--from", "virtualenv<20.22", "virtualenv"]
    code = subprocess.call([*command, "--quiet", "--no-periodic-update", "-p", python, str(part)])
    if code:
        write_line("An environment of Python 2.7 needs the package 'virtualenv<20.22', which could not be used.")
        return code
    if not requirements.read_text(encoding="utf-8").strip():
        return 0
    write_line("Making the Python environment of requirements.txt.")
    install = [str(part / "bin" / "python"), "-m", "pip", "install", "--no-warn-script-location"]
    return subprocess.call([*install, *options], env=pip_environment(os.environ))


def build(uv: str, python: str, requirements: Path, target: Path, version: str, options: Sequence[str]) -> int:
    """Make the environment; returns the exit code."""
    part = target.with_name(target.name + ".part")
    shutil.rmtree(str(part), ignore_errors=True)
    make = make_with_virtualenv if version.startswith("2.") else make_with_uv
    code = make(uv, python, part, requirements, options)
    if code:
        shutil.rmtree(str(part), ignore_errors=True)
        return code if code > 0 else 128 - code
    (part / "requirements.txt").write_bytes(requirements.read_bytes())
    list_packages(uv, part, version)
    replace_pip(part)
    if version.startswith("2."):
        move_programs(part, target)
    if version.startswith("3.6."):  # whose modules uv does not compile
        subprocess.call([str(part / "bin" / "python"), "-m", "compileall", "-q", "-j0", str(part / "lib")])
    part.rename(target)
    return 0


def list_packages(uv: str, part: Path, version: str) -> None:
    """Write the list of the installed packages into an environment, for the record of each job that uses it."""
    python = str(part / "bin" / "python")
    freeze = [python, "-m", "pip", "freeze"] if version.startswith("2.") else [uv, "pip", "freeze", "--python", python]
    with (part / INSTALLED).open("wb") as file:
        if subprocess.call(freeze, stdout=file, stderr=subprocess.DEVNULL, env=pip_environment(os.environ)):
            write_line("The packages of the environment could not be listed.")


def replace_pip(part: Path) -> None:
    """Put a pip in an environment that changes nothing, as a program and as a module."""
    programs = {"pip", "pip3"} | {path.name for path in (part / "bin").glob("pip[0-9-]*")}
    for place in (part / "bin" / name for name in programs):
        write_anew(place, _PIP)
        place.chmod(0o755)
    for packages in (part / "lib").glob("python*/site-packages"):
        (packages / "pip").mkdir(exist_ok=True)
        (packages / "pip" / "__init__.py").touch()
        write_anew(packages / "pip" / "__main__.py", _RUN_PIP)


def write_anew(place: Path, text: str) -> None:
    """Write a file that may be a link to one of the cache."""
    if place.is_symlink() or place.exists():
        place.unlink()
    place.write_text(text, encoding="utf-8")


def move_programs(part: Path, target: Path) -> None:
    """Name the target in the programs of an environment, whose first lines name their Python."""
    old, new = os.fsencode(str(part)), os.fsencode(str(target))
    for program in (part / "bin").iterdir():
        content = b"" if program.is_symlink() else program.read_bytes()
        if old in content and not content.startswith(b"\x7fELF"):
            program.write_bytes(content.replace(old, new))


def main(uv: str, python: str, requirements: str, target: str, version: str = "3", *options: str) -> int:
    """Make the environment unless it exists; returns the exit code."""
    listing, place = Path(requirements), Path(target)
    if place.is_dir():
        return 0
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        has_requirements = listing.stat().st_size > 0
        waiting = "Another job makes the same Python environment; waiting for it." if has_requirements else ""
        lock = take_lock(place.with_name(place.name + ".lock"), waiting)
        try:
            return 0 if place.is_dir() else build(uv, python, listing, place, version, options or ("-r", requirements))
        finally:
            os.close(lock)
    except OSError as error:
        write_line("The Python environment cannot be made: " + str(error) + ".")
        return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
