# SPDX-License-Identifier: Apache-2.0
"""A job cannot change what later jobs of its client run: their Python environments, and the cache of packages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import pytest

import airflow_provider_jobapi
from airflow_provider_jobapi.server import serve
from airflow_provider_jobapi.server.config import Settings
from airflow_provider_jobapi.server.run import environments
from tests.harness import environment_attack

SYSTEM_PYTHON = Path("/usr/bin/python3")
FIRST = 2_000_201
AS_ROOT = os.geteuid() == 0


@pytest.fixture
def home():
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    mask = os.umask(0o077)
    yield place
    os.umask(mask)
    shutil.rmtree(place)


def check(seen: dict[str, Any]) -> None:
    assert seen["attack"].startswith("SUCCESSFUL"), seen
    for name in ("same", "other"):
        assert "clean" in seen[name], seen
        assert "POISONED" not in seen[name], seen
    assert seen["stopped"] == "STOPPED"
    assert seen["left"] == []


MOUNTED = """
mount --bind "$PACKAGES" "$HOME/seen-packages"
mount --bind "$PROJECT" "$HOME/seen-project"
cd "$HOME/seen-project"
exec setpriv --reuid "$USER_ID" --regid "$USER_ID" --clear-groups "$@"
"""


def run_as(uid: int, home: Path, namespaces: bool) -> dict[str, Any]:
    """Run the attack as a user that is not root, with a Python that this user may run.

    The folders of the tests may be root's alone, as the one that tox makes is: this user sees them where it may.
    """
    os.chown(home, uid, uid)
    project, packages, programs = home / "seen-project", home / "seen-packages", home / "seen-programs"
    for folder in (project, packages, programs):
        folder.mkdir()
        folder.chmod(0o755)
    shutil.copy(environments.find_uv(), programs)
    (programs / "uv").chmod(0o755)
    attack = [SYSTEM_PYTHON, "-m", "tests.harness.environment_attack", str(home), str(int(namespaces))]
    ended = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", MOUNTED, "sh", *attack],
        check=False, capture_output=True,
        env={
            "PROJECT": str(Path(airflow_provider_jobapi.__file__).parents[1]),
            "PACKAGES": sysconfig.get_path("purelib"), "PYTHONPATH": f"{project}:{packages}", "USER_ID": str(uid),
            "HOME": str(home), "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1",
        },
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr.decode()
    seen: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return seen


@pytest.fixture
def may_be_another_user():
    version = subprocess.run([SYSTEM_PYTHON, "-V"], check=False, capture_output=True, text=True).stdout
    if AS_ROOT and not version.startswith(f"Python {sys.version_info[0]}.{sys.version_info[1]}."):
        pytest.skip(f"{SYSTEM_PYTHON} is not the Python of these tests, and no other user may run theirs")


@pytest.mark.parametrize("namespaces", [True, False])
def test_as_a_plain_user(home, monkeypatch, may_be_another_user, namespaces):
    """With namespaces the jobs share an environment, without them each makes its own."""
    if AS_ROOT:
        seen = run_as(FIRST + 50, home, namespaces)
    else:
        monkeypatch.setattr(environments, "can_protect", lambda *_: namespaces)
        seen = environment_attack.run(home)
    check(seen)
    assert ("Making the Python environment" in seen["same"]) == (not seen["can_protect"])


@pytest.mark.skipif(not AS_ROOT, reason="user ids can be changed by root only")
@pytest.mark.parametrize("namespaces", [True, False])
def test_as_root_with_users(home, monkeypatch, namespaces):
    if not namespaces:
        monkeypatch.setattr(environments, "can_protect", lambda *_: False)
    check(environment_attack.run(home, users=(FIRST, FIRST + 9), python=SYSTEM_PYTHON))


@pytest.mark.skipif(not AS_ROOT, reason="the server is not root")
def test_a_job_that_runs_as_root_does_not_change_it_by_accident(home):
    script = (
        "import pathlib, sysconfig\npathlib.Path(sysconfig.get_path('purelib'), 'zz.pth').write_text('import this')"
    )
    with environment_attack.Bench(home) as bench:
        if not bench.runner.environments.can_protect:
            pytest.skip("this machine has no mount namespaces")
        job = bench.wait(bench.submit(script), timeout=300)
        assert "Read-only file system" in bench.log(job)


@pytest.mark.parametrize("protects", [True, False])
def test_the_start_says_where_environments_cannot_be_protected(monkeypatch, tmp_path, protects):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    said = serve._user_of_jobs(Settings(root=tmp_path), can_protect=protects)
    assert ("makes a Python environment of its own" in said) == (not protects)
