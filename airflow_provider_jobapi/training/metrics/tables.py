# SPDX-License-Identifier: Apache-2.0
"""Read tables: a line of titles, then lines of numbers, as fastai, scikit-learn and Ultralytics print them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from airflow_provider_jobapi.training.metrics.name_value_pairs import NUMBER
from airflow_provider_jobapi.training.metrics.names import Kind, kind_of, spelled
from airflow_provider_jobapi.training.metrics.place_in_line import Place

MOST_COLUMNS = 40
_COLUMNS = re.compile(r"\s{2,}|\t|\s?[|│┃]\s?")
_TITLE = re.compile(r"[^\W\d][^\s].{0,60}|[^\W\d]")
_PLACES = frozenset({"epoch", "epochs", "step", "iter", "iteration", "round", "e", "#"})
_CELL = re.compile(rf"({NUMBER})(%)?")
_OF = re.compile(r"(\d{1,9})/(\d{1,9})")
_BAR = re.compile(r":?\s+\d{1,3}%[|]")


@dataclass(frozen=True, slots=True)
class Titles:
    """The titles of a table's columns.

    :ivar columns: The names of the columns that are measured.
    :ivar places: How many columns before them say where the training is.
    :ivar label: What the first cell of a row of measurements says, where it is a text; None where it is a place.
    :ivar comma: Whether commas stand between the cells.
    """

    columns: tuple[str, ...]
    places: int = 1
    label: str | None = None
    comma: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """What a row measures."""

    values: dict[str, float] = field(default_factory=dict)
    place: Place = field(default_factory=Place)


def read_titles(line: str) -> Titles | None:
    """Read a line as the titles of a table; None where it is none.

    The first title names a place, as ``epoch`` does, or is the ``Class`` of YOLO's evaluation; or all name metrics.
    """
    comma = " " not in line.strip() and "," in line
    line = line.replace(",", "\t") if comma else line
    first = line.lstrip(" \t|│┃").partition(" ")[0].partition("\t")[0].lower()
    if not (first in _PLACES or first == "class" or line[:1] in "|│┃") or any(sign in line for sign in "=;{}"):
        return None
    cells = _cells(_BAR.split(line)[0])
    cells = line.split() if len(cells) == 1 else cells
    if not 2 <= len(cells) <= MOST_COLUMNS or not all(_TITLE.fullmatch(cell) or cell == "#" for cell in cells):
        return None
    places = 0
    while places < len(cells) and cells[places].lower() in _PLACES:
        places += 1
    label = "all" if cells[0].lower() == "class" else None
    columns = tuple(cell.split("(")[-1].strip("):") for cell in cells[places if label is None else 1 :])
    kinds = [kind_of(cell) for cell in columns]
    measured = [kind in (Kind.METRIC, Kind.LIKELY) for kind in kinds]
    if places or label:
        return Titles(columns, places, label, comma) if any(measured) else None
    return Titles(columns, 0) if all(measured) and line.count("|") > len(columns) else None


def read_row(line: str, titles: Titles) -> Row | None:
    """Read a line as a row below titles; None where it is none."""
    line = line.replace(",", " ") if titles.comma else line
    cells = _BAR.split(line)[0].replace("|", " ").replace("│", " ").replace("┃", " ").split()
    first = titles.places if titles.label is None else 1
    if len(cells) != len(titles.columns) + first:
        return None
    if titles.label is not None:
        return Row(_values(titles.columns, cells[1:])) if cells[0] == titles.label else Row()
    place = _place(cells[first - 1]) if first else Place()
    if place is None or (not first and not all(_CELL.fullmatch(cell) for cell in cells)):
        return None
    return Row(_values(titles.columns, cells[first:]), place)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in _COLUMNS.split(line.strip()) if cell.strip()]


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
