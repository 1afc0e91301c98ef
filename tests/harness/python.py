# SPDX-License-Identifier: Apache-2.0
"""Other Pythons than that of the tests: those that are installed here, and scripts that run under another one."""

from __future__ import annotations

from pathlib import Path

from airflow_provider_jobapi.server.config import Settings, SettingsError


def installed(version: str) -> Path | None:
    """The Python of a version that uv, pyenv or the system has installed here."""
    try:
        return Settings.load({"python": version}, {}).python[0]
    except SettingsError:
        return None


def under(python: str, source: str) -> str:
    """A script that runs ``source`` under another Python."""
    return f"import os, sys\nos.execv({python!r}, [{python!r}, '-c', {source!r}, *sys.argv[1:]])\n"
