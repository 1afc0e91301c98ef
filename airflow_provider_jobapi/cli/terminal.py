# SPDX-License-Identifier: Apache-2.0
"""Output on a terminal: messages on stderr, data on stdout, a progress bar for transfers.

The lines of a job are not trusted: none of their control characters reaches the terminal.
"""

from __future__ import annotations

import argparse
import errno
import io
import logging
import os
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.files.transfers import Meters

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 -- argparse has no other name for it

_COLOUR = re.compile(r"\x1b\[[0-9;:]{0,60}m")
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def open_streams() -> None:
    """Open /dev/null for each closed standard stream; otherwise the next file would get its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123 -- open until the command ends


def print_anything() -> None:
    """Escape the characters that the encoding of the terminal does not have, instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def visible(text: object) -> str:
    r"""Make a text safe for a terminal: colours are removed, a control character is shown as ``\x1b``.

    So are the characters that change the direction of writing.
    """
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), _COLOUR.sub("", str(text)))


def say(text: str) -> None:
    """Print a message of the command on stderr. A log file on a full disk is no reason to end."""
    try:
        print(f"jobapi: {visible(text)}", file=sys.stderr, flush=True)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise


def log_to_stderr(*, quiet: bool) -> logging.Logger:
    """Set up the logger of the package, whose records become messages on stderr.

    :param quiet: Whether only warnings and errors are shown.
    """
    log = logging.getLogger("airflow_provider_jobapi")
    log.handlers = [_StderrHandler()]
    log.propagate = False
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    return log


class _StderrHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


def meters(*, quiet: bool) -> Meters | None:
    """Choose the progress of transfers: a bar on a terminal, None for log lines elsewhere.

    :param quiet: Whether nothing is shown.
    """
    if quiet:
        return _NoMeter
    return _Bar if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else None


class _NoMeter:
    def __init__(self, *_about: object) -> None:
        pass

    def show(self, moved: int) -> None:
        pass

    def close(self, *, done: bool) -> None:
        pass


class _Bar:
    """A progress bar on stderr."""

    def __init__(self, title: str, _count: int, size: int) -> None:
        from rich import progress
        from rich.console import Console
        from rich.table import Column

        def whole() -> Column:
            return Column(no_wrap=True)

        self._size = size
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}", markup=False, table_column=whole()),
            progress.BarColumn(20),
            progress.DownloadColumn(table_column=whole()),
            progress.TransferSpeedColumn(table_column=whole()),
            progress.TimeRemainingColumn(table_column=whole()),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task(title.partition(" of job ")[0], total=size)
        self._bar.start()

    def show(self, moved: int) -> None:
        self._bar.update(self._task, completed=min(moved, self._size))

    def close(self, *, done: bool) -> None:
        if done:
            self._bar.update(self._task, completed=self._size)
        self._bar.stop()
