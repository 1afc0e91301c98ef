# SPDX-License-Identifier: Apache-2.0
"""A server's database or key that is damaged is one sentence with a way out, for every command."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_jobapi.server.config import SettingsError
from airflow_provider_jobapi.server.http.oauth import SigningKey
from tests.harness.server import AS_ROOT, running


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    with running(tmp_path_factory.mktemp("whole") / "root") as server:
        for number in range(40):
            server.put("/".join(["k" * 200] * 4) + f"/{number}", b"x")
    return server.root


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "root"))


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def text(path: Path) -> None:
    path.write_text("This is no database.\n" * 1000)


def garbage_inside(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(os.urandom(path.stat().st_size - 8192))


def garbage_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(os.urandom(100))


def without_tables(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        for table in ("inputs", "objects", "jobs", "removed_clients", "clients"):
            connection.execute(f"DROP TABLE {table}")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


COMMANDS = [("serve", "--port", "0", *AS_ROOT), ("client", "list"), ("gc",)]


@pytest.mark.parametrize("damage", [truncated, text, garbage_inside, garbage_header, without_tables, folder])
def test_a_damaged_database_is_one_sentence(root: Path, damage: Callable[[Path], None]):
    path = root / "jobapi.sqlite"
    for name in ("jobapi.sqlite-wal", "jobapi.sqlite-shm"):
        (root / name).unlink(missing_ok=True)
    damage(path)
    files = sorted((root / "clients").rglob("*"))
    for command in COMMANDS:
        code, said = run(*command, "--root", str(root))
        if code == 0:  # a command that does not need what is damaged
            assert command[0] != "serve", said
            continue
        assert code == 2, (command, said)
        assert "Traceback" not in said
        assert len(said.strip().splitlines()) == 1, said
        assert "jobapi.sqlite" in said
        assert "--root" in said or "check who owns it" in said
    assert sorted((root / "clients").rglob("*")) == files


@pytest.mark.parametrize("content", ["", "{}", "no key", "[]", '{"kty": "EC", "crv": "P-256", "x": 1}'])
def test_a_damaged_key_is_one_sentence_with_a_way_out(tmp_path: Path, content: str):
    key = tmp_path / "token-key.json"
    key.write_text(content)
    with pytest.raises(SettingsError, match="restore it from a backup, or remove it") as caught:
        SigningKey(tmp_path)
    assert str(key) in str(caught.value)
    key.unlink()
    assert SigningKey(tmp_path).kid


def run(*arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "airflow_provider_jobapi.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr
