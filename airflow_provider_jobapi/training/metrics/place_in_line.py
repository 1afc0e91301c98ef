# SPDX-License-Identifier: Apache-2.0
"""Find where a training stands in what a line says: its epoch, its step, and its batch of how many.

No pattern takes longer than linear time in the length of a line.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from itertools import islice
from math import isclose
from typing import NamedTuple

_PHASES = {"train": "train", "val": "val", "dev": "val", "test": "test", "eval": "eval"}
_LONGEST_PHASE = 5
PHASE = r"(?:train(?:ing)?|val(?:id(?:ation)?|idating)?|dev|test(?:ing)?|eval(?:uat(?:ion|ing|e))?)"

_EPOCH = re.compile(
    rf"""(?ix)(?<![\w./-]) (?:(?P<phase>{PHASE})[ ]?[_-]?)? (?:epoch|ep)(?:\((?P<mode>\w{{1,12}})\))?
    \s{{0,4}}[:=\#]?\s{{0,4}} (?P<bracket>[\[(]?)\s{{0,12}} (?P<epoch>\d{{1,9}}(?:\.\d{{1,9}})?)
    (?:\s?(?:/|of)\s?(?P<epochs>\d{{1,9}}))? \s{{0,4}}[\])]? (?![\w.]*\w|%)
    (?:\s{{0,3}}[\[(]\s{{0,12}}(?P<batch>\d{{1,12}})\s?/\s?(?P<batches>\d{{1,12}})(?:\s?\(\s{{0,3}}\d{{1,3}}(?:\.\d{{1,3}})?%\))?
    \s{{0,4}}[\])])?"""
)
"""``Epoch 3/10``, ``epoch=3``, ``Epoch [3/10]``, ``Epoch: [0][  10/5005]``, ``Train Epoch: 1 [640/60000 (1%)]``."""

_STEP = re.compile(
    r"""(?ix)(?<![\w./-]) (?P<word>global[_ ]?step|step|iterations?|iter|iterate|itr|round|num_updates|update
    |episode|trial|(?:(?:total|num)_)?timesteps?|generation|boosting[ ]round
    |batch)
    \s{0,4}[:=\#]?\s{0,8}[\[(]?\s{0,12} (?P<step>\d{1,15}) (?:\.0{1,9}(?!\d))? (?:\s?(?:/|of)\s?(?P<steps>\d{1,12}))?
    \s{0,4}[\])]? (?![\w.]*\w|%)"""
)
"""``step 250``, ``Iteration 1``, ``global_step=7``, ``Step [25/100]``."""

_HEADS = re.compile(
    r"""(?x) \[\s{0,12}(?P<e1>\d{1,9})\s?/\s?(?P<of1>\d{1,9})\s?\]\s?
      \[\s{0,12}(?P<b1>\d{1,12})\s?/\s?(?P<n1>\d{1,12})\s?\]
    | \[\s{0,12}(?P<e2>\d{1,9})\s?,\s{0,12}(?P<b2>\d{1,12})\s{0,12}\]
    | \[\s{0,12}(?P<b3>\d{1,12})\s?/\s?(?P<n3>\d{1,12})\s{0,4}\]
    | \[\s{0,12}(?P<s4>\d{1,12})\](?=[\s:]) | \s{0,12}(?P<b5>\d{1,12})/(?P<n5>\d{1,12})(?=[\s,:])"""
)
"""What a line begins with: ``[0/5][300/1583]``, ``[1,  2000]``, ``[10/100]``, ``[10]``, ``10/100``."""

_COUNT = re.compile(
    r"(?<![\w./])(?P<batch2>\d{1,12})\s?/\s{0,8}(?P<batches2>\d{1,12})(?= (?:batch|iter|step))"
    r"|[\[(]\s{0,12}(?P<batch>\d{1,12})\s?/\s?(?P<batches>\d{1,12})(?:\s?\(\s{0,3}\d{1,3}(?:\.\d{1,3})?%\))?\s{0,4}[\])]"
)
"""The batch of how many, in brackets or with its unit: ``[ 6464/60000]``, ``200/2983 batches``."""

_NUMBER_BEFORE = re.compile(r"(\d{1,12}\.\d{1,12}|\d{1,12}(?=\s?%))\s?(%?)\s?\Z")
_AFTER = re.compile(r"(?i)\bafter (\d{1,12}) (?:batches|steps|epochs|iterations|rounds|updates|episodes)\b")
"""``loss: 0.5 after 121 batches``."""

_BEHIND = re.compile(
    r"(?i) (?:at|after|in|for|of) (?:the )?"
    r"((?:global )?(?:step|epoch|iteration|iter|round|batch|episode) ?#?\d{1,12}(?:/\d{1,12})?)(?= ?[:=] ?[-+.\d])"
)
"""A place behind a name: ``loss at step 100: 0.5``."""
_BEFORE = re.compile(r"(?<![^\s>=-])[^\W\d][^:=|,\t\d]{0,80}\Z")
_LONGEST_BEFORE = 81
_MOST_BEHIND = 8


class Place(NamedTuple):
    """Where a line says that the training is; each part is None where it does not say it.

    :ivar epoch: The epoch as printed.
    :ivar epochs: Of how many.
    :ivar batch: The batch within the epoch, or within the only loop there is.
    :ivar batches: Of how many.
    :ivar step: A step, iteration or round that counts on over the epochs.
    :ivar steps: Of how many.
    :ivar from_zero: Whether this form of line counts its epochs from 0.
    :ivar phase: Which loop: ``train``, ``val``, ``test``, ``eval``, or empty.
    """

    epoch: float | None = None
    epochs: int | None = None
    batch: int | None = None
    batches: int | None = None
    step: float | None = None
    steps: int | None = None
    from_zero: bool = False
    phase: str = ""

    def __bool__(self) -> bool:
        return self.epoch is not None or self.batch is not None or self.step is not None


NOWHERE = Place()


_GAPS = re.compile(r"[ \t]{2,}")


def without_gaps(text: str) -> str:
    """A line in which a tab stands for each gap of two blanks and more, as between columns."""
    return _GAPS.sub("\t", text) if "  " in text or "\t" in text else text


def find_place(text: str) -> tuple[Place, str]:
    """Find where a line says that the training is; returns it, and the line with a tab where it said it."""
    if not text:
        return NOWHERE, text
    epochs, steps = _may_name(text)
    named, counted = epochs or steps, "/" in text or "[" in text
    if not named and not counted:
        return NOWHERE, text
    if named and _has_preposition(text):
        text = _place_first(text)
    if counted and (head := _HEADS.match(text)):
        rest = text[head.end() :]
        return _of_head(head), f"\t{rest.removeprefix(':')}"
    return _find_named(text, _EPOCH.search(text) if epochs else None, _STEP.search(text) if steps else None)


def _may_name(text: str) -> tuple[bool, bool]:
    """Whether a line holds a word of epochs, and one of steps: far quicker than the patterns."""
    lowered = text.lower()
    step, ep = lowered.count("step"), lowered.count("ep")
    epochs = ep > step or "estep" in lowered
    if step or "batch" in lowered or "iter" in lowered or "round" in lowered or "itr" in lowered:
        return epochs, True
    return epochs, "update" in lowered or "episode" in lowered or "trial" in lowered or "generation" in lowered


def _has_preposition(text: str) -> bool:
    return " at " in text or " after " in text or " in " in text or " for " in text or " of " in text


def _place_first(text: str) -> str:
    """A line with the place before the name that it stands behind."""
    for behind in islice(_BEHIND.finditer(text), _MOST_BEHIND):
        begin, end = behind.start(), behind.end()
        if name := _BEFORE.search(text, max(0, begin - _LONGEST_BEFORE), begin):
            return f"{text[: name.start()]}{behind[1]}\t{name[0]}{text[end:]}"
    return text


def _find_named(text: str, epoch: re.Match[str] | None, step: re.Match[str] | None) -> tuple[Place, str]:
    """Find a place by the first epoch and the first step that a line names, or by a count."""
    if epoch is not None and "." in epoch["epoch"] and "=" not in epoch[0]:
        epoch = None  # the end of a name: ``accuracy over epoch: 0.72``
    if (
        step is not None
        and step["steps"] is None
        and step["word"].lower() == "batch"
        and (epoch is None or "=" in step[0])
    ):
        step = None  # how large a batch is
    if epoch is None and step is None and "after " in text.lower() and (after := _AFTER.search(text)):
        return Place(step=int(after[1])), _without(text, after)
    if epoch is None and step is None:
        count = _COUNT.search(text) if "/" in text else None
        if count is None or _is_value(text, count):
            return NOWHERE, text
        return Place(None, None, *_of_count(count)), _without(text, count)
    place = _of(epoch, step)
    rest = _without(text, *(each for each in (epoch, step) if each is not None))
    if place.batch is None and place.step is None and (count := _COUNT.search(rest)) and not _is_value(rest, count):
        rest = _without(rest, count)
        place = Place(place.epoch, place.epochs, *_of_count(count), phase=place.phase)
    return place, rest


def phase_of(word: str | None) -> str:
    """The loop that a word names: ``train``, ``val``, ``test``, ``eval``; empty where it names none."""
    return _phase(word[:_LONGEST_PHASE].lower()) if word else ""


@lru_cache(maxsize=1024)
def _phase(lowered: str) -> str:
    return next((phase for begin, phase in _PHASES.items() if lowered.startswith(begin)), "")


def part(done: int, total: int) -> float:
    """The finished part of a loop, from 0 to 1."""
    return min(1.0, done / total) if total else 0.0


def usable_step(value: object) -> float | None:
    """A step that can be drawn on an axis, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        step = float(value)
    except OverflowError:
        return None
    return step if math.isfinite(step) and abs(step) <= 2.0**53 else None


def _is_value(text: str, count: re.Match[str]) -> bool:
    """Whether a count says again what the number before it says: ``Accuracy: 98.31% (9831/10000)``."""
    before = _NUMBER_BEFORE.search(text[max(0, count.start() - 30) : count.start()])
    if before is None:
        return False
    done, total = _of_count(count)
    return before[2] == "%" or (
        done <= total > 0 and any(isclose(float(before[1]), done / total * by, rel_tol=0.01) for by in (1, 100))
    )


def _of_count(count: re.Match[str]) -> tuple[int, int]:
    return int(count["batch"] or count["batch2"]), int(count["batches"] or count["batches2"])


def _of_head(head: re.Match[str]) -> Place:
    if head["e1"] is not None:
        return Place(int(head["e1"]), int(head["of1"]), int(head["b1"]), int(head["n1"]), from_zero=True)
    if head["e2"] is not None:
        return Place(epoch=int(head["e2"]), batch=int(head["b2"]))
    if head["b3"] or head["b5"]:
        return Place(batch=int(head["b3"] or head["b5"]), batches=int(head["n3"] or head["n5"]))
    return Place(step=int(head["s4"]))


def _of(epoch: re.Match[str] | None, step: re.Match[str] | None) -> Place:
    said = NOWHERE
    if epoch is not None:
        phase, mode, bracket, number, epochs, batch, batches = epoch.groups()
        said = Place(float(number), _whole(epochs), _whole(batch), _whole(batches), phase=phase_of(phase or mode))
        if batch is not None and bracket == "[" and ":" in epoch[0]:
            said = said._replace(from_zero=True)
    if step is None or said.batch is not None:
        return said
    number, total = step["step"], _whole(step["steps"])
    if epoch is not None and total is not None:
        return said._replace(batch=int(number), batches=total)
    return said._replace(step=float(number), steps=total)


def _whole(digits: str | None) -> int | None:
    return None if digits is None else int(digits)


def _without(text: str, *found: re.Match[str]) -> str:
    for each in sorted(found, key=lambda match: match.start(), reverse=True):
        text = f"{text[: each.start()]}\t{text[each.end() :]}"
    return text
