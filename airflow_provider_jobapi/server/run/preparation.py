# SPDX-License-Identifier: Apache-2.0
"""A job's directory before it runs: the work folder with copies of its inputs, and ``spec.json`` for its supervisor.

::

    <root>/clients/<client>/jobs/<job id>/     the server's own; the job's user may walk through
        inputs/                                the files as they were when the job was submitted
        work/                                  the job's working directory, its own
        tmp/                                   its TMPDIR
        spec.json started log stop exit.json   see ``supervisor/__init__.py``
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_provider_jobapi.server.config import Settings
from airflow_provider_jobapi.server.run.environments import Environment, Environments, trusted_certificates
from airflow_provider_jobapi.server.store.job_record import Job
from airflow_provider_jobapi.server.store.layout import remove_tree
from airflow_provider_jobapi.training.job import REQUIREMENTS_NAME
from airflow_provider_jobapi.training.model import PREFERRED
from airflow_provider_jobapi.training.units import read_span

MEGABYTE = 2**20

_GRANTED = ("CUDA_VISIBLE_DEVICES", "JOB_ID")
"""What a job's own variables cannot change."""


def is_prepared(job: Job) -> bool:
    """Whether a supervisor can be started for this job."""
    return (job.directory / "spec.json").exists()


def prepare(job: Job, settings: Settings, environments: Environments, uid: int | None) -> None:
    """Make everything that a supervisor needs. A half-made preparation is made anew; ``spec.json`` comes last.

    :param uid: The user id of the job's steps, where it is another one.
    :raises OSError: when it cannot be made, above all when the disk is full.
    """
    work, tmp = job.directory / "work", job.directory / "tmp"
    for folder in (work, tmp):
        remove_tree(folder)
        folder.mkdir(mode=0o700)
    _copy_inputs(job.directory / "inputs", work, uid)
    if not (work / PREFERRED).exists():
        _own_directory(work / PREFERRED, uid, 0o755)
    # Theirs only now: another job of the same user could have put a link where a file was about to be written.
    for folder in (work, tmp):
        _give(folder, uid)
    environment = environments.of(job.key.client_id, uid, job.directory, _requirements(job.directory / "inputs"))
    spec = _spec(job, settings, environment, uid)
    spec["notices"] = _notices(job, environments.interpreter.version)
    _write(job.directory / "spec.json", json.dumps(spec).encode())


def _requirements(inputs: Path) -> str:
    try:
        return (inputs / REQUIREMENTS_NAME).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def _spec(job: Job, settings: Settings, environment: Environment, uid: int | None) -> dict[str, Any]:
    execution = job.job_file.job.execution
    span = read_span(execution.completion_time)
    training = {
        "name": "training",
        "argv": ["/bin/sh", "-c", execution.command],
        "env": job_environment(job, settings, environment.programs, os.environ),
        "cwd": str(job.directory / "work"),
        "limits": {
            "seconds": span.total_seconds() if span else None,
            "memory": execution.resources.memory * MEGABYTE,
        },
    }
    return {
        "steps": [environment.step, training],
        "uid": uid,
        "gid": uid,
        "log_bound": settings.log_bound,
        "grace": settings.grace.total_seconds(),
        "holds": [str(environment.lock)],
    }


def job_environment(job: Job, settings: Settings, programs: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that a job's command sees: made anew, so that nothing of the server's own leaks into it.

    :param programs: Where the programs of the job's Python environment are; they come first.
    :param environ: The server's variables, of which only those named by ``--job-env`` and the certificates are passed.
    """
    work, gpus = job.directory / "work", job.gpu_ids
    variables = {name: environ[name] for name in settings.job_env if name in environ}
    variables = {"PATH": "/usr/local/bin:/usr/bin:/bin"} | variables | trusted_certificates(environ)
    variables |= {
        "HOME": str(work),
        "USER": "job",
        "LOGNAME": "job",
        "TMPDIR": str(job.directory / "tmp"),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": str(job.job_file.job.execution.resources.cpus),
        "MODEL_DIR": str(work / PREFERRED),
    }
    variables |= {each.name: each.value for each in job.job_file.job.env if each.name not in _GRANTED}
    variables["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpus)) or "-1"
    variables["JOB_ID"] = job.key.job_id
    variables["PATH"] = f"{programs}:{variables['PATH']}"
    return variables


def _notices(job: Job, python: str) -> list[str]:
    execution = job.job_file.job.execution
    notices = []
    if execution.image:
        notices.append(
            f"The image {execution.image} is recorded and not run: this server runs jobs as processes, with Python "
            f"{python} and the packages of requirements.txt."
        )
    if execution.completion_time and read_span(execution.completion_time) is None:
        notices.append(
            f"completionTime {execution.completion_time!r} cannot be read as a span of time, so the time is not "
            "limited; write it as 20h, 90 minutes or a number of seconds."
        )
    return notices


def _own_directory(path: Path, uid: int | None, mode: int) -> None:
    path.mkdir()
    path.chmod(mode)
    _give(path, uid)


def _give(path: Path, uid: int | None) -> None:
    if uid is not None:
        os.chown(path, uid, uid)


def _copy_inputs(source: Path, target: Path, uid: int | None) -> None:
    """Copy the inputs: a job may write into its files, and the server's own must stay as they are."""
    for folder, folders, files in os.walk(source):
        place = target / Path(folder).relative_to(source)
        for name in folders:
            _own_directory(place / name, uid, 0o755)
        for name in files:
            shutil.copyfile(Path(folder, name), place / name)
            (place / name).chmod(0o644)
            _give(place / name, uid)


def _write(path: Path, content: bytes) -> None:
    """Write a file that exists exactly when it is whole."""
    incoming = path.with_name(path.name + ".new")
    with incoming.open("wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    incoming.replace(path)
