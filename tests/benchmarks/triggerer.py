# SPDX-License-Identifier: Apache-2.0
"""What many jobs cost a triggerer, and how late their lines are, beside a bare loop of aiohttp on the same server."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any

from tests.benchmarks.followers import write_lines
from tests.benchmarks.log_server import log_server
from tests.benchmarks.table import Row

LATE = 1.0
"""Seconds; an anchor that is later gives no better bound."""


def measure() -> list[Row]:
    """Follow jobs with a line a second, and idle ones."""
    rows = []
    for count, bound in ((1_000, 1.0), (3_000, 2.6)):
        ours, anchor = (_follow(kind, count, lines=True) for kind in ("here", "bare"))
        what = f"{count:,} jobs at a line a second in a triggerer"
        anchor_is = "aiohttp, a long poll a job"
        rows.append(Row(what, ours["share"], anchor["share"], "% of a core", bound, anchor_is=anchor_is))
        rows.append(Row(f"{what}, p99", ours["p99"], max(LATE, anchor["p99"]), "s late", 2.0, anchor_is=anchor_is))
        rows.append(Row(f"{what}, max", ours["max"], max(LATE, anchor["max"]), "s late", 2.0, anchor_is=anchor_is))
        rows.append(Row(f"{what}, shown", ours["lines"], count, "lines/s", 0.9, higher=True, anchor_is="written"))
    ours, anchor = (_follow(kind, 5_000, lines=False) for kind in ("here", "bare"))
    what = "5,000 idle jobs in a triggerer"
    rows.append(Row(what, ours["share"], anchor["share"], "% of a core", 0.67, anchor_is="aiohttp, a long poll a job"))
    rows.append(Row(what, ours["memory"], anchor["memory"], "KiB a job", 0.55, anchor_is="aiohttp, a long poll a job"))
    return rows


def _follow(kind: str, count: int, *, lines: bool) -> dict[str, Any]:
    """Follow jobs in a process of its own; returns what it found."""
    command = [sys.executable, "-m", "tests.benchmarks.triggerer_loop", kind]
    with (
        log_server("here", count) as server,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        given = {"port": server.port, "token": server.token, "jobs": list(server.logs), "warm": 15, "measure": 20}
        process.stdin.write(json.dumps(given) + "\n")
        process.stdin.flush()
        ended = threading.Event()
        writing = threading.Thread(target=write_lines, args=(server, ended))
        said = [line for line in process.stdout if line.startswith(("{", '"')) and not _is_ready(line, writing, lines)]
        ended.set()
        if lines:
            writing.join()
    if not said:
        raise RuntimeError(f"The followers ended with the exit code {process.returncode}.")
    found: dict[str, Any] = json.loads(said[-1])
    return found


def _is_ready(line: str, writing: threading.Thread, lines: bool) -> bool:
    """Begin to write when the followers begin."""
    if json.loads(line) != "ready":
        return False
    if lines:
        writing.start()
    return True
