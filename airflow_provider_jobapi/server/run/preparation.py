# SPDX-License-Identifier: Apache-2.0
"""Prepare a job's directory: the work folder with copies of its inputs, and ``spec.json`` for its supervisor.

::

    <root>/clients/<client>/jobs/<job id>/   owned by the server; the job's user may enter it
        inputs/                              the files as they were when the job was submitted
        work/                                the job's working directory, owned by its user
        tmp/                                 the job's TMPDIR, owned by its user
        state/, last-checkpoints/            its checkpoints, see ``checkpoints``
        spec.json, log, exit.json, …         see ``supervisor/__init__.py``
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from airflow_provider_jobapi.server.config import Settings
from airflow_provider_jobapi.server.run import checkpoints
from airflow_provider_jobapi.server.run.environments import Environment, Environments, trusted_certificates
from airflow_provider_jobapi.server.store.job_record import Job
from airflow_provider_jobapi.server.store.layout import remove_tree
from airflow_provider_jobapi.server.store.model_files import directory_of_model
from airflow_provider_jobapi.training.job import DEFAULT_IMAGE, REQUIREMENTS_NAME
from airflow_provider_jobapi.training.units import read_span

MEGABYTE = 2**20

SCALARS_BOUND = 16_000_000
"""The most bytes of the points that a job's event files of TensorBoard have."""

Turn = Callable[[], AbstractContextManager[None]]

_GRANTED = ("CUDA_VISIBLE_DEVICES", "JOB_ID")
"""Variables that a job's own ``env`` cannot set."""


def is_prepared(job: Job) -> bool:
    """Whether the job's directory holds all that a supervisor needs."""
    return (job.directory / "spec.json").exists()


def prepare(
    job: Job,
    settings: Settings,
    environments: Environments,
    uid: int | None,
    *,
    turn: Turn = nullcontext,
    runs_images: bool = False,
    earlier: Sequence[Path] = (),
    room: int | None = None,
    on_resumed: Callable[[str | None], None] = lambda _: None,
) -> None:
    """Make what a supervisor needs. A preparation that was interrupted is repeated; ``spec.json`` is written last.

    :param uid: The user id of the job's steps, or None for the server's own.
    :param turn: Waits for the client's turn to copy a file.
    :param runs_images: Whether the engine runs the job in its container image; the log says so where it does not.
    :param earlier: The directories of the jobs whose checkpoints it continues, the newest first.
    :param room: The bytes that its checkpoints may take.
    :param on_resumed: Called with the id of the job whose checkpoints it got, or None.
    :raises OSError: when it cannot be made, such as when the disk is full.
    """
    work, tmp = job.directory / "work", job.directory / "tmp"
    for folder in (work, tmp):
        remove_tree(folder)
        folder.mkdir(mode=0o700)
    _copy_inputs(job.directory / "inputs", work, uid, turn)
    model = work / directory_of_model(job)
    if not model.exists():
        _own_directory(model, uid, 0o755)
    # Given away last: another job of the same user could have put a link where a file was about to be written.
    for folder in (work, tmp):
        _give(folder, uid)
    with turn():
        resumed = checkpoints.fill(job.directory, earlier, uid)
    if resumed is None and (wanted := job.job_file.job.resume_from):
        raise FileNotFoundError(f"the checkpoints of job {wanted}, which it continues, are gone")
    on_resumed(resumed and resumed.job_id)
    requirements, execution = _requirements(job.directory / "inputs"), job.job_file.job.execution
    interpreter = environments.interpreters.choose(execution.command, execution.image, requirements)
    environment = environments.of(job.key.client_id, uid, job.directory, requirements, interpreter)
    spec = _spec(job, settings, environment, uid)
    written, bound = checkpoints.directory_of_checkpoints(job.directory), settings.storage_bound
    spec["steps"][-1]["checkpoints"] = {"folder": str(written), "bound": bound if room is None else room}
    spec["notices"] = _notices(job, interpreter.version, runs_images) + ([resumed.notice()] if resumed else [])
    _write(job.directory / "spec.json", json.dumps(spec).encode())


def _requirements(inputs: Path) -> str:
    try:
        return (inputs / REQUIREMENTS_NAME).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def _spec(job: Job, settings: Settings, environment: Environment, uid: int | None) -> dict[str, Any]:
    execution = job.job_file.job.execution
    span = read_span(execution.completion_time)
    limits = {"memory": execution.resources.memory * MEGABYTE}
    variables = job_environment(job, settings, environment.programs, os.environ)
    training = {
        "name": "training",
        "argv": ["/bin/sh", "-c", execution.command],
        "env": variables,
        "cwd": str(job.directory / "work"),
        "limits": limits,
        **environment.mounts,
    }
    return {
        "steps": [{**environment.step, "limits": limits}, training],
        "seconds": span.total_seconds() if span else None,
        "uid": uid,
        "gid": uid,
        "log_bound": settings.log_bound,
        "grace": settings.grace.total_seconds(),
        "holds": [] if environment.lock is None else [str(environment.lock)],
        "processes": settings.process_bound,
        "relay": environment.needs_relay,
        "environment": environment.record,
        "scalars": {"folders": _event_folders(job, variables), "bound": min(settings.log_bound, SCALARS_BOUND)},
    }


def _event_folders(job: Job, variables: Mapping[str, str]) -> list[str]:
    """Where the job may write event files of TensorBoard: its work folder, and its other folders on this server."""
    others = [os.path.normpath(variables[name]) for name in ("MODEL_DIR", "CHECKPOINT_DIR") if name in variables]
    home = job.directory.parent.parent
    return [
        str(job.directory / "work"),
        *(each for each in others if Path(each).is_relative_to(home)),
    ]


def job_environment(job: Job, settings: Settings, programs: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment variables of a job's command. None of the server's own is inherited.

    :param programs: The directory of the programs of the job's Python environment; it comes first in PATH.
    :param environ: The server's variables, of which only the certificates and those of ``--job-env`` are passed.
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
        "MODEL_DIR": str(work / directory_of_model(job)),
        "CHECKPOINT_DIR": str(checkpoints.directory_of_checkpoints(job.directory)),
    }
    variables |= {each.name: each.value for each in job.job_file.job.env if each.name not in _GRANTED}
    variables["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpus)) or "-1"
    variables["JOB_ID"] = job.key.job_id
    variables["PATH"] = f"{programs}:{variables['PATH']}"
    return variables


def _notices(job: Job, python: str, runs_images: bool) -> list[str]:
    """The lines at the beginning of the log that say what this server does not do."""
    execution = job.job_file.job.execution
    notices = []
    if execution.image not in {"", DEFAULT_IMAGE} and not runs_images:
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


def _copy_inputs(source: Path, target: Path, uid: int | None, turn: Turn) -> None:
    """Copy the inputs, since a job may write into its files and the server's must stay as they are."""
    for folder, folders, files in os.walk(source):
        place = target / Path(folder).relative_to(source)
        for name in folders:
            _own_directory(place / name, uid, 0o755)
        for name in files:
            with turn():
                shutil.copyfile(Path(folder, name), place / name)
            (place / name).chmod(0o644)
            _give(place / name, uid)


def _write(path: Path, content: bytes) -> None:
    """Write a file under another name and rename it, so that it never exists in part."""
    incoming = path.with_name(path.name + ".new")
    with incoming.open("wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    incoming.replace(path)
