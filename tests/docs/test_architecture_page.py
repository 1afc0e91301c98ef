# SPDX-License-Identifier: Apache-2.0
"""The map of the rooms in docs/architecture.md shows the folders of the package, all of them and no others."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "airflow_provider_jobapi"


def rooms_of_the_map(page: str) -> set[str]:
    """The folders that the first code block of the page draws by indentation."""
    block = re.search(r"```text\n(.*?)```", page, re.DOTALL)
    assert block is not None
    rooms, parents = set(), {}
    for line in block[1].splitlines():
        found = re.match(r"( *)([a-z_]+)/", line)
        assert found is not None, f"no folder in {line!r}"
        depth = len(found[1]) // 2
        parents[depth] = found[2]
        rooms.add("/".join(parents[level] for level in range(depth + 1)))
    return rooms


def test_the_map_shows_the_rooms() -> None:
    drawn = rooms_of_the_map((REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8"))
    files = [path for path in PACKAGE.rglob("*.*") if "__pycache__" not in path.parts]
    assert drawn == {str(path.parent.relative_to(REPOSITORY)) for path in files}
