# SPDX-License-Identifier: Apache-2.0
"""Where the tests find the programs of Kubernetes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.harness.kubernetes import programs
from tests.harness.server import poll

PROGRAM = "kube-nothing"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JOBAPI_TEST_KUBERNETES", str(tmp_path))
    return tmp_path


def test_what_is_missing_is_named_with_what_builds_it(folder: Path) -> None:
    told = programs.missing(PROGRAM)
    assert told.startswith(f"{PROGRAM} of Kubernetes {programs.VERSION}: not found in {folder}; ")
    assert (Path(__file__).parents[3] / programs.BUILD).stat().st_mode & 0o100


def test_a_build_that_is_under_way_is_waited_for(folder: Path) -> None:
    build = f'exec 9>.lock; flock 9; touch begun; sleep 1; install -m 755 /bin/true "{PROGRAM}"'
    building = subprocess.Popen(["bash", "-c", build], cwd=folder)
    try:
        poll((folder / "begun").exists, 30, "the build to begin")
        assert programs.missing(PROGRAM) == ""
    finally:
        building.wait(30)


def test_what_another_build_made_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides name the folder after the content of build.sh, so a changed one builds anew."""
    monkeypatch.delenv("JOBAPI_TEST_KUBERNETES", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    here = programs.folder()
    here.mkdir(parents=True)
    for name in ("etcd", PROGRAM):
        (here / name).touch(0o755)
    source = Path(__file__).parents[3] / programs.BUILD
    subprocess.run([source, PROGRAM], check=True, timeout=30)
    assert [path.name for path in here.parent.iterdir()] == [here.name]
    changed = tmp_path / "build.sh"
    changed.write_text(source.read_text().replace("set -euo pipefail", "set -euo pipefail  # changed"))
    changed.chmod(0o755)
    # Without apt-get it stops before it fetches anything, but it knows by then that nothing is there.
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "env", "sha256sum", "cut", "mkdir", "flock"):
        (tools / name).symlink_to(str(shutil.which(name)))
    bare = {"PATH": str(tools), "XDG_CACHE_HOME": str(tmp_path)}
    stopped = subprocess.run([changed, PROGRAM], check=False, env=bare, capture_output=True, text=True, timeout=30)
    assert (stopped.returncode, stopped.stderr) == (1, "build.sh needs apt-get, so Debian or a relative of it\n")
    assert len(list(here.parent.iterdir())) == 2


def test_what_is_built_is_not_built_again(folder: Path) -> None:
    for name in ("etcd", PROGRAM):
        (folder / name).touch(0o755)
    subprocess.run([programs.BUILD, PROGRAM], cwd=Path(__file__).parents[3], check=True, timeout=30)
    assert (folder / PROGRAM).stat().st_size == 0
