# SPDX-License-Identifier: Apache-2.0
"""The package indexes of a server, those that it allows jobs to name, and what is installed from them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.server.run.environment_record import _shown, record
from tests.harness.bench import Bench, files_with
from tests.harness.packages import Index, write_wheel

SECRET = "tr0ub4dor-of-the-index"
INSTALL = "pip3 install -r requirements.txt && python3 train.py"
SHOW = "from importlib.metadata import distributions as d\nprint(sorted(f'{x.name}=={x.version}' for x in d()))\n"


@pytest.fixture(autouse=True)
def no_variables_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The packages of the server's own index."""
    (tmp_path / "own").mkdir()
    write_wheel(tmp_path / "own", "net", version="1.0")
    write_wheel(tmp_path / "own", "net", version="2.0")
    write_wheel(tmp_path / "own", "top", requires=["net"])
    return tmp_path / "own"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The packages of an index as PyTorch's: builds of its own, and old versions of others."""
    (tmp_path / "other").mkdir()
    write_wheel(tmp_path / "other", "top", version="1.0+cpu", requires=["net"])
    write_wheel(tmp_path / "other", "net", version="0.5")
    return tmp_path / "other"


def installed(bench: Bench, requirements: str, command: str = INSTALL) -> str:
    job = bench.wait(bench.submit(SHOW, files={"requirements.txt": requirements}, command=command), timeout=300)
    assert job.state == "SUCCESSFUL", bench.log(job)
    return bench.log(job).splitlines()[-1]


def test_the_servers_own_index_is_a_setting(tmp_path, monkeypatch, folder):
    monkeypatch.setenv("UV_INDEX_URL", "http://127.0.0.1:9/none")
    with Index(folder) as index, Bench(tmp_path / "bench", index=index.url) as bench:
        assert installed(bench, "top\n") == "['net==2.0', 'top==1.0']"
        assert installed(bench, f"--index-url {index.url}\nnet<2\n") == "['net==1.0']"


LOGINS = ["user:password", "a user, and the password in the keyring", "a user, and a program", "variables of uv"]


@pytest.mark.parametrize("login", LOGINS)
def test_the_password_of_an_index_is_in_no_file_that_a_job_can_read(tmp_path, monkeypatch, folder, login):
    with Index(folder, credentials=f"user:{SECRET}") as index:
        address = index.url
        if login.startswith("a user"):
            address = address.replace(f":{SECRET}@", "@")
            bare = index.address.partition("//")[2]
            keyring = (
                f"def get_password(place, user): return {SECRET!r} if (place, user) == ({bare!r}, 'user') else None"
            )
            (tmp_path / "keyring.py").write_text(keyring)
            monkeypatch.syspath_prepend(tmp_path)
            monkeypatch.delitem(sys.modules, "keyring", raising=False)
        if login.endswith("program"):
            (tmp_path / "keyring.py").write_text("raise ImportError\n")
            program = tmp_path / "keyring"
            program.write_text(f'#!/bin/sh\n[ "$1 $2 $3" = "get {bare} user" ] && echo {SECRET}\n')
            program.chmod(0o755)
            monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        if login.startswith("variables"):
            address = f"our-own={index.address}/simple/"
            monkeypatch.setenv("UV_INDEX_OUR_OWN_USERNAME", "user")
            monkeypatch.setenv("UV_INDEX_OUR_OWN_PASSWORD", SECRET)
        with Bench(tmp_path / "bench", index=address) as bench:
            assert installed(bench, "top\n") == "['net==2.0', 'top==1.0']"
            assert files_with(bench.settings.root, SECRET.encode()) == []


@pytest.mark.parametrize(("credentials", "by"), [("", "address"), (f"user:{SECRET}", "name")])
def test_an_allowed_index_is_asked_beside_the_own_one_and_the_best_version_taken(
    tmp_path, folder, other, credentials, by
):
    """As with pip: a local version such as 1.0+cpu is better than 1.0, and another index may have a newer one."""
    with Index(folder) as own, Index(other, credentials) as index:
        allowed = (("pytorch", index.url),)
        with Bench(tmp_path / "bench", index=own.url, allow_index=allowed) as bench:
            named = "pytorch" if by == "name" else f"{index.address}/simple"
            assert installed(bench, f"--extra-index-url {named}\ntop\n") == "['net==2.0', 'top==1.0+cpu']"
            assert installed(bench, "top\n") == "['net==2.0', 'top==1.0']"
            assert installed(bench, f"--index-url {named}\ntop\n") == "['net==0.5', 'top==1.0+cpu']"
            assert files_with(bench.settings.root, SECRET.encode()) == []


def test_a_folder_of_the_server_and_a_page_with_links(tmp_path, folder, other):
    allowed = (("wheels", str(other)),)
    with Index(folder) as own, Index(other) as page:
        allowed += (("page", f"{page.address}/simple/top/"),)
        with Bench(tmp_path / "bench", index=own.url, allow_index=allowed) as bench:
            assert installed(bench, "-f wheels\ntop\nnet<1\n") == "['net==0.5', 'top==1.0+cpu']"
            assert installed(bench, "--find-links page\ntop\n") == "['net==2.0', 'top==1.0+cpu']"


def test_an_index_that_is_not_allowed_names_the_setting(tmp_path):
    bench = Bench(tmp_path, allow_index=(("pytorch", "https://download.pytorch.org/whl/cpu"),))
    with pytest.raises(
        InvalidJob, match="this server allows pytorch: its operator can allow another one with --allow-index"
    ):
        bench.submit(files={"requirements.txt": "--extra-index-url https://evil.example/simple\nsix\n"})
    bench.database.close()


def test_constraints_bound_what_others_bring(tmp_path, folder):
    with Index(folder) as index, Bench(tmp_path / "bench", index=index.url) as bench:
        assert installed(bench, "# jobapi: constraint net<2\n# jobapi: constraint never==1\ntop\n") == (
            "['net==1.0', 'top==1.0']"
        )


def test_the_constraints_of_the_server_hold_as_well(tmp_path, monkeypatch, folder):
    (tmp_path / "bounds.txt").write_text("net<2\n")
    monkeypatch.setenv("UV_CONSTRAINT", str(tmp_path / "bounds.txt"))
    with Index(folder) as index, Bench(tmp_path / "bench", index=index.url) as bench:
        assert installed(bench, "# jobapi: constraint never==1\ntop\n") == "['net==1.0', 'top==1.0']"


def test_an_exact_list_is_installed_as_it_is(tmp_path, folder):
    write_wheel(folder, "picky", requires=["net<2"])
    with Index(folder) as index, Bench(tmp_path / "bench", index=index.url) as bench:
        # As a lock with an override: a resolver would refuse it.
        assert installed(bench, "# jobapi: exact\nnet==2.0\npicky==1.0\n") == "['net==2.0', 'picky==1.0']"
        assert installed(bench, "# jobapi: exact\ntop==1.0\n") == "['top==1.0']"


def test_a_file_with_another_hash_is_not_installed(tmp_path, folder):
    with Index(folder) as index, Bench(tmp_path / "bench", index=index.url) as bench:
        text = f"net==2.0 \\\n    --hash=sha256:{'0' * 64}\n"
        job = bench.wait(bench.submit(files={"requirements.txt": text}, command=INSTALL), timeout=300)
        assert (job.state, job.reason) == ("FAILED", "EnvironmentFailed")
        assert "Hash mismatch" in bench.log(job)


def test_the_environment_of_a_job_is_listed_and_makes_the_same_again(tmp_path, folder, other):
    with Index(folder) as own, Index(other) as index:
        allowed = (("small", index.url), ("unused", "https://unused.example/simple"))
        with Bench(tmp_path / "bench", index=own.url, allow_index=allowed) as bench:
            text = "--extra-index-url small  # of the CPU\ntop\n"
            job = bench.submit(SHOW, files={"requirements.txt": text}, command=INSTALL)
            assert (job.environment, job.status().environment) == (None, None)
            job = bench.wait(job, timeout=300)
            assert job.status().to_wire()["environment"] == f"jobs/{job.key.job_id}/environment"
            version = ".".join(map(str, sys.version_info[:2]))
            first, *lines = (job.environment or "").splitlines()
            assert first.startswith(f"# The packages of job {job.key.job_id}, Python {version}.")
            assert lines == [
                *(f"# jobapi: requires-python =={version}.*", "# jobapi: exact", "--extra-index-url small"),
                *("net==2.0", "top==1.0+cpu"),
            ]
            write_wheel(folder, "net", version="3.0")
            assert installed(bench, job.environment or "") == "['net==2.0', 'top==1.0+cpu']"
            assert installed(bench, text + "# once more\n") == "['net==3.0', 'top==1.0+cpu']"
            shared = bench.wait(bench.submit(SHOW, files={"requirements.txt": text}, command=INSTALL), timeout=300)
            assert (shared.environment or "").splitlines()[1:] == lines


def test_a_wheel_of_the_job_is_listed_as_its_requirements_name_it():
    place = f"file:///root/clients/a/jobs/{'0' * 8}-0000-0000-0000-{'0' * 12}/work/dist/my%20nets-1.0-py3-none-any.whl"
    assert _shown(f"nets @ {place}#sha256=00") == "./dist/my nets-1.0-py3-none-any.whl"
    assert _shown("nets @ file:///elsewhere/nets.whl") == "nets @ file:///elsewhere/nets.whl"


def test_what_a_job_puts_in_the_place_of_the_list_is_not_followed(tmp_path):
    """A package's build runs as the job's user, who makes the environment."""
    home, venv = tmp_path / "job", tmp_path / "venv"
    home.mkdir()
    venv.mkdir()
    (tmp_path / "secret").write_text("secret")
    about = {"target": str(venv), "heading": "# heading\n"}
    (home / "spec.json").write_text(json.dumps({"environment": about}))
    place = venv / "installed.txt"
    for hostile in (lambda: place.symlink_to(tmp_path / "secret"), lambda: os.mkfifo(place), place.mkdir):
        hostile()
        with pytest.raises((OSError, ValueError)):
            record(home)
        place.rmdir() if place.is_dir() else place.unlink()
    place.write_bytes(b"a @ https://user:s3cr3t@host/a.whl\n\xff==1\n")
    record(home)
    assert (home / "environment.txt").read_text() == "# heading\na @ https://***@host/a.whl\n\ufffd==1\n"
    place.write_text("later==1\n")
    record(home)
    assert "later" not in (home / "environment.txt").read_text()


def test_requires_python_chooses_the_python_and_refuses_what_is_not_there(tmp_path):
    with Bench(tmp_path) as bench:
        here = f"{sys.version_info.major}.{sys.version_info.minor}"
        job = bench.submit(files={"requirements.txt": f"# jobapi: requires-python =={here}.*\n"}, command=INSTALL)
        assert bench.wait(job, timeout=300).state == "SUCCESSFUL", bench.log(job)
        with pytest.raises(InvalidJob, match=rf"need Python >=3\.99 .* this server has {here}\.\d+: widen"):
            bench.submit(files={"requirements.txt": "# jobapi: requires-python >=3.99\nsix\n"})
