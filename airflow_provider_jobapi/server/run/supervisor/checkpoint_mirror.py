# SPDX-License-Identifier: Apache-2.0
"""Keep a copy of a job's last whole checkpoints beside the job, while it runs.

Many scripts write into the file that they wrote before: Keras's BackupAndRestore, or ``torch.save`` under one name.
Where such a job is killed while it writes, nothing whole is left in its folder. So whenever the folder has not changed
for a moment and all in it is whole, a copy of it takes the place of the copy before::

    last-checkpoints/17/      the newest copy: the one with the highest number, and complete, since it was renamed

A part of the supervisor and, like it, standard library only, Python 3.8 and newer. It is a thread of the supervisor,
and goes on when the server is gone. It takes a part of the time, and only room that nothing else needs.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Callable, Mapping  # noqa: UP035 -- Python 3.8 has the other only as annotation

if __package__:
    from airflow_provider_jobapi.server.run.supervisor.checkpoint_folder import (
        CheckpointFolder,
        FolderChanged,
        Identity,
    )
else:  # run by its path, isolated from every package
    from checkpoint_folder import CheckpointFolder, FolderChanged, Identity  # type: ignore[import-not-found, no-redef]

PLACE = "last-checkpoints"
"""The folder of the copies, below the job's directory."""

QUIET_SECONDS = 0.02
"""How long a folder must not have changed; some ticks of the clock by which changes are seen."""

_SHORTEST, _LONGEST = 0.02, 1.0
"""Seconds between two looks; the longer nothing has changed, the longer."""

_PROCESSOR_SHARE, _DISK_SHARE = 4, 20
"""What costs a second of the processor or of the disk is followed by this many seconds without a look. The time in
which the thread only waits on a busy machine does not count, or it would come too late where it is needed most."""

_QUIET_SHARE = 20
"""The pause is this part of the time in which nothing has changed, between the shortest and the longest."""

_BYTES_A_SECOND = 500 * 10**6
"""What a disk copies in a second, at the least."""

_PRIORITY = -5
"""The nice value of the thread, where the system lets it: it needs little time, and that at once."""

_SPARE_BYTES = 64 * 2**20
"""Bytes of the disk that no copy takes."""

_CLOCK_TICK_NANOSECONDS = 20 * 10**6
"""By how much the time of a change may be behind the clock."""

_AFTER_ERROR_SECONDS = 10.0


class CheckpointMirror:
    """The copy of the last whole checkpoints of one job.

    :param folder: The folder that the job writes.
    :param place: The folder of the copies.
    :param uid: The user of the job.
    :param bound: The most bytes of a copy.
    :param say: Writes a line into the job's log; called from the thread of :meth:`tick`.
    """

    def __init__(self, folder: Path, place: Path, uid: int | None, bound: int, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._place = place
        self._owners = {os.geteuid() if uid is None else uid, os.geteuid()}
        self._bound = bound
        self._say = say
        self._stopping = threading.Event()
        self._began = time.time_ns() - _CLOCK_TICK_NANOSECONDS
        self._seen: Mapping[str, Identity] = {}
        self._seen_at = 0.0
        self._examined: Mapping[str, Identity] | None = None
        self._copied: Mapping[str, Identity] = {}
        self._known: dict[tuple[str, Identity], bool | None] = {}
        self._number = max((int(each.name) for each in copies(place)), default=0)
        self._bytes = 0
        self._too_large = False
        self._leading_out = ""
        self._said: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)

    def start(self) -> None:
        """Start to look."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Stop to look; a copy that is being made is left out."""
        self._stopping.set()
        self._thread.join(timeout)

    def copy_once(self, seconds: float) -> None:
        """Copy the next whole state, without a thread; where there is none, it gives up after some seconds."""
        self._began, number, until = 0, self._number, time.monotonic() + seconds
        while self._number == number and time.monotonic() < until:
            with suppress(FolderChanged, OSError):
                self._look()
            time.sleep(_SHORTEST)
        self._remove_incoming()

    def tick(self) -> None:
        """Say once what the user has to know; for the thread that writes the log."""
        if self._too_large:
            self._say_once(
                f"CHECKPOINT_DIR holds more than the {self._bound / 1e6:,.0f} MB that are free in the client's "
                "storage: keep fewer or smaller checkpoints, or nothing of them is left for the next job."
            )
        if self._leading_out:
            self._say_once(
                "CHECKPOINT_DIR has a link that leads out of it and is not kept for the next job: write the checkpoint "
                f"itself there, in place of {self._leading_out!r}."
            )

    def _say_once(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._say(line)

    def _run(self) -> None:
        if sys.platform.startswith("linux"):  # where a thread has a nice value of its own
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _PRIORITY)
        quiet_since, pause = time.monotonic(), _SHORTEST
        while not self._stopping.wait(pause):
            began, self._bytes = time.thread_time(), 0
            try:
                if self._look():
                    quiet_since = time.monotonic()
                now = time.monotonic()
                pause = min(_LONGEST, max(_SHORTEST, (now - quiet_since) / _QUIET_SHARE))
                processor, disk = time.thread_time() - began, self._bytes / _BYTES_A_SECOND
                pause = max(pause, processor * _PROCESSOR_SHARE + disk * _DISK_SHARE)
            except FolderChanged:
                pause = _SHORTEST
            except Exception:  # noqa: BLE001 -- no copy is worth a job
                self._remove_incoming()
                pause = _AFTER_ERROR_SECONDS

    def _look(self) -> bool:
        """Look once, and copy where it is time to; returns whether the folder has changed since the last look."""
        try:
            with CheckpointFolder(self._folder, self._owners, self._known) as folder:
                changed = folder.identities != self._seen
                self._leading_out = self._leading_out or next(iter(folder.leading_out), "")
                if folder.identities == self._examined or not self._is_quiet(folder, changed=changed):
                    return changed
                self._too_large = folder.size > self._bound
                if self._is_news(folder) and not self._too_large and self._has_room(folder.size):
                    self._copy(folder)
                self._examined = folder.identities
                return changed
        except FileNotFoundError:
            return False

    def _is_quiet(self, folder: CheckpointFolder, *, changed: bool) -> bool:
        """Whether the folder has not changed for a moment, by its times and by two looks.

        For an instant a file that is being truncated has its new size and its old times.
        """
        if changed:
            self._seen, self._seen_at = folder.identities, time.monotonic()
        age = time.time() - folder.newest / 1e9
        old = age > QUIET_SECONDS or age < 0  # the clock was set back
        return old and time.monotonic() - self._seen_at > QUIET_SECONDS

    def _is_news(self, folder: CheckpointFolder) -> bool:
        """Whether the job has written something since the last copy, and not only removed something."""
        return any(
            self._is_new(path, folder) and identity.changed > self._began
            for path, identity in folder.identities.items()
        )

    def _is_new(self, path: str, folder: CheckpointFolder) -> bool:
        """Whether a file is not in the last copy as it is now; a link has no bytes."""
        return path in folder.identities and self._copied.get(path) != folder.identities[path]

    def _copy(self, folder: CheckpointFolder) -> None:
        selection = folder.select()
        self._known = {(path, folder.identities[path]): whole for path, whole in folder.whole.items()}
        if not selection.kept or not selection.trusted:
            return
        self._place.mkdir(mode=0o700, exist_ok=True)
        before = newest_copy(self._place)
        incoming = self._place / f"{self._number + 1}.new"
        self._remove_incoming()
        previous = (before, self._copied) if before else None
        self._bytes = sum(folder.identities[path].size for path in selection.kept if self._is_new(path, folder))
        folder.copy(selection.kept, incoming, previous=previous, go_on=lambda: not self._stopping.is_set())
        if not folder.is_unchanged():
            raise FolderChanged
        self._number += 1
        incoming.rename(self._place / str(self._number))
        self._copied = {path: folder.identities[path] for path in selection.kept if path in folder.identities}
        if before:
            remove(before)

    def _has_room(self, size: int) -> bool:
        disk = os.statvfs(self._place.parent)
        return disk.f_bavail * disk.f_frsize > 2 * size + _SPARE_BYTES

    def _remove_incoming(self) -> None:
        for each in self._place.glob("*.new"):
            remove(each)


def remove(path: Path) -> None:
    """Remove a copy."""
    import shutil  # it needs memory that most supervisors save

    shutil.rmtree(path, ignore_errors=True)


def copies(place: Path) -> list[Path]:
    """The complete copies, the newest last."""
    return sorted((each for each in place.glob("*") if each.name.isdigit()), key=lambda each: int(each.name))


def newest_copy(place: Path) -> Path | None:
    """The newest complete copy."""
    return next(reversed(copies(place)), None)
