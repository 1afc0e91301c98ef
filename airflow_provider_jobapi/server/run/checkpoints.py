# SPDX-License-Identifier: Apache-2.0
"""The checkpoints of a job: what it finds in ``CHECKPOINT_DIR``, and what it leaves there for a job that continues it.

::

    <root>/clients/<client>/jobs/<job id>/
        state/checkpoints/      CHECKPOINT_DIR, owned by the job's user; filled before the job starts
        last-checkpoints/<n>/   the copy that the supervisor keeps while the job runs, see ``supervisor``

A job gets a copy of what the job before left, so that nothing which that one still writes reaches it. Each step may be
repeated after a crash at any instant: what is made appears under its name when it is complete.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from airflow_provider_jobapi.server.run.supervisor import process_tree
from airflow_provider_jobapi.server.run.supervisor.checkpoint_folder import (
    FOLDER,
    CheckpointFolder,
    CopySummary,
    FolderChanged,
)
from airflow_provider_jobapi.server.run.supervisor.checkpoint_mirror import PLACE, CheckpointMirror, newest_copy
from airflow_provider_jobapi.server.run.supervisor.step import MARK
from airflow_provider_jobapi.server.store.disk import tree_size
from airflow_provider_jobapi.server.store.layout import remove_tree
from airflow_provider_jobapi.training.units import count_text, size_text

_RESCUE_SECONDS = 2.0
"""How long the checkpoints of a job without supervisor may be waited for."""

_MOST_NAMED = 3
"""How many entries of a folder a message names."""

_ATTEMPTS = 5
"""How often a folder is read that changes at the same time."""

KEPT = "Its last checkpoints ({}) are kept for a job that continues it."
REMOVED = (
    "Its checkpoints are removed, as after every success: let the script write its model into MODEL_DIR, or set "
    "keep_checkpoints."
)
LEFT_OUT = " Not whole, and left out: {}."
OUTGROWN = (
    "Its last checkpoints ({}) are more than the client's storage has room for ({}), so those before them are taken. "
)
TORN = "None of its checkpoints is kept, since the last one is not whole: {}."
NO_ROOM = (
    "Its checkpoints ({}) are not kept: the client's storage has room for {}. Delete objects or ended jobs, write "
    "fewer checkpoints, or ask the server's operator for a larger --storage-bound."
)

_EARLIER = rb"(?:/[^/\"\\\s]+)+/jobs/[0-9a-f-]{36}/" + FOLDER.encode()
"""The path of the folder of an earlier job, as libraries write it into small texts."""


class Resumed(NamedTuple):
    """What a job got from an earlier one.

    :ivar job_id: The earlier job.
    """

    job_id: str
    copied: CopySummary

    def notice(self) -> str:
        """The line in the log."""
        files = count_text(self.copied.files, "file")
        return (
            f"This job continues job {self.job_id}: {files} of its checkpoints ({size_text(self.copied.size)}) are in "
            "CHECKPOINT_DIR."
        )


def directory_of_checkpoints(home: Path) -> Path:
    """The directory that ``CHECKPOINT_DIR`` names.

    :param home: The job's directory.
    """
    return home / FOLDER


def fill(home: Path, earlier: Sequence[Path], uid: int | None) -> Resumed | None:
    """Make the folder of a job that is being prepared, with the whole checkpoints that an earlier one left.

    :param home: The job's directory.
    :param earlier: The directories of the jobs that it continues, the newest first.
    :param uid: The user of the job.
    :raises OSError: when they cannot be copied, such as when the disk is full.
    """
    remove(home)
    folder = directory_of_checkpoints(home)
    folder.parent.mkdir(mode=0o700)
    resumed = None
    for place, trusted in [(each, True) for each in earlier] + [(each, False) for each in earlier]:
        if copied := _take_newest(place, folder, uid, trusted=trusted):
            resumed = Resumed(place.name, copied)
            break
    else:
        folder.mkdir()
    folder.chmod(0o755)
    # Given away last: another job of the same user could have put a link where a file was about to be written.
    for each in (folder, folder.parent):
        if uid is not None:
            os.chown(each, uid, uid)
    return resumed


def settle(home: Path, *, resumed: bool, room: Callable[[], int]) -> tuple[int | None, str]:
    """Leave one state of a job's checkpoints when it is over: the newest that is whole and for which there is room.

    :param home: The job's directory, which no process of the job uses any more.
    :param resumed: Whether it has continued another job: then nothing is left where what that one left is better.
    :param room: Returns the bytes that the checkpoints may take; not asked where nothing is whole.
    :returns: the bytes of what is left, None for nothing, and a sentence about it for the user.
    """
    if not (home / "started").exists():  # what is there are copies of those of an earlier job
        return None, ""
    folder, mirror = directory_of_checkpoints(home), newest_copy(home / PLACE)
    selection = _look(folder, _owners(home))
    problems = _problems(selection.problems) if selection else ""
    candidates = [mirror] if mirror else []
    if selection and selection.kept and (selection.trusted or not (mirror or resumed)):
        candidates.insert(0, folder.parent)
    if not candidates:
        return None, TORN.format(problems) if problems else ""
    sizes, bound = [tree_size(each) for each in candidates], room()
    fits = [(place, size) for place, size in zip(candidates, sizes, strict=True) if size <= bound]
    if not fits:
        return None, NO_ROOM.format(size_text(sizes[0]), size_text(bound))
    place, size = fits[0]
    message = KEPT.format(size_text(size))
    if place == folder.parent:
        message += LEFT_OUT.format(problems) if problems else ""
    else:
        _put_back(place, folder)
        if len(candidates) > 1:
            message = OUTGROWN.format(size_text(sizes[0]), size_text(bound)) + message
    remove_tree(home / PLACE)
    return size, message


def _put_back(mirror: Path, folder: Path) -> None:
    """Put a copy in the place of a folder."""
    remove_tree(folder.parent)
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    if not os.path.lexists(folder):
        mirror.rename(folder)


def _problems(problems: dict[str, str]) -> str:
    """What is not whole of a folder, and why."""
    if not problems:
        return ""
    named = [f"{path} ({why})" for path, why in sorted(problems.items())]
    more = f", and {len(named) - _MOST_NAMED:,} more" if len(named) > _MOST_NAMED else ""
    return ", ".join(named[:_MOST_NAMED]) + more


def rescue(home: Path) -> None:
    """Copy the last whole checkpoints of a job whose supervisor was killed and whose processes still write.

    Call it before they are ended: one may be in the middle of writing over its only checkpoint then.
    """
    if not process_tree.marked(f"{MARK}={home}".encode()):
        return
    with suppress(OSError):
        owner = (home / "state").lstat().st_uid
        mirror = CheckpointMirror(directory_of_checkpoints(home), home / PLACE, owner, sys.maxsize, lambda _: None)
        mirror.copy_once(_RESCUE_SECONDS)


def has_any(home: Path) -> bool:
    """Whether there is anything in the ``CHECKPOINT_DIR`` of a job."""
    try:
        return any(directory_of_checkpoints(home).iterdir())
    except OSError:
        return False


def remove(home: Path) -> None:
    """Remove the checkpoints of a job."""
    for name in ("state", PLACE):
        remove_tree(home / name)


def take(
    source: Path, target: Path, owners: Collection[int], *, trusted: bool = False, **options: Any
) -> CopySummary | None:
    """Copy what is whole of a folder to a new directory, which appears complete or not at all; None where nothing is.

    :param trusted: Whether to copy nothing where the folder is not in a state that it had; see ``checkpoint_rules``.
    :param options: Those of :meth:`CheckpointFolder.copy`.
    :raises OSError: when it cannot be copied, such as when the disk is full.
    """
    incoming = target.with_name(target.name + ".new")
    for _ in range(_ATTEMPTS):
        remove_tree(incoming)
        try:
            with CheckpointFolder(source, owners) as folder:
                selection = folder.select()
                if not selection.kept or (trusted and not selection.trusted):
                    return None
                copied = folder.copy(selection.kept, incoming, **options)
        except FileNotFoundError:
            return None
        except FolderChanged:
            time.sleep(0.1)
            continue
        incoming.rename(target)
        return copied
    return None


def _take_newest(place: Path, target: Path, uid: int | None, *, trusted: bool) -> CopySummary | None:
    options: dict[str, Any] = {"uid": uid, "places": _EARLIER, "as_path": os.fsencode(target)}
    owners = _owners(place)
    if copied := take(directory_of_checkpoints(place), target, owners, trusted=trusted, **options):
        return copied
    mirror = newest_copy(place / PLACE)
    return take(mirror, target, owners, **options) if mirror else None


def _look(folder: Path, owners: Collection[int]) -> Any:
    """Choose what of a folder is whole, see ``checkpoint_rules``; None where there is none that can be read."""
    for _ in range(_ATTEMPTS):
        try:
            with CheckpointFolder(folder, owners) as found:
                return found.select()
        except FileNotFoundError:
            break
        except FolderChanged:
            time.sleep(0.1)
    return None


def _owners(home: Path) -> set[int]:
    """The user ids whose files may be checkpoints of a job: its own, to which only the server gave the folder."""
    try:
        return {os.geteuid(), (home / "state").lstat().st_uid}
    except FileNotFoundError:
        return {os.geteuid()}
