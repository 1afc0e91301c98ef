# SPDX-License-Identifier: Apache-2.0
"""The database of the double: tokens, jobs and their versions. It survives a kill."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS tokens (hash TEXT PRIMARY KEY, issued REAL NOT NULL, project TEXT, scope TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (
    key TEXT PRIMARY KEY, dialect TEXT NOT NULL, name TEXT NOT NULL, description TEXT NOT NULL,
    workspace TEXT NOT NULL, created INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS versions (
    key TEXT PRIMARY KEY, job TEXT NOT NULL, number INTEGER NOT NULL, before TEXT, created INTEGER NOT NULL,
    request TEXT NOT NULL);
"""
_FIRST = {"job": 567524, "version": 1108482}
"""The job and the version of the documents' procedure are the first."""


@dataclass(frozen=True)
class Token:
    """A token.

    :ivar issued: Epoch seconds.
    :ivar project: The project's id; None for a token of a domain or of nothing.
    :ivar scope: project, domain or none.
    """

    issued: float
    project: str | None
    scope: str


@dataclass(frozen=True)
class Job:
    """A job; ``created`` in milliseconds."""

    key: str
    dialect: str
    name: str
    description: str
    workspace: str
    created: int


@dataclass(frozen=True)
class Version:
    """A version of a job with its request (``config`` in v1, the whole body in v2)."""

    key: str
    job: str
    number: int
    before: str | None
    created: int
    request: dict[str, Any]


class Store:
    """The database of one home directory; used by one thread."""

    def __init__(self, place: Path) -> None:
        self._sql = sqlite3.connect(place, isolation_level=None)
        self._sql.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;" + _SCHEMA)

    def close(self) -> None:
        self._sql.close()

    def keep_token(self, token: str, project: str | None, scope: str) -> None:
        self._sql.execute("INSERT INTO tokens VALUES (?, ?, ?, ?)", (_hash(token), time.time(), project, scope))

    def token(self, token: str) -> Token | None:
        row = self._sql.execute("SELECT issued, project, scope FROM tokens WHERE hash = ?", (_hash(token),)).fetchone()
        return None if row is None else Token(*row)

    def next_id(self, name: str) -> int:
        """Return the next number of a ``job`` or a ``version``."""
        row = self._sql.execute(
            "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value",
            (name, _FIRST[name]),
        ).fetchone()
        return int(row[0])

    def add(self, job: Job, version: Version | None) -> None:
        """Store a job with its first version in one transaction."""
        with self._sql:
            self._sql.execute("BEGIN")
            values = (job.key, job.dialect, job.name, job.description, job.workspace, job.created)
            self._sql.execute("INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?)", values)
            if version is not None:
                self.add_version(version)

    def add_version(self, version: Version) -> None:
        values = (version.key, version.job, version.number, version.before, version.created)
        self._sql.execute("INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?)", (*values, json.dumps(version.request)))

    def describe(self, key: str, description: str) -> None:
        self._sql.execute("UPDATE jobs SET description = ? WHERE key = ?", (description, key))

    def job(self, key: str, dialect: str) -> Job | None:
        row = self._sql.execute("SELECT * FROM jobs WHERE key = ? AND dialect = ?", (key, dialect)).fetchone()
        return None if row is None else Job(*row)

    def jobs(self, dialect: str | None = None) -> list[Job]:
        """The jobs, or those of a dialect, in the order of their creation."""
        rows = self._sql.execute("SELECT * FROM jobs ORDER BY rowid").fetchall()
        return [Job(*row) for row in rows if dialect in {None, row[1]}]

    def versions(self, job: str | None = None) -> list[Version]:
        """The versions, or those of a job, in the order of their creation."""
        where, values = ("", ()) if job is None else (" WHERE job = ?", (job,))
        rows = self._sql.execute(f"SELECT * FROM versions{where} ORDER BY rowid", values).fetchall()  # noqa: S608
        return [_version(row) for row in rows]

    def version(self, job: str, key: str) -> Version | None:
        row = self._sql.execute("SELECT * FROM versions WHERE key = ? AND job = ?", (key, job)).fetchone()
        return None if row is None else _version(row)

    def forget(self, job: str) -> None:
        """Delete a job and its versions."""
        with self._sql:
            self._sql.execute("BEGIN")
            self._sql.execute("DELETE FROM jobs WHERE key = ?", (job,))
            self._sql.execute("DELETE FROM versions WHERE job = ?", (job,))

    def forget_version(self, version: str) -> None:
        self._sql.execute("DELETE FROM versions WHERE key = ?", (version,))


def _version(row: tuple[Any, ...]) -> Version:
    return Version(*row[:5], request=json.loads(row[5]))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
