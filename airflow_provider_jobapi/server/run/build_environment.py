# SPDX-License-Identifier: Apache-2.0
r"""Make one Python environment: the first step of a job, run as the job's user by the job's Python.

Standard library only, Python 3.8 and newer. ``python -I -S build_environment.py UV PYTHON REQUIREMENTS TARGET`` makes
the environment TARGET from the file REQUIREMENTS, unless it exists. It is made under another name and renamed, so that
it never exists in part; and under a lock, so that two jobs with the same requirements make it once.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

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


def build(uv: str, python: str, requirements: Path, target: Path) -> int:
    """Make the environment; returns the exit code."""
    text = requirements.read_text(encoding="utf-8")
    part = target.with_name(target.name + ".part")
    shutil.rmtree(str(part), ignore_errors=True)
    commands = [[uv, "venv", "--quiet", "--relocatable", "--python", python, str(part)]]
    if text.strip():
        write_line("Making the Python environment of requirements.txt.")
        commands.append([uv, "pip", "install", "--python", str(part / "bin" / "python"), "-r", str(requirements)])
    for command in commands:
        code = subprocess.call(command)
        if code:
            shutil.rmtree(str(part), ignore_errors=True)
            return code if code > 0 else 128 - code
    (part / "requirements.txt").write_text(text, encoding="utf-8")
    for name in ("pip", "pip3"):
        shim = part / "bin" / name
        if shim.is_symlink() or shim.exists():
            shim.unlink()
        shim.write_text(_PIP, encoding="utf-8")
        shim.chmod(0o755)
    part.rename(target)
    return 0


def main(uv: str, python: str, requirements: str, target: str) -> int:
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
            return 0 if place.is_dir() else build(uv, python, listing, place)
        finally:
            os.close(lock)
    except OSError as error:
        write_line("The Python environment cannot be made: " + str(error) + ".")
        return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
