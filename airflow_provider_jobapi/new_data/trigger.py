# SPDX-License-Identifier: Apache-2.0
"""The trigger that watches a folder or a bucket for an asset: one event for each batch of new, complete files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_provider_jobapi.new_data.new_files import NewFiles, SeenFile, describe

if TYPE_CHECKING:
    from airflow_provider_jobapi.new_data.folders import Folder

CLASS_PATH = "airflow_provider_jobapi.triggers.new_data.NewDataTrigger"
"""The class path in Airflow's database; another one would make a second watcher beside that of an older version."""

STATE_KEY = "jobapi_new_data"
"""The key in the asset's state store of what was reported."""


class NewDataTrigger(BaseEventTrigger):
    """Watch a folder for new files, for an ``AssetWatcher``.

    The event's payload is ``{"path", "count", "bytes", "newest", "names", "files", "listing_version"}``: how many files
    are new, their bytes, the time of the newest, the names of at most five, the number of all files, and a SHA-256 of
    their names, sizes and times.

    From Airflow 3.3 on, the asset's state store keeps what was reported, and another triggerer continues from there.
    Before, nothing can be kept: each start reports once all that is there. Either way no file is lost.

    :param path: An absolute path, ``file:///folder``, or ``s3://connection@bucket/folder``, where the connection is of
        the type ``aws``; ``aws_default`` when none is named.
    :param pattern: Which files, such as ``*.csv``; ``**/*.csv`` looks into folders, too. Hidden files never count.
    :param settle: Seconds for which a file must stay unchanged before it counts as complete. 0 is for writers that only
        ever rename complete files into the folder.
    :param poll_interval: Seconds from one listing to the next.
    :ivar event_stored_after: Seconds after which an event is in Airflow's database; the triggerer writes events once a
        second.
    :raises ValueError: when one of these is invalid.
    """

    def __init__(self, path: str, pattern: str = "*", settle: float = 10.0, poll_interval: float = 10.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.event_stored_after = 3.0
        self.path = path
        self.pattern = pattern
        self.settle = settle
        self.poll_interval = poll_interval
        self._check()
        self._new = NewFiles(f"{path}\0{pattern}", settle)
        self._trouble = ""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class path and arguments with which Airflow creates this trigger again."""
        names = ("path", "pattern", "settle", "poll_interval")
        return CLASS_PATH, {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncGenerator[TriggerEvent, None]:
        """Watch until cancelled; one event for each batch of files."""
        await self._restore()
        while True:
            payload = await self._look()
            if payload is not None:
                yield TriggerEvent(payload)  # type: ignore[no-untyped-call]
                # Kept only when the event is stored: a crash in between reports twice rather than never.
                await asyncio.sleep(self.event_stored_after)
                await self._keep()
            await asyncio.sleep(self.poll_interval)

    def _check(self) -> None:
        scheme, place, path = _split(str(self.path))
        local = path if scheme in {"", "file"} and place in {"", "localhost"} else ""
        if not local.startswith("/") and not (scheme == "s3" and place.rpartition("@")[2]):
            raise ValueError(
                f"path cannot be {self.path!r}: it must be an absolute path, file:///folder, or "
                "s3://connection@bucket/folder."
            )
        if not self.pattern or self.pattern.startswith("/"):
            raise ValueError(f"pattern cannot be {self.pattern!r}: it must be a file name below path, such as *.csv.")
        if not (0 <= self.settle <= 86_400 and 0 < self.poll_interval <= 86_400):
            raise ValueError(
                f"settle={self.settle!r} and poll_interval={self.poll_interval!r} must be seconds, at most a day, and "
                "poll_interval more than 0."
            )

    async def _look(self) -> dict[str, Any] | None:
        """The payload of an event, where there are new files."""
        try:
            folder = await self._folder()
            new, everything = await asyncio.to_thread(self._compare, folder)
        except Exception as error:  # noqa: BLE001 -- it may pass, and a trigger that ended would be silent
            # Logged once for each type of error: the text of the same error may hold times.
            if self._trouble != type(error).__name__:
                self._trouble = type(error).__name__
                self.log.warning(f"New data cannot be watched in {self.path}: {error}")
            return None
        if self._trouble:
            self._trouble = ""
            self.log.info(f"New data is watched in {self.path} again.")
        if not new:
            return None
        payload = await asyncio.to_thread(describe, new, everything)
        self.log.info(f"{payload['count']} new files in {self.path}, {', '.join(payload['names'])} among them.")
        return {"path": str(self.path), **payload}

    def _compare(self, folder: Folder) -> tuple[list[SeenFile], list[SeenFile]]:
        everything = list(folder.list_files())
        return self._new.update(everything, time.monotonic()), everything

    async def _folder(self) -> Folder:
        """The folder, made for each listing: a connection may be corrected meanwhile, and keys may expire."""
        from airflow_provider_jobapi.new_data.folders import BucketFolder, LocalFolder, Pattern, s3_access

        scheme, place, path = _split(str(self.path))
        if scheme != "s3":
            return LocalFolder(Path(unquote(path) if scheme else path), Pattern(self.pattern))
        from airflow.sdk import BaseHook
        from asgiref.sync import sync_to_async

        user, _, bucket = place.rpartition("@")
        connection = await BaseHook.aget_connection(user or "aws_default")
        # Reading a connection masks its secrets, which Airflow asks of its supervisor over the triggerer's own event
        # loop. From a plain thread it would use another loop, and the triggerer of 3.1 ends with an error.
        access = await sync_to_async(s3_access)(connection, bucket)
        return BucketFolder(access, path.strip("/"), Pattern(self.pattern))

    async def _restore(self) -> None:
        store: Any = getattr(self, "asset_state_store", None)
        while store is not None:
            try:
                self._new.restore(await store.aget(STATE_KEY))
                break
            except ValueError:
                store = self.asset_state_store = None
                self.log.warning(
                    f"Several assets share one watcher of {self.path}, so its state cannot be kept: give one of them "
                    "another poll_interval."
                )
            except Exception as error:  # noqa: BLE001 -- to start without it would report everything again
                self.log.warning(
                    f"The state of the watcher of {self.path} cannot be read and is tried again: {error!r}"
                )
                await asyncio.sleep(self.poll_interval)

    async def _keep(self) -> None:
        store: Any = getattr(self, "asset_state_store", None)
        if store is None:
            return
        try:
            await store.aset(STATE_KEY, self._new.state())
        except Exception as error:  # noqa: BLE001 -- the next event keeps all before it too
            self.log.warning(f"The state of the watcher of {self.path} cannot be kept: {error!r}")


def _split(path: str) -> tuple[str, str, str]:
    """Scheme, place and path of a folder. ``?`` and ``#`` are letters of its name, as they are of a file's."""
    scheme, separator, rest = path.partition(":/")
    if not separator or "/" in scheme:
        return "", "", path
    if not rest.startswith("/"):
        return scheme.lower(), "", f"/{rest}"
    place, slash, below = rest[1:].partition("/")
    return scheme.lower(), place, slash + below
