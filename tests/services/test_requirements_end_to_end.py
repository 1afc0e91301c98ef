# SPDX-License-Identifier: Apache-2.0
"""Locks and indexes from a worker to a real server with an index of its own: what is installed, and what is refused."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.server.run.environments import find_uv
from airflow_provider_jobapi.services.jobapi.service import JobApiService
from airflow_provider_jobapi.training.requirement_files import requirements_text
from tests.harness.client import job, service
from tests.harness.packages import Index, write_wheel
from tests.harness.server import Server, running

SHOW = "from importlib.metadata import distributions as d\nprint(sorted(f'{x.name}=={x.version}' for x in d()))\n"
PROJECT = """
[project]
name = "ours"
version = "1"
requires-python = ">=3.9"
dependencies = ["top", "old ; python_version < '3'"]
[tool.uv]
override-dependencies = ["net==1.0"]
[[tool.uv.index]]
url = "{url}"
default = true
"""


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    folder = tmp_path_factory.mktemp("packages")
    for version in ("1.0", "2.0"):
        write_wheel(folder, "net", version=version)
    write_wheel(folder, "top", requires=["net>=2"])
    write_wheel(folder, "old")
    with Index(folder) as started:
        yield started


@pytest.fixture(scope="module")
def server(index: Index, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("indexes") / "root"
    with running(root, "--index", index.url, "--allow-index", f"extra={index.url}", "--grace", "2s") as started:
        yield started


def installed(asking: JobApiService, server: Server, requirements: str) -> tuple[str, str]:
    job_id = str(uuid.uuid4())
    handle = asking.submit(job(SHOW, requirements=requirements), job_id).handle
    status = server.wait_for(job_id, timeout=120)
    assert status["status"] == "SUCCESSFUL", server.job_log(job_id)
    listed = asking.environment(handle)
    assert listed is not None
    return asking.last_lines(handle, 1)[0], listed


def test_a_lock_is_installed_exactly_and_its_environment_again(server: Server, index: Index, tmp_path: Path) -> None:
    """The lock has an override, with which a resolver would not agree, and hashes of the files."""
    (tmp_path / "pyproject.toml").write_text(PROJECT.format(url=index.url))
    for command in (["lock"], ["export", "--frozen", "--no-emit-project", "-o", "pylock.toml"]):
        subprocess.run([find_uv(), *command, "-q"], cwd=tmp_path, check=True, timeout=120)
    asking, wanted = service(server), "['net==1.0', 'top==1.0']"
    text = requirements_text(Path("uv.lock"), tmp_path)
    assert "# jobapi: requires-python >=3.9\n# jobapi: exact\n" in text
    assert text.count("--hash=sha256:") == 2
    found, listed = installed(asking, server, text)
    assert found == wanted
    assert installed(asking, server, requirements_text(Path("pylock.toml"), tmp_path))[0] == wanted
    assert installed(asking, server, listed)[0] == wanted


def test_what_the_server_does_not_have_is_refused_at_the_submit(server: Server) -> None:
    asking = service(server)
    refused = {
        "-i https://elsewhere.example/simple\ntop": "this server allows extra: its operator can allow another one",
        "# jobapi: requires-python >=3.99\ntop": "or name such a Python in the server's --python",
    }
    for requirements, said in refused.items():
        with pytest.raises(InvalidJob) as caught:
            asking.submit(job(SHOW, requirements=requirements), str(uuid.uuid4()))
        assert said in str(caught.value)
        assert "The files that were uploaded for it are removed." in str(caught.value)
