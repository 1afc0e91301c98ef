# SPDX-License-Identifier: Apache-2.0
"""The tables of the server, and its transactions on SQLite.

Every write is one transaction that begins with the write lock (``BEGIN IMMEDIATE``), so that what it read stays true
until its commit. A commit is on the disk when it returns (``synchronous=FULL``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Dialect,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    create_engine,
    event,
)
from sqlalchemy.exc import DatabaseError, OperationalError

from airflow_provider_jobapi.server.config import SettingsError
from airflow_provider_jobapi.server.errors import DatabaseBusy, DiskFull, ServerError
from airflow_provider_jobapi.server.store.disk import is_full

VERSION = 6
_NEW_COLUMNS = (
    ("jobs", "storing", "BIGINT"),
    ("jobs", "placed", "BIGINT"),
    ("jobs", "kept_from", "BIGINT"),
    ("jobs", "work", "BIGINT"),
    ("jobs", "cycle", "VARCHAR(36)"),
    ("jobs", "resume_from", "VARCHAR(36)"),
    ("jobs", "keep_checkpoints", "BOOLEAN"),
    ("jobs", "resumed", "VARCHAR(36)"),
    ("jobs", "checkpoints", "BIGINT"),
    ("clients", "generation", "VARCHAR(32) NOT NULL DEFAULT ''"),
)
"""The columns that the tables of earlier versions may not have."""

_LOCK_TIMEOUT = 5
"""Seconds that a transaction waits for the lock of another one."""

_CONNECTION_TIMEOUT = 10
"""Seconds that a request waits for a free connection to the database."""

_AFTER_COMMIT = "jobapi_after_commit"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Moment(TypeDecorator[datetime]):
    """A time as whole microseconds since 1970, which sort and compare in every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Convert a time for the database."""
        return None if value is None else (value - _EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Convert a time from the database."""
        return None if value is None else _EPOCH + timedelta(microseconds=value)


metadata = MetaData()

clients = Table(
    "clients",
    metadata,
    Column("client_id", String(64), primary_key=True),
    Column("secret_hash", String(64), nullable=False),
    Column("uid", Integer, unique=True),
    Column("used", BigInteger, nullable=False, default=0),  # bytes of its objects, and of the inputs that its jobs keep
    Column("created", Moment, nullable=False),
    Column("generation", String(32), nullable=False, default=""),  # of its tokens; a new secret makes a new one
)

removed_clients = Table(
    "removed_clients",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("client_id", String(64), nullable=False),
    Column("uid", Integer),  # never given to another client, since files of its jobs may be left on the machine
    Column("removed", Moment, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("number", Integer, primary_key=True),  # the order of submission
    Column("client_id", ForeignKey("clients.client_id", ondelete="CASCADE"), nullable=False),
    Column("job_id", String(36), nullable=False),
    Column("name", String(100), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("job_file", Text, nullable=False),
    Column("state", String(20), nullable=False),
    Column("reason", String(40)),
    Column("message", Text, nullable=False, default=""),
    Column("exit_code", Integer),
    Column("submitted", Moment, nullable=False),
    Column("placed", Moment),  # when the engine had room for it
    Column("started", Moment),
    Column("storing", Moment),
    Column("finished", Moment),
    Column("kept_from", Moment),  # the beginning of its retention; moved where the clock jumped, see retention_clock
    Column("gpu_ids", JSON, nullable=False, default=list),
    Column("stop_requested_by", String(200)),
    Column("model", JSON(none_as_null=True)),
    Column("work", BigInteger),  # the bytes of its work folder, where it is kept after the end
    Column("cycle", String(36)),  # what the jobs of one clear cycle of a task have in common, see checkpoints
    Column("resume_from", String(36)),  # the job that it is to continue, where its job file names one
    Column("keep_checkpoints", Boolean),
    Column("resumed", String(36)),  # the job whose checkpoints it got
    Column("checkpoints", BigInteger),  # the bytes of those that it left
    Column("deleted", Moment),  # a tombstone, since the id stays used
    Index("jobs_by_id", "client_id", "job_id", unique=True),
    Index("jobs_by_state", "state", "number"),
    Index("jobs_by_cycle", "client_id", "cycle", "number"),
    sqlite_autoincrement=True,
)

objects = Table(
    "objects",
    metadata,
    Column("client_id", ForeignKey("clients.client_id", ondelete="CASCADE"), primary_key=True),
    Column("key", String(1024), primary_key=True),
    Column("blob", String(32), nullable=False, unique=True),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("modified", Moment, nullable=False),
)

inputs = Table(
    "inputs",
    metadata,
    Column("client_id", String(64), primary_key=True),
    Column("job_id", String(36), primary_key=True),
    Column("path", String(1024), primary_key=True),
    Column("blob", String(32), nullable=False, index=True),
    Column("size", BigInteger, nullable=False),
    Column("alone", Boolean, nullable=False, default=False),  # the object is deleted, and only the job has its bytes
    ForeignKeyConstraint(["client_id", "job_id"], ["jobs.client_id", "jobs.job_id"], ondelete="CASCADE"),
)


clock = Table(
    "clock",
    metadata,
    Column("id", Integer, primary_key=True),  # one row
    Column("seen", Moment, nullable=False),  # the time of the wall clock when it was last looked at
    Column("boot", String(64), nullable=False),  # the boot of the machine in which that was
    Column("uptime", Float, nullable=False),  # seconds from the boot until then
    Column("jumped", Moment),  # the time after the last jump: earlier times are not comparable with the clock
)


class Database:
    """The SQLite database of a root directory."""

    def __init__(self, path: Path) -> None:
        """Open the database, readable by the user of the server alone, and make or migrate its tables.

        :raises SettingsError: when a later version of the server made it, it is damaged, or there is only its ``-wal``.
        :raises DiskFull: when the disk has no room for the files that SQLite needs beside it.
        """
        _refuse_wal_alone(path)
        _make_private(path)
        self._path, self._folder = path, path.parent
        self._writer = Lock()  # SQLite's own waiting is not fair: who waits longer looks less often
        self._engine = create_engine(
            f"sqlite:///{path}",
            connect_args={"timeout": _LOCK_TIMEOUT},
            pool_size=10,
            max_overflow=50,
            pool_timeout=_CONNECTION_TIMEOUT,
        )
        event.listen(self._engine, "connect", _on_connect)
        event.listen(self._engine, "begin", _on_begin)
        self._reader = self._engine.execution_options(jobapi_read=True)
        try:
            self._prepare(path)
        except OperationalError:
            raise
        except DatabaseError as error:
            raise SettingsError(_damaged(path, str(error.orig))) from None

    def _prepare(self, path: Path) -> None:
        with self.write() as connection:
            version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            if not 0 <= version <= VERSION:
                raise SettingsError(
                    f"{path} was made by a later version of this server (its tables are of version {version}, not "
                    f"{VERSION}); use that version, or another --root."
                )
            if version == VERSION:
                return  # nothing is written, which a full disk would not take
            if version:
                _migrate(connection)
            metadata.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA user_version = {VERSION}")

    def check(self) -> None:
        """Check the whole database. It takes about a second for a gigabyte.

        :raises SettingsError: when it is damaged.
        """
        try:
            with self.read() as connection:
                found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
        except DatabaseError as error:
            found = str(error.orig)
        if found != "ok":
            raise SettingsError(_damaged(self._path, " ".join(str(found).split())))

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that holds the write lock from its beginning.

        What was given to :func:`after_commit` is called once it is committed, before the next transaction begins.

        :raises DatabaseBusy: when another transaction holds the lock for too long.
        :raises DiskFull: when the disk is full.
        """
        if not self._writer.acquire(timeout=_LOCK_TIMEOUT):
            raise DatabaseBusy
        try:
            calls: list[Callable[[], object]] = []
            with self._server_errors(), self._engine.begin() as connection:
                connection.info[_AFTER_COMMIT] = calls
                yield connection
            for call in calls:
                call()
        finally:
            self._writer.release()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a consistent view, which never waits for a writer.

        :raises DatabaseBusy: when the database cannot be read at the moment.
        """
        with self._server_errors(), self._reader.connect() as connection:
            yield connection

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def _server_errors(self) -> Iterator[None]:
        """Raise the errors of SQLite that a client can do something about as errors of the server."""
        try:
            yield
        except OperationalError as error:
            raise (_server_error(str(error.orig), self._folder) or error) from error.orig


def after_commit(connection: Connection, call: Callable[[], object]) -> None:
    """Call a function when the transaction of :meth:`Database.write` is committed, in the order of the commits."""
    connection.info[_AFTER_COMMIT].append(call)


def _damaged(path: Path, how: str) -> str:
    return f"{path} is damaged ({how}): restore it from a backup, or choose another --root."


def _migrate(connection: Connection) -> None:
    """Bring the tables of an earlier version to this one."""
    for table, column, kind in _NEW_COLUMNS:
        if column not in {row[1] for row in connection.exec_driver_sql(f"PRAGMA table_info({table})")}:
            connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
    for index in jobs.indexes:
        index.create(connection, checkfirst=True)
    connection.exec_driver_sql("UPDATE jobs SET kept_from = finished WHERE kept_from IS NULL")


def _refuse_wal_alone(path: Path) -> None:
    """Refuse a ``-wal`` whose database is missing or empty: SQLite would delete it, and with it what was in it."""
    wal = path.with_name(f"{path.name}-wal")
    if wal.exists() and wal.stat().st_size and not (path.exists() and path.stat().st_size):
        raise SettingsError(
            f"{wal} belongs to a database, but {path} is missing or empty: restore both, or restore a backup and "
            "remove the -wal."
        )


def _make_private(path: Path) -> None:
    """Make the database file with the mode 0600, which SQLite gives to its other files, and repair those that exist."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        for each in path.parent.glob(f"{path.name}*"):
            if not each.is_symlink() and each.stat().st_mode & 0o077:
                each.chmod(0o600)
    except OSError as error:
        raise SettingsError(f"{path} cannot be used: {error.strerror}; check who owns it, and its mode.") from None


def _server_error(text: str, folder: Path) -> ServerError | None:
    # SQLite has other words for a -shm without room, for a disk without another file, and for a quota.
    other_words = any(words in text for words in ("disk I/O error", "unable to open database file", "readonly"))
    if "disk is full" in text or (other_words and is_full(folder)):
        return DiskFull()
    return DatabaseBusy() if "locked" in text or "busy" in text else None


def _on_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver must not begin transactions of its own
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={_LOCK_TIMEOUT * 1000}", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _on_begin(connection: Connection) -> None:
    read = connection.get_execution_options().get("jobapi_read")
    connection.exec_driver_sql("BEGIN" if read else "BEGIN IMMEDIATE")
