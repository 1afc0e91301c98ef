# SPDX-License-Identifier: Apache-2.0
"""Decide how a job ended: from its exit record, or from what its supervisor left behind without one."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow_provider_jobapi.server.config import Settings
from airflow_provider_jobapi.server.errors import is_disk_full
from airflow_provider_jobapi.server.run.supervisor import framing
from airflow_provider_jobapi.server.run.supervisor.job_log import PREFIX
from airflow_provider_jobapi.server.store import kept_work, model_files
from airflow_provider_jobapi.server.store.job_record import Job
from airflow_provider_jobapi.server.store.layout import remove_tree
from airflow_provider_jobapi.server.store.objects import ClientStorage
from airflow_provider_jobapi.training.status import JobState, Reason
from airflow_provider_jobapi.training.units import span_text

FAILED = JobState.FAILED


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of a job, with the fields of :meth:`JobRegistry.finish`.

    :ivar keeps_work: Whether the work folder stays for its own retention, since the only copy of a model may be there.
    :ivar notice: A sentence for the end of the job's log.
    """

    state: JobState
    reason: Reason | str | None
    message: str
    exit_code: int | None = None
    model: dict[str, Any] | None = None
    started: datetime | None = None
    finished: datetime | None = None
    keeps_work: bool = True
    notice: str = ""


def read_record(directory: Path) -> dict[str, Any] | None:
    """Read the exit record of a job; None while it has none."""
    try:
        record: dict[str, Any] = json.loads((directory / "exit.json").read_bytes())
    except FileNotFoundError:
        return None
    return record


def read_start(directory: Path) -> datetime | None:
    """When the command of a job began, or None while it has not."""
    marker = directory / "running"
    try:
        return datetime.fromisoformat(json.loads(marker.read_bytes())["time"])
    except FileNotFoundError:
        return None
    except ValueError:  # an empty file: the disk was full
        return datetime.fromtimestamp(marker.stat().st_mtime, UTC)


def of_record(
    job: Job, record: dict[str, Any], storage: ClientStorage, kept: timedelta = Settings.work_retention
) -> Verdict:
    """Decide from an exit record how a job ended; after exit code 0 its SavedModel is stored first.

    :param kept: How long the work folder of a job is kept that was not successful.
    :raises OSError: when the work folder cannot be read.
    """
    end = _end_of_record(job, record, storage, kept)
    lost_lines = record.get("lost_lines")  # supervisors of earlier servers did not count them
    if not lost_lines:
        return end
    return replace(end, message=f"{end.message} {lost_lines:,} lines of its log are lost: the disk was full.".strip())


def _end_of_record(job: Job, record: dict[str, Any], storage: ClientStorage, kept: timedelta) -> Verdict:
    known = {
        "exit_code": record["exit_code"],
        "started": datetime.fromisoformat(record["started"]),
        "finished": datetime.fromisoformat(record["finished"]),
    }
    reason = record["reason"]
    if reason == Reason.STOPPED and not job.stop_requested_by:
        message = "The job's supervisor received SIGTERM, as when the machine shuts down, and ended the job."
        return Verdict(FAILED, Reason.LOST, message, **known)
    if reason == Reason.STOPPED:
        return Verdict(JobState.STOPPED, reason, record["message"], **known)
    if reason is not None:
        return Verdict(FAILED, reason, record["message"], **known)
    del known["finished"]  # the job ends when its model is stored, which is now
    try:
        model = model_files.store_model(job, storage)
    except model_files.ModelNotStored as error:
        return Verdict(FAILED, error.reason, f"{error}{_where_files_stay(job, kept)}", **known)
    if model is None:
        return _without_model(job, kept, known)
    message = model.message if model.whole else f"{model.message}{_where_files_stay(job, kept)}"
    known |= {"keeps_work": not model.whole, "notice": model.left_out}
    return Verdict(JobState.SUCCESSFUL, None, message, model=model.content, **known)


def _without_model(job: Job, kept: timedelta, known: dict[str, Any]) -> Verdict:
    """The end of a job that wrote no model. What it wrote elsewhere stays, and its log says so."""
    written = kept_work.keep_written(job)
    if written is None:
        return Verdict(JobState.SUCCESSFUL, None, model_files.NO_MODEL, keeps_work=False, **known)
    message = (
        f"{model_files.NO_MODEL} {written.sentence()} The files stay for {span_text(kept)} (--work-retention), and "
        f"`jobapi model get --work {job.key.job_id} DESTINATION` fetches them; what a job writes into MODEL_DIR is its "
        "model."
    )
    return Verdict(JobState.SUCCESSFUL, None, message, notice=message, **known)


def _where_files_stay(job: Job, kept: timedelta) -> str:
    work = job.directory / "work"
    if work.is_symlink() or not work.is_dir():
        return ""
    span = span_text(kept)
    return (
        f" Its files stay on the server in {work} until the job is deleted, at most {span} (--work-retention); `jobapi "
        f"model get --work {job.key.job_id} DESTINATION` fetches them."
    )


def not_prepared(error: OSError) -> Verdict:
    """The end of a job that could not be prepared."""
    if is_disk_full(error):
        return Verdict(FAILED, Reason.STORAGE_FULL, "The job could not be prepared: the server's disk is full.")
    return Verdict(FAILED, Reason.LOST, f"The job could not be prepared on the server: {error}.")


def lost(directory: Path) -> Verdict:
    """The end of a job whose supervisor is gone and left no exit record."""
    try:
        lines = (directory / "supervisor.err").read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    quoted = f": {lines[-1][:500]}" if lines else "."
    if not (directory / "started").exists():
        return Verdict(FAILED, Reason.LOST, f"The job's supervisor did not start{quoted}")
    if lines:
        return Verdict(FAILED, Reason.LOST, f"The job's supervisor failed, and the job with it{quoted}")
    return Verdict(FAILED, Reason.LOST, "The job's supervisor was killed, and the job with it.")


def seal_log(directory: Path) -> None:
    """Cut off the last record where a killed supervisor did not finish it. Readers only ever get whole records."""
    try:
        handle = os.open(directory / "log", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        size = os.fstat(handle).st_size
        end = os.pread(handle, 2**16, max(0, size - 2**16))
        if not end.endswith(b"\n"):
            os.ftruncate(handle, max(0, size - 2**16) + end.rfind(b"\n") + 1)
    finally:
        os.close(handle)


def add_notice(directory: Path, notice: str) -> None:
    """Append a line of the server to the log of a job whose supervisor has ended, unless it is there already."""
    try:
        handle = os.open(directory / "log", os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        line = b" " + framing.clean(f"{PREFIX}{notice}") + b"\n"
        size = os.fstat(handle).st_size
        end = os.pread(handle, framing.RECORD_LIMIT, max(0, size - framing.RECORD_LIMIT))
        last = end[end.rfind(b"\n", 0, -1) + 1 :]
        if last.endswith(line):  # a server that was killed has written it
            return
        now = framing.stamp(time.time())
        record = max(now, last[: len(now)]) + line
        if os.write(handle, record) < len(record):
            os.ftruncate(handle, size)
    except OSError:  # a full disk; the message of the job says the same
        return
    finally:
        os.close(handle)


def tidy(job: Job, end: Verdict) -> None:
    """Remove what is not needed after the end: temporary files, and the work folder of a job whose model is stored.

    The work folder of every other job stays for its own retention: the only copy of its model may be there.
    """
    remove_tree(job.directory / "tmp")
    if not end.keeps_work:
        remove_tree(job.directory / "work")
