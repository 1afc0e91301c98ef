# SPDX-License-Identifier: Apache-2.0
"""Read tables: a line of titles, then lines of numbers, as fastai, scikit-learn and Ultralytics print them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from airflow_provider_jobapi.training.metrics.names import Kind, kind_of, spelled
from airflow_provider_jobapi.training.metrics.pairs import NUMBER
from airflow_provider_jobapi.training.metrics.positions import Place

MOST_COLUMNS = 40
_COLUMNS = re.compile(r"\s{2,}|\t|\s?[|│┃]\s?")
_TITLE = re.compile(r"[^\W\d][^\s].{0,60}|[^\W\d]")
_PLACES = frozenset({"epoch", "epochs", "step", "iter", "iteration", "round", "#"})
_CELL = re.compile(rf"({NUMBER})(%)?")
_OF = re.compile(r"(\d{1,9})/(\d{1,9})")
_BAR = re.compile(r":?\s+\d{1,3}%[|]")


@dataclass(frozen=True, slots=True)
class Titles:
    """The titles of a table's columns.

    :ivar columns: The names, without the first one's.
    :ivar label: What the first cell of a row of measurements says, where it is a text; None where it is a place.
    """

    columns: tuple[str, ...]
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """What a row measures."""

    values: dict[str, float] = field(default_factory=dict)
    place: Place = field(default_factory=Place)


def read_titles(line: str) -> Titles | None:
    """Read a line as the titles of a table; None where it is none.

    The first title names a place, as ``epoch`` does, or is the ``Class`` of YOLO's evaluation; another is a metric's.
    """
    if any(sign in line for sign in "=;{}"):
        return None
    cells = _cells(_BAR.split(line)[0])
    single = line.split()
    if cells and len(cells) == 1:
        cells = single
    if len(cells) < 2 or len(cells) > MOST_COLUMNS or cells[0].lower() not in _PLACES | {"class"}:
        return None
    if not all(_TITLE.fullmatch(cell) for cell in cells[1:]):
        return None
    columns = tuple(cell.split("(")[-1].strip(")") if "(" in cell or ")" in cell else cell for cell in cells[1:])
    measures = any(kind_of(cell) in (Kind.METRIC, Kind.LIKELY) for cell in columns)
    return Titles(columns, "all" if cells[0].lower() == "class" else None) if measures else None


def read_row(line: str, titles: Titles) -> Row | None:
    """Read a line as a row below titles; None where it is none."""
    cells = _BAR.split(line)[0].replace("|", " ").replace("│", " ").replace("┃", " ").split()
    if len(cells) != len(titles.columns) + 1:
        return None
    if titles.label is not None:
        return Row(_values(titles.columns, cells[1:])) if cells[0] == titles.label else Row()
    place = _place(cells[0])
    if place is None:
        return None
    return Row(_values(titles.columns, cells[1:]), place)


def _cells(line: str) -> list[str]:
    return [cell for cell in _COLUMNS.split(line.strip()) if cell]


def _place(cell: str) -> Place | None:
    if found := _OF.fullmatch(cell):
        return Place(epoch=int(found[1]), epochs=int(found[2]))
    return Place(step=int(cell)) if cell.isascii() and cell.isdigit() and len(cell) <= 15 else None


def _values(columns: tuple[str, ...], cells: list[str]) -> dict[str, float]:
    values = {}
    for name, cell in zip(columns, cells, strict=True):
        found = _CELL.fullmatch(cell)
        if found is not None and kind_of(name) not in (Kind.NONE, Kind.PLACE):
            values[spelled(name)] = float(found[1]) / (100 if found[2] else 1)
    return values
