# SPDX-License-Identifier: Apache-2.0
"""The rows of the benchmarks: what was measured, beside its anchor in the same run, and the bound of their ratio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement.

    :ivar what: What was measured, with its size: "status of a job, GET".
    :ivar ours: What this package took.
    :ivar anchor: What ``anchor_is`` took in the same run, in the same unit.
    :ivar unit: "ms", "% of a core", "1/s"; of both.
    :ivar bound: The ratio ours / anchor that is still good: the most, or with ``higher`` the least.
    """

    what: str
    ours: float
    anchor: float
    unit: str
    bound: float
    higher: bool = False
    anchor_is: str = ""

    @property
    def ratio(self) -> float:
        """What this package took for each unit of the anchor; infinite where the anchor took nothing."""
        return self.ours / self.anchor if self.anchor else float("inf")

    @property
    def good(self) -> bool:
        """Whether the ratio keeps the bound."""
        return self.ratio >= self.bound if self.higher else self.ratio <= self.bound


def printed(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    head = ("what", "here", "anchor", "unit", "ratio", "bound", "")
    cells = [
        (
            row.what,
            _number(row.ours),
            f"{_number(row.anchor)} ({row.anchor_is})" if row.anchor_is else _number(row.anchor),
            row.unit,
            f"{row.ratio:.2f}",
            f"{'≥' if row.higher else '≤'} {row.bound:g}",
            "" if row.good else "worse than its bound",
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in (head, *cells)) for column in range(len(head))]
    rule = tuple("-" * width for width in widths)
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in (head, rule, *cells)
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
