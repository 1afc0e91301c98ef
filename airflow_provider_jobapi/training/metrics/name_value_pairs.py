# SPDX-License-Identifier: Apache-2.0
"""Find pairs of a name and a number in a line, and tell which of them measure something.

No pattern takes longer than linear time in the length of a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from airflow_provider_jobapi.training.metrics.names import NAME_LIMIT, Kind, is_phrase, kind_of
from airflow_provider_jobapi.training.metrics.place_in_line import PHASE, phase_of

NUMBER = r"[-+]?(?:(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})(?:[eE][-+]?\d{1,4})?|(?i:nan|inf(?:inity)?))"
_DIGITS = r"[-+]?(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})(?:[eE][-+]?\d{1,4})?"
VALUE = rf"(?:(?P<done>\d{{1,12}})\s?/\s?(?P<of>\d{{1,12}})(?![\w.]*\w)|(?P<number>{NUMBER})(?P<percent>\s?%)?)"
"""A number as programs print it: plain, as a percentage, or a fraction."""

_SCALAR = re.compile(
    rf"(?:np\.|numpy\.|torch\.|jnp\.|tf\.)?(?:float(?:16|32|64)?|double|tensor|Tensor|array|Array|scalar|Decimal)"
    rf"\(\s?'?({NUMBER})'?(?:,[^()]{{0,120}}(?:\([^()]{{0,60}}\))?[^()]{{0,60}})?\)"
)
"""A number in the repr of a scalar: ``np.float64(0.5)``, ``tensor(0.5, device='cuda:0')``."""

_WORD = r"[^\W\d][\w./'^*%+-]{0,99}(?:@[\d.]{1,8}(?:[:-][\d.]{1,8}(?=[ :=]))?)?"
_END = r"(?=[ \t;|)\]}>]|,(?!\s?[-+.]?\d)|\.(?:\s|$)|$)"
_PAIR = re.compile(
    rf"(?P<name>{_WORD}(?: {_WORD}| \([\w .-]{{1,30}}\)){{0,7}})(?P<by>[ \t]?[:=][ \t]?|[ \t])"
    rf"{VALUE}(?:\s?(?:\+/-|±|\+)\s?{_DIGITS})?(?:\s?dB)?{_END}(?P<beside>[ \t]?\([^()]{{0,60}}\))?"
)
_TIGHT = re.compile(
    rf"(?<![^\s\[({{,;|])([^\W\d][\w./@-]{{0,{NAME_LIMIT - 1}}})=({NUMBER})(%)?"
    r"(?=(?P<after>\s{0,40}(?:$|[;|)}\]\[(]|,(?!\d)|\.$|- |[^\W\d][\w./@-]{0,99}=))|\s)"
)
"""``name=number``, wherever it stands in a line; with what may come after it where it is no part of a sentence."""

_BESIDE = re.compile(
    rf"(?:(?:{_WORD}(?: {_WORD}){{0,3}})(?:[ \t]?[:=][ \t]?|[ \t]))?[~<>]?\$?{_DIGITS}(?:[:/]\d[\d.:]{{0,20}})?"
    r"(?:[\w/%µ°]{1,16}|[ ](?:%|[a-zA-Zµ]{1,8}/\w{1,8}|[mµu]?s|secs?|seconds?|min(?:ute)?s?|hours?|[kKMGT]i?B))?"
    rf"{_END}"
    r"|[\[(<][^\[\]()<>]{0,80}[\])>]"
)
"""What may stand between pairs and is none: ``1s``, ``time: 0.3 sec``, ``(best 0.2)``, ``eta: 0:01:00``."""

_NEXT = re.compile(r"\t|,\s|,$| - |\||; ?|$")
_SEPARATORS = re.compile(r"(?:[\s,;:|*•·=>()\[\]{}–—━╸╺█─│┃]|-(?=[\s>-]|$)|[./](?=\s|$)){1,400}")
_LABEL = re.compile(r"(?!\w*(?i:error|warning|exception|usage)\b)[^\W\d][\w-]{0,30}(?: #?\d{1,9})?:[ \t](?=[^\W\d])")
"""A word before a name: ``done: loss 0.5``, ``Fold 1: loss 0.5``."""

_LOOP = re.compile(rf"(?i){PHASE}:\s")
"""A label that names a loop: ``Train: loss 0.5 | Valid: loss 0.6``."""
_TAG = re.compile(rf"(?i)[\[(<]({PHASE})[\])>]:?\s{{1,8}}(?=[^\W\d])")
"""The same in brackets: ``[train] loss: 0.5``."""

_TIDY = re.compile(
    rf"(?<![^ \t])([^\W\d][\w./-]{{0,{NAME_LIMIT - 1}}})(=|: )({NUMBER})((?:[,;|]?[ \t]| [-|] )(?=[^\W\d])|[\s,;|]*\Z)"
)
"""A pair with what separates it from the next one, in a line that is made of such pairs alone, as most are."""

_FIRST_SIGNS = " \t,;:|*=>"
_CALL = re.compile(r"[\w\]`]\(")
_QUOTED = re.compile(r"(?<!\w)(?:\"[^\"]*\"|`[^`]*`|'[^']*'(?!\w))|“[^“”]*”")


MOST_PARTS = 128
"""Pairs, words and gaps that are looked at in one line."""


class Pair(NamedTuple):
    """A name and a number beside each other.

    :ivar whole: Whether the number is written without a decimal point.
    :ivar by: What stands between them: ``=``, ``:`` or a blank.
    """

    name: str
    value: float
    whole: bool
    by: str = ":"


def value_of(found: re.Match[str]) -> float | None:
    """The number that :data:`VALUE` has found; percentages and fractions as parts of 1."""
    if found["done"] is not None:
        done, of = int(found["done"]), int(found["of"])
        return done / of if of > 0 and done <= of else None
    return parts_of_one(found["number"], percent=found["percent"] is not None)


def parts_of_one(digits: str, *, percent: bool) -> float:
    """A number; a percentage becomes a part of 1, to the last digit as if it had been printed so."""
    if not percent or digits[-1:].isalpha() or "e" in digits.lower():
        return float(digits) / (100 if percent else 1)
    return float(f"{digits}e-2")


def unwrapped(text: str) -> str:
    """A text with plain numbers in place of the reprs of scalars."""
    return _SCALAR.sub(r"\1", text) if "(" in text else text


def find_pairs(text: str, *, placed: bool = False) -> tuple[list[Pair], bool]:
    """Find all pairs of a line; returns them, and whether the line is made of pairs alone.

    :param placed: Whether the line says where the training is, so that ``name=number`` counts within a sentence, too.
    """
    if not text:
        return [], True
    if tidy := _tidy(text):
        return tidy, True
    line = unwrapped(text)
    quoted = '"' in line or "'" in line or "`" in line or "“" in line
    line = _without_calls(_QUOTED.sub("~", line) if quoted else line)
    line = _TAG.sub("\t\\1: ", line) if "[" in line or "(" in line or "<" in line else line
    found, closed = _in_turn(line)
    if "=" in line:
        names = {pair.name.split()[-1] for pair in found}
        found += [pair for pair in _tight(line, placed=placed) if pair.name not in names]
    return found, closed


def _tidy(text: str) -> list[Pair]:
    """The pairs of a line that is made of ``name=number`` and ``name: number`` alone; none where it is not.

    What comes of it is what :func:`_in_turn` makes of such a line, in one pass.
    """
    line = text.lstrip(_FIRST_SIGNS)
    if not _TIDY.match(line):
        return []
    found = _TIDY.findall(line)
    if "".join(map("".join, found)) != line:
        return []
    return [
        Pair(name, float(digits), digits.lstrip("+-").isdigit(), by[0]) for name, by, digits, _ in found[:MOST_PARTS]
    ]


def _in_turn(line: str) -> tuple[list[Pair], bool]:
    """Read pair after pair; where a sentence comes between, the pairs of its segment are none."""
    found: list[Pair] = []
    segment: list[Pair] = []
    loop = ""
    closed, position, end = True, 0, len(line)
    for _ in range(MOST_PARTS):
        if position >= end:
            break
        gap = _SEPARATORS.match(line, position)
        if gap is not None:
            if _NEXT.search(gap[0], 0, len(gap[0])) is not None and _parts(gap[0]):
                found += segment
                segment = []
            position = gap.end()
            continue
        pair = _PAIR.match(line, position)
        read = None if pair is None else _read(pair)
        if pair is not None and read is not None:
            segment.append(_of_loop(loop, read, found + segment) if loop else read)
            position = pair.end()
            continue
        beside = _BESIDE.match(line, position)
        if beside is not None and beside.end() > position:
            position = beside.end()
            continue
        closed, segment = False, []
        if label := _LABEL.match(line, position):
            loop = phase_of(label[0]) if _LOOP.fullmatch(label[0]) else loop
            position = label.end()
            continue
        following = _NEXT.search(line, position)
        position = max(position + 1, following.start() if following else end)
    else:
        closed = closed and position >= end
    return found + segment, closed


def _of_loop(loop: str, pair: Pair, before: list[Pair]) -> Pair:
    """Name a pair by the loop that a label in its line names; one of the training only where its name is taken."""
    name = pair.name
    if phase_of(name) or (loop == "train" and all(each.name != name for each in before)):
        return pair
    return pair._replace(name=f"{loop} {name}")


def _parts(gap: str) -> bool:
    return "," in gap or "\t" in gap or "|" in gap or ";" in gap or " - " in gap


def _read(found: re.Match[str]) -> Pair | None:
    name, by = found["name"].removesuffix(" of"), found["by"]
    value = value_of(found)
    digits = found["number"] or ""
    whole = bool(digits) and digits.lstrip("+-").isdigit() and found["percent"] is None
    if value is None or (found["done"] is not None and kind_of(name) is Kind.UNKNOWN):
        return None
    if by.strip() == "" and (whole or not is_phrase(name, 0) or kind_of(name) is Kind.UNKNOWN):
        return None
    if by == ":" and whole and kind_of(name) is not Kind.METRIC:
        return None
    return Pair(name, value, whole, by.strip() or " ") if is_phrase(name, 1) else None


def _tight(line: str, *, placed: bool) -> Iterator[Pair]:
    for found in islice(_TIGHT.finditer(line), MOST_PARTS):
        if found["after"] is None and not placed:
            continue
        digits = found[2]
        whole = digits.lstrip("+-").isdigit() and found[3] is None
        yield Pair(found[1], parts_of_one(digits, percent=found[3] is not None), whole, "=")


def _without_calls(line: str) -> str:
    """A line without what stands in the brackets of a call: ``Namespace(lr=1.0)``, ``Adam(lr=0.1)``."""
    call = _CALL.search(line) if "=" in line and "(" in line else None
    if call is None:
        return line
    end = line.rfind(")")
    return line[: call.start() + 1] + ("~" + line[end + 1 :] if end > call.end() else "~")


_KEPT = {
    (False, False): {Kind.METRIC},
    (True, False): {Kind.METRIC, Kind.COMPANION},
    (False, True): {Kind.METRIC, Kind.LIKELY, Kind.COMPANION},
    (True, True): {Kind.METRIC, Kind.LIKELY, Kind.COMPANION, Kind.UNKNOWN},
}
"""What counts in a line that measures something, by whether it is placed and closed."""


def chosen(pairs: Iterable[Pair], *, placed: bool, closed: bool) -> list[Pair]:
    """Those of the pairs of a line that measure something.

    :param placed: Whether the line says which step or epoch it measures.
    :param closed: Whether the line is made of pairs alone.
    """
    kinds = [(pair, kind_of(pair.name)) for pair in pairs]
    likely, unknown = Kind.LIKELY, Kind.UNKNOWN
    if any(kind is Kind.METRIC or (kind is likely and (placed or not pair.whole)) for pair, kind in kinds):
        kept = _KEPT[placed, closed]
        return [pair for pair, kind in kinds if kind in kept or (kind is likely and not pair.whole)]
    if not (placed and closed):
        return []
    return [pair for pair, kind in kinds if kind is unknown and pair.by == "=" and not pair.whole]
