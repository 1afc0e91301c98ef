# SPDX-License-Identifier: Apache-2.0
"""Watches a folder or a bucket for an asset: one event for each batch of new files, once they are whole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_provider_jobapi.new_data.new_files import NewFiles, SeenFile, describe

if TYPE_CHECKING:
    from airflow_provider_jobapi.new_data.folders import Folder

CLASS_PATH = "airflow_provider_jobapi.triggers.new_data.NewDataTrigger"
"""The path in Airflow's database: another one would make a second watcher beside that of an older version."""

STATE_KEY = "jobapi_new_data"
"""Under which the asset's state store keeps what was told."""

TAKEN = 3.0
"""Seconds after which an event that was told is in Airflow's database; the triggerer writes it there once a second."""


class NewDataTrigger(BaseEventTrigger):
    """Tell an asset of new files in a folder; for an ``AssetWatcher``.

    The event's payload is ``{"path", "count", "bytes", "newest", "names", "files", "listing_version"}``: how many files
    are new, their bytes, the time of the newest, the names of at most five, the number of all files, and a SHA-256 of
    their names, sizes and times.

    From Airflow 3.3 on, what was told is kept in the asset's state store, and a triggerer that takes over goes on from
    there. Below, nothing can be kept: each start tells once of all that is there. Either way no file is lost.

    :param path: An absolute path, ``file:///folder``, or ``s3://connection@bucket/folder``, where the connection is of
        the type ``aws``; ``aws_default`` when none is named.
    :param pattern: Which files, such as ``*.csv``; ``**/*.csv`` looks into folders, too. Hidden files never count.
    :param settle: Seconds for which a file must stay as it is before it counts as whole. 0 is for writers that only
        ever rename whole files into the folder.
    :param poll_interval: Seconds from look to look.
    :raises ValueError: when one of these cannot be.
    """

    def __init__(self, path: str, pattern: str = "*", settle: float = 10.0, poll_interval: float = 10.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.path = path
        self.pattern = pattern
        self.settle = settle
        self.poll_interval = poll_interval
        self._check()
        self._new = NewFiles(f"{path}\0{pattern}", settle)
        self._trouble = ""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """How Airflow makes this trigger again, on any triggerer."""
        names = ("path", "pattern", "settle", "poll_interval")
        return CLASS_PATH, {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncGenerator[TriggerEvent, None]:
        """Watch for ever; one event for each batch of files."""
        await self._restore()
        while True:
            payload = await self._look()
            if payload is not None:
                yield TriggerEvent(payload)  # type: ignore[no-untyped-call]
                # Kept only when the event is safe: whoever dies in between tells twice rather than never.
                await asyncio.sleep(TAKEN)
                await self._keep()
            await asyncio.sleep(self.poll_interval)

    def _check(self) -> None:
        parts = urlsplit(str(self.path))
        local = parts.path if parts.scheme in {"", "file"} and parts.netloc in {"", "localhost"} else None
        if not (local or "").startswith("/") and not (parts.scheme == "s3" and parts.hostname):
            raise ValueError(
                f"path cannot be {self.path!r}: it is an absolute path, file:///folder, or s3://connection@bucket/folder."
            )
        if not self.pattern or self.pattern.startswith("/"):
            raise ValueError(f"pattern cannot be {self.pattern!r}: it is a file's name beneath path, such as *.csv.")
        if not (0 <= self.settle <= 86_400 and 0 < self.poll_interval <= 86_400):
            raise ValueError(
                f"settle={self.settle!r} and poll_interval={self.poll_interval!r} are seconds, at most a day, and the "
                "latter is more than 0."
            )

    async def _look(self) -> dict[str, Any] | None:
        """An event's payload, when there is something to tell."""
        try:
            folder = await self._folder()
            new, everything = await asyncio.to_thread(self._compare, folder)
        except Exception as error:  # noqa: BLE001 -- whatever it is may go away, and a dead watcher is silent
            # By its kind: the text of one and the same trouble may hold times.
            if self._trouble != type(error).__name__:
                self._trouble = type(error).__name__
                self.log.warning(f"New data cannot be watched for in {self.path}: {error}")
            return None
        if self._trouble:
            self._trouble = ""
            self.log.info(f"New data is watched for in {self.path} again.")
        if not new:
            return None
        payload = await asyncio.to_thread(describe, new, everything)
        self.log.info(f"{payload['count']} new files in {self.path}, {', '.join(payload['names'])} among them.")
        return {"path": str(self.path), **payload}

    def _compare(self, folder: Folder) -> tuple[list[SeenFile], list[SeenFile]]:
        everything = list(folder.look())
        return self._new.look(everything, time.monotonic()), everything

    async def _folder(self) -> Folder:
        """Made for each look: somebody may put a connection right meanwhile, and keys may expire."""
        from airflow_provider_jobapi.new_data.folders import BucketFolder, LocalFolder, Pattern

        parts = urlsplit(str(self.path))
        if parts.scheme != "s3":
            return LocalFolder(Path(unquote(parts.path) if parts.scheme else str(self.path)), Pattern(self.pattern))
        from airflow.sdk import BaseHook
        from asgiref.sync import sync_to_async

        from airflow_provider_jobapi.new_data.s3 import s3_access

        user, _, bucket = parts.netloc.rpartition("@")
        connection = await BaseHook.aget_connection(user or "aws_default")
        # To read a connection is to have its secrets masked, which Airflow asks of its supervisor over the triggerer's
        # own event loop. From a plain thread it would use another one, and the triggerer of 3.1 dies of that.
        access = await sync_to_async(s3_access)(connection, bucket)
        return BucketFolder(access, parts.path.strip("/"), Pattern(self.pattern))

    async def _restore(self) -> None:
        store: Any = getattr(self, "asset_state_store", None)
        while store is not None:
            try:
                self._new.restore(await store.aget(STATE_KEY))
                break
            except ValueError:
                store = self.asset_state_store = None
                self.log.warning(
                    f"Several assets share one watcher of {self.path}, so what it told cannot be kept: give one of "
                    "them another poll_interval."
                )
            except Exception as error:  # noqa: BLE001 -- to begin without it would tell again of everything
                self.log.warning(f"What was told of {self.path} cannot be read, which is tried again: {error!r}")
                await asyncio.sleep(self.poll_interval)

    async def _keep(self) -> None:
        store: Any = getattr(self, "asset_state_store", None)
        if store is None:
            return
        try:
            await store.aset(STATE_KEY, self._new.state())
        except Exception as error:  # noqa: BLE001 -- the next event is kept with all before it
            self.log.warning(f"What was told of {self.path} cannot be kept: {error!r}")
