# SPDX-License-Identifier: Apache-2.0
"""The pages of the documentation, read by the tests that hold them to the code."""

from __future__ import annotations


def section(page: str, title: str) -> str:
    """What stands below a heading of the second level."""
    return page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of each row of the tables."""
    found = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    return [cells for cells in found if not cells[0].startswith("---")]
