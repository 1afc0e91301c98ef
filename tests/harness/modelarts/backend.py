# SPDX-License-Identifier: Apache-2.0
"""The state that both dialects of the double share: database, OBS, runs and faults."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.harness.modelarts import lines
from tests.harness.modelarts.errors import Refused
from tests.harness.modelarts.faults import Faults
from tests.harness.modelarts.obs import Obs
from tests.harness.modelarts.runs import Runs
from tests.harness.modelarts.store import Job, Store, Version

QUOTA = 1000
"""The most jobs of a project; a fault changes it."""


class Backend:
    """The state behind the routes.

    :param home: The double's directory.
    :param settings: obs (endpoint, key, secret, region), pace and grace in seconds, url.
    """

    def __init__(self, home: Path, settings: dict[str, Any]) -> None:
        self.store = Store(home / "modelarts.sqlite")
        self.faults = Faults(home / "faults.json")
        self.obs = Obs(settings["obs"])
        self.url = settings["url"]
        self.runs = Runs(home, {name: settings[name] for name in ("obs", "pace", "grace")})
        self._pace = settings["pace"]
        self._later: set[asyncio.TimerHandle] = set()

    def recover(self) -> None:
        """Start what was created, but not yet started, when the server was killed."""
        for version in self.store.versions():
            self.runs.start(version.key)

    def begin(self, job: Job, version: Version, run: dict[str, Any], *, is_new: bool) -> None:
        """Store a version, and its job if that is new, and run it."""
        self.runs.prepare(version.key, run)
        if is_new:
            self.store.add(job, version)
        else:
            self.store.add_version(version)
        self.runs.start(version.key)

    def delete(self, job: str) -> None:
        """Delete a job from the database at once, and end its run a moment later."""
        for version in self.store.versions(job):
            self.runs.stop(version.key)
        self.store.forget(job)

    def delete_version(self, version: str) -> None:
        self.runs.stop(version)
        self.store.forget_version(version)

    def check_workspace(self, workspace: str) -> str:
        """The workspace of a job; this account has the default one only."""
        if workspace not in {"", "0"}:
            raise Refused("0102")
        return "0"

    def check_agency(self) -> None:
        """Whether ModelArts may use OBS for this user."""
        if how := self.faults.get("no_agency"):
            raise Refused(how["code"])

    def quota(self) -> int:
        return int(self.faults.option("quota", "jobs", QUOTA))

    def check_quota(self, dialect: str, code: str) -> None:
        if len(self.store.jobs(dialect)) >= self.quota():
            raise Refused(code, "training job")

    def listed(self, dialect: str) -> list[Job]:
        """The jobs that a list shows."""
        until = time.time() - self.faults.option("listed_late", "seconds", 0)
        return [job for job in self.store.jobs(dialect) if job.created <= until * 1000]

    def shown_status(self, job: str, status: Any) -> Any:
        """Return the status, or the one of a fault."""
        how = self.faults.get("status")
        return status if how is None or how["job"] not in {None, job} else how["code"]

    def log(self, key: str, node: int) -> list[lines.Line]:
        """The lines of a node that have been shipped."""
        return lines.visible(lines.read(self.runs.place(key), node), self.faults.get("late_lines"), time.time())

    def page(self, every: Sequence[lines.Line], base: str, order: str, count: int, *, down: str) -> lines.Page:
        """A page of a log.

        :param down: Which word for the order means towards the end.
        """
        if base and self.faults.option("cursors", "mode", "") == "refused":
            raise Refused("0104" if down == "desc" else "2764", "base_line")
        if self.faults.get("directions") is not None:
            down = "asc" if down == "desc" else "desc"
        head = order == "asc" and self.faults.option("empty_base_line", "asc", "head") == "head"
        mode = self.faults.option("cursors", "mode", "exclusive")
        return lines.page(every, base, towards_end=order == down, from_head=head, count=count, mode=mode)
