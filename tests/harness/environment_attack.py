# SPDX-License-Identifier: Apache-2.0
"""A job that attacks the environment that it shares with later jobs, and the later jobs.

``python -m tests.harness.environment_attack HOME 1`` runs it as the user that calls it, and prints what the jobs saw;
with 0 as on a machine without namespaces.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

from airflow_provider_jobapi.server.run import environments
from tests.harness.bench import Bench, processes_of
from tests.harness.packages import Index, write_wheel

ATTACK = """
import contextlib, ctypes, os, pathlib, site, stat, subprocess, sys, sysconfig
done = []
def attempt(name, work):
    try:
        work()
    except Exception as error:
        print("refused", name, type(error).__name__)
    else:
        done.append(name)
prefix = pathlib.Path(sys.prefix)
packages = pathlib.Path(sysconfig.get_path("purelib"))
def opened(path):
    for each in (path.parent, path):
        with contextlib.suppress(OSError):
            os.chmod(each, stat.S_IMODE(os.stat(each).st_mode) | 0o200)
    return path
def append(path, text):
    with open(opened(path), "a") as file:
        file.write(text)
libc = ctypes.CDLL(None)
libc.mount(None, str(prefix).encode(), None, 32 | 4096, None)
subprocess.run(["umount", "-l", str(prefix.parents[1])], stderr=subprocess.DEVNULL)
attempt("pth", lambda: append(packages / "zz.pth", "import sys; sys.stderr.write('POISONED pth\\\\n')\\n"))
attempt("customize", lambda: append(packages / "sitecustomize.py", "print('POISONED customize')\\n"))
attempt("module", lambda: append(packages / "tiny.py", "print('POISONED module')\\n"))
attempt("program", lambda: append(prefix / "bin" / "pip3", "echo POISONED program\\n"))
attempt("rename", lambda: os.rename(opened(prefix), str(prefix) + ".moved"))
home = prefix.parents[1]
for found in home.glob("uv-cache/**/tiny.py"):
    attempt("cache", lambda found=found: append(found, "print('POISONED cache')\\n"))
attempt("new", lambda: (opened(home) / "venvs" / "0" * 32).mkdir())
print("done", done)
"""

LOOK = "import tiny; print('clean')"


def run(home: Path, **settings: Any) -> dict[str, Any]:
    """Run the attack, a later job of the same environment, and one whose environment has the same package."""
    seen: dict[str, Any] = {}
    packages = home / "packages"
    packages.mkdir()
    write_wheel(packages, "tiny")
    with Index(packages) as index, patch.dict(os.environ, {"UV_DEFAULT_INDEX": index.url}):
        os.environ.pop("UV_INDEX_URL", None)
        with Bench(home, **settings) as bench:
            for name, script, text in (
                ("attack", ATTACK, "tiny\n"),
                ("same", LOOK, "tiny\n"),
                ("other", LOOK, "tiny # of another environment\n"),
            ):
                files = {"requirements.txt": text}
                command = "pip3 install -r requirements.txt && python3 train.py"
                job = bench.wait(bench.submit(script, files=files, command=command), timeout=300)
                seen[name] = f"{job.state}\n{bench.log(job)}"
            job = bench.submit("import os, time; os.fork(); os.write(1, b'up\\n'); time.sleep(600)")
            bench.wait_for_line(job, "up\nup", timeout=300)
            bench.registry.request_stop(job.key, "alice")
            seen["stopped"] = bench.wait(job, timeout=300).state
            seen["left"] = processes_of(job.directory)
            seen["can_protect"] = bench.runner.environments.can_protect
    return seen


if __name__ == "__main__":
    if sys.argv[2] == "0":
        environments.can_protect = lambda *_: False  # type: ignore[assignment]
    print(json.dumps(run(Path(sys.argv[1]))))
