# SPDX-License-Identifier: Apache-2.0
"""Run the benchmarks, each beside its anchor, and print the table: ``python -m tests.benchmarks [PART ...]``.

Ends with exit code 1 where a ratio is worse than its bound. A busy machine spoils absolute numbers, ratios less so.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from tests.benchmarks.table import Row, printed

PARTS = {
    "followers": "many jobs that are followed, on the server",
    "idle": "the CPU time of a server with thousands of waiting jobs",
    "imports": "what an import adds to a DAG file",
    "metrics": "reading metrics in lines",
    "storage": "files over the http storage",
    "status": "how many statuses a second the server answers",
    "polls": "long polls of jobs that write nothing, on the server",
    "triggerer": "many jobs that are followed, in a triggerer",
}
"""The parts and what they measure. Each is a module of this package with ``measure() -> list[Row]``."""


def main(arguments: list[str] | None = None) -> int:
    """Run the parts that the command line names, all by default; returns the exit code."""
    parts = "; ".join(f"{name}: {what}" for name, what in PARTS.items())
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=f"Run benchmarks. {parts}.")
    parser.add_argument("parts", nargs="*", metavar="PART", help="a part; all by default")
    chosen = parser.parse_args(arguments).parts or list(PARTS)
    if unknown := [name for name in chosen if name not in PARTS]:
        parser.error(f"unknown part {', '.join(unknown)}; the parts are {', '.join(PARTS)}")
    rows: list[Row] = []
    for name in chosen:
        print(f"measuring {name}: {PARTS[name]}", file=sys.stderr, flush=True)
        rows += import_module(f"tests.benchmarks.{name}").measure()
    print(printed(rows))
    return 0 if all(row.good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
