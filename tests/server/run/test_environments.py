# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import fcntl
import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_jobapi.operators.training import SubmitTrainingOperator
from airflow_provider_jobapi.server.config import Settings, SettingsError
from airflow_provider_jobapi.server.run import build_environment, environment_collection, environments
from airflow_provider_jobapi.server.run.interpreters import Interpreter
from airflow_provider_jobapi.training.job import DEFAULT_IMAGE
from tests.harness.bench import Bench, bench
from tests.harness.packages import Index, write_sdist
from tests.harness.server import poll

__all__ = ["bench"]

INSTALL = "pip3 install -r requirements.txt && python3 train.py"


def venvs(bench: Bench) -> list[str]:
    folder = bench.settings.root / "clients" / "airflow" / "environments" / "venvs"
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.exists() else []


def test_two_jobs_with_the_same_requirements_make_one_environment(bench):
    files = {"requirements.txt": "six==1.17.0\n"}
    script = "import six, sys; print(six.__version__, sys.prefix)"
    jobs = [bench.submit(script, files=files, command=INSTALL) for _ in range(2)]
    ended = [bench.wait(job, timeout=120) for job in jobs]
    assert [job.state for job in ended] == ["SUCCESSFUL", "SUCCESSFUL"], [bench.log(job) for job in ended]
    logs = [bench.log(job) for job in ended]
    assert sum("Making the Python environment" in text for text in logs) == 1
    assert sum("+ six==1.17.0" in text for text in logs) == 1
    (key,) = venvs(bench)
    for text in logs:
        assert text.splitlines()[-1] == f"1.17.0 {bench.settings.root}/clients/airflow/environments/venvs/{key}"
        assert "jobapi: the packages of requirements.txt are installed." in text


def test_a_job_without_requirements_has_python_and_no_packages(bench):
    job = bench.wait(bench.submit("import importlib.util; print(importlib.util.find_spec('airflow'))"))
    assert bench.log(job) == "None\n"
    assert len(venvs(bench)) == 1


def test_requirements_that_cannot_be_installed_fail_the_job(bench):
    files = {"requirements.txt": "six==99.0\n"}
    job = bench.wait(bench.submit(files=files, command=INSTALL), timeout=120)
    assert (job.state, job.reason) == ("FAILED", "EnvironmentFailed")
    assert job.message == "The environment could not be made; the log says why."
    assert "six==99.0" in bench.log(job)
    assert "hello" not in bench.log(job)
    assert venvs(bench) == []


@pytest.mark.parametrize(
    "command", ["pip3 install numpy", "pip3 install -r other.txt", "env pip install -U pip", "pip3 list", "pip3"]
)
def test_pip_refuses_everything_but_the_jobs_own_requirements(bench, command):
    files = {"requirements.txt": "", "other.txt": "numpy\n"}
    job = bench.wait(bench.submit(command=command, files=files))
    assert (job.reason, job.exit_code) == ("NonZeroExit", 2)
    assert "the environment is shared; name what the job needs in requirements." in bench.log(job)


@pytest.mark.parametrize(("arguments", "code"), [("install -r requirements.txt", 0), ("install numpy", 2)])
def test_pip_as_a_module_is_the_same_as_the_program(bench, arguments, code):
    job = bench.submit(command=f"python3 -m pip {arguments}", files={"requirements.txt": "# none\n"})
    job = bench.wait(job, timeout=300)
    assert job.exit_code == code, bench.log(job)
    assert ("the packages of requirements.txt are installed" in bench.log(job)) == (code == 0)


@pytest.mark.parametrize("image", ["", DEFAULT_IMAGE])
def test_the_log_has_no_line_about_an_image_that_nobody_named(bench, image):
    assert inspect.signature(SubmitTrainingOperator.__init__).parameters["image"].default == DEFAULT_IMAGE
    job = bench.wait(bench.submit(image=image), timeout=300)
    assert bench.log(job) == "hello\n"


def test_programs_of_packages_are_on_the_path(bench):
    files = {"requirements.txt": "pygments==2.19.2\n"}
    job = bench.wait(bench.submit(command="pygmentize -V && python3 -c 'import pygments'", files=files), timeout=120)
    assert job.state == "SUCCESSFUL", bench.log(job)


def test_an_environment_that_a_crash_left_incomplete_is_made_again(tmp_path):
    uv, target = environments.find_uv(), tmp_path / "venv"
    (tmp_path / "requirements.txt").write_text("")
    (tmp_path / "venv.part" / "bin").mkdir(parents=True)
    (tmp_path / "venv.part" / "bin" / "python").write_text("half")
    command = [sys.executable, build_environment.__file__, uv, sys.executable, str(tmp_path / "requirements.txt")]
    subprocess.run([*command, str(target)], check=True, env={"UV_CACHE_DIR": str(tmp_path / "cache")}, timeout=60)
    subprocess.run([target / "bin" / "python3", "-c", "import json"], check=True, timeout=60)
    assert not (tmp_path / "venv.part").exists()


def test_a_collection_empties_the_cache_and_then_removes_the_longest_unused(tmp_path):
    with Bench(tmp_path, environment_bound=1) as bench:
        used = bench.submit("import time; print('up', flush=True); time.sleep(60)", files={"requirements.txt": "six\n"})
        bench.wait_for_line(used, "up", timeout=120)
        old = bench.wait(bench.submit("print(1)"))
        assert old.state == "SUCCESSFUL"
        assert len(venvs(bench)) == 2
        collected = bench.runner.environments.collect()
        assert collected.removed == 1
        assert collected.after < collected.before
        (kept,) = venvs(bench)
        assert f"/venvs/{kept}/bin" in (used.directory / "spec.json").read_text()
        home = bench.settings.root / "clients" / "airflow" / "environments"
        assert list((home / "uv-cache").rglob("*.py")) == []
        assert (home / "venvs" / kept / "bin" / "python3").exists()
        again = bench.wait(bench.submit("print(2)"))
        assert again.state == "SUCCESSFUL"
        bench.registry.request_stop(used.key, "the test")
        bench.wait(used)
        assert bench.runner.environments.collect().removed == 2
        assert venvs(bench) == []


def test_the_environment_used_last_is_kept(tmp_path):
    with Bench(tmp_path) as bench:
        first = bench.wait(bench.submit("print(1)", files={"requirements.txt": "# one\n"}))
        second = bench.wait(bench.submit("print(1)", files={"requirements.txt": "# two\n"}))
        assert (first.state, second.state) == ("SUCCESSFUL", "SUCCESSFUL")
        locks = sorted(
            (bench.settings.root / "clients" / "airflow" / "environments" / "locks").iterdir(),
            key=lambda lock: lock.stat().st_mtime,
        )
        home = locks[0].parent.parent
        shutil.rmtree(home / "uv-cache")
        whole = environment_collection._size([home])
        bound = Settings(root=bench.settings.root, environment_bound=whole - 1)
        assert environment_collection.collect(bound, environments.find_uv()).removed == 1
        assert venvs(bench) == [locks[1].name]


def test_an_invalid_python_is_refused_in_one_sentence(tmp_path):
    for python in ("/no/such/python", "/bin/false", "/bin/echo"):
        with pytest.raises(SettingsError, match=f"--python {python}"):
            Bench(tmp_path, python=Path(python))


def test_the_python_of_a_virtual_environment_is_resolved_to_its_base(tmp_path):
    subprocess.run([environments.find_uv(), "venv", "-q", "--python", sys.executable, tmp_path / "venv"], check=True)
    found = Interpreter.find(tmp_path / "venv" / "bin" / "python")
    assert not found.path.startswith(str(tmp_path))
    assert found.version == ".".join(map(str, sys.version_info[:3]))


def test_uv_gets_only_the_index_and_proxy_variables_of_the_server(tmp_path):
    environ = {
        "UV_INDEX_URL": "https://index",
        "UV_DEFAULT_INDEX": "https://index",
        "UV_PUBLISH_TOKEN": "secret",
        "UV_CACHE_DIR": "/elsewhere",
        "https_proxy": "http://proxy",
        "JOBAPI_ROOT": "/root",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "SSL_CERT_FILE": "/certs",
    }
    seen = environments._installer_variables(environ)
    seen |= environments._installer_environment(tmp_path, tmp_path / "tmp")
    assert {name: seen[name] for name in environ if name in seen} == {
        "UV_INDEX_URL": "https://index",
        "UV_DEFAULT_INDEX": "https://index",
        "UV_CACHE_DIR": str(tmp_path / "uv-cache"),
        "https_proxy": "http://proxy",
        "SSL_CERT_FILE": "/certs",
    }
    assert "secret" not in seen.values()


def test_the_index_of_a_uv_toml_among_the_inputs_is_not_used(bench):
    files = {"requirements.txt": "six\n", "uv.toml": '[[index]]\nurl = "http://127.0.0.1:1/simple"\ndefault = true\n'}
    job = bench.wait(bench.submit(files=files), timeout=120)
    assert job.state == "SUCCESSFUL", bench.log(job)


def test_the_log_says_that_another_job_makes_the_same_environment(tmp_path):
    (tmp_path / "requirements.txt").write_text("# none\n")
    uv, target = environments.find_uv(), tmp_path / "venv"
    with (tmp_path / "venv.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        process = subprocess.Popen(
            [sys.executable, build_environment.__file__, uv, sys.executable, tmp_path / "requirements.txt", target],
            stdout=subprocess.PIPE,
            env={"UV_CACHE_DIR": str(tmp_path / "cache"), "PATH": os.environ["PATH"]},
        )
        assert process.stdout is not None
        assert b"Another job makes the same Python environment" in process.stdout.readline()
        assert not target.exists()
    assert process.wait(60) == 0
    process.stdout.close()
    poll(target.exists, 1, "the environment")


def test_what_a_job_puts_beside_the_environments_does_not_stop_the_collection(bench):
    assert bench.wait(bench.submit("print(1)"), timeout=300).state == "SUCCESSFUL"
    assert (
        bench.wait(bench.submit("print(1)", files={"requirements.txt": "# two\n"}), timeout=300).state == "SUCCESSFUL"
    )
    home = bench.settings.root / "clients" / "airflow" / "environments"
    first, second = venvs(bench)
    (home / "venvs" / f"{first}.leaving").write_text("in the way")
    (home / "venvs" / f"{second}.leaving").mkdir()
    (home / "venvs" / f"{second}.leaving" / "x").write_text("in the way")
    (home / "leaving-mine").write_text("in the way")
    (home / "locks" / "a-directory").mkdir()
    (home / "locks" / "a-link").symlink_to("/etc/passwd")
    other = bench.settings.root / "clients" / "another" / "environments"
    other.mkdir(parents=True)  # and nothing in it
    shutil.rmtree(home / "venvs" / first)
    (home / "venvs" / first).symlink_to(home / "locks")
    bound = Settings(root=bench.settings.root, environment_bound=0)
    assert environment_collection.collect(bound, environments.find_uv()).removed == 2
    assert not [key for key in (first, second) if (home / "venvs" / key).exists()]
    assert (home / "locks" / first).exists()
    assert not [path for path in home.iterdir() if path.name.startswith("leaving-") and path.is_dir()]


HOG = """
import time
print("building", flush=True)
hold = [bytearray(b"x" * 2**20) for _ in range({megabytes})]
time.sleep(600)
"""


@pytest.mark.parametrize("end", ["OutOfMemory", "CompletionTimeExceeded", "Stopped"])
def test_the_limits_of_a_job_hold_while_its_environment_is_made(tmp_path, end):
    """A package whose build takes memory and time: a source distribution runs a program of its own."""
    write_sdist(tmp_path, "evil", HOG.format(megabytes=600 if end == "OutOfMemory" else 1))
    with Index(tmp_path) as index, Bench(tmp_path / "bench", allow_requirement_urls=True) as bench:
        requirements = f"evil @ {index.address}/files/evil-1.0.tar.gz\n"
        limits = {"resources": {"memory": 400}, "completionTime": "8s" if end == "CompletionTimeExceeded" else "1h"}
        job = bench.submit(files={"requirements.txt": requirements}, **limits)
        if end == "Stopped":
            poll(lambda: "/files/evil-1.0.tar.gz" in index.asked, 300, "the package to be asked for")
            bench.registry.request_stop(job.key, "alice")
        job = bench.wait(job, timeout=300)
        assert job.reason == end, bench.log(job)
        assert "hello" not in bench.log(job)
        assert all(name.endswith(".part") for name in venvs(bench))
        bound = Settings(root=bench.settings.root, environment_bound=0)
        environment_collection.collect(bound, environments.find_uv())
        assert venvs(bench) == []
