# SPDX-License-Identifier: Apache-2.0
"""Find in log lines how far a loop is: progress bars, ``Epoch 3/10``, ``step 200/1000`` and other counts to a total.

Each line gives the counts that it holds, the outer loop's before the inner one's. What they mean together is the
matter of :mod:`~airflow_provider_jobapi.training.metrics.progress`. No pattern here takes longer than linear time in
the length of a line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import islice

from airflow_provider_jobapi.training.metrics.helper import HELPER_MARK, read_progress

LINE_LIMIT = 1_000
"""Characters of a line that are read."""

STATES_LIMIT = 16
"""States of a progress bar that are read of one line, the last ones, where carriage returns separate them."""

_FEWEST_STEPS = 10
"""The least total of a line such as ``Step 2/4: loading``, which else may be the stages of a script."""


class Level(IntEnum):
    """Which loop contains which: runs contain epochs, and epochs contain steps."""

    RUN = 0
    EPOCH = 1
    STEP = 2


class Trust(IntEnum):
    """How sure it is that a loop is the training; a loop that is surer takes the place of one that is less sure."""

    BAR = 0
    TRAINS = 1
    NAMED = 2
    TOLD = 3


@dataclass(frozen=True, slots=True)
class Count:
    """How far a loop is.

    :ivar name: What it is called; with the total it distinguishes the loops of a job.
    :ivar level: None where it is not known, as of most progress bars.
    :ivar number: What is counted.
    :ivar total: None where it is not known.
    :ivar ordinal: Whether the number names a unit, from 0 or 1 on, as epochs are named; else it is how many are done.
    :ivar over: Whether the unit with this number is done.
    :ivar exact: Whether the total is the number of units also where they are named from 0 on.
    :ivar weak: Whether any other loop with a total says it better.
    """

    name: str
    level: Level | None
    number: float
    total: float | None
    trust: Trust
    ordinal: bool = False
    over: bool = True
    exact: bool = False
    weak: bool = False


_DIGIT = re.compile(r"\d")
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_STATE = re.compile(r"[\r\x08]+")
_LEVELS = ("info", "debug", "warning", "notice")
_LOGGER = re.compile(r"^.{0,100}?\b(?:debug|info|warning|notice)\b[\]):|\s-]{0,8}")
_HINTS = (
    *("/", "%", "[", " of ", "epoch", "step", "iter", "round", "fold"),
    *("estimators", "trees", "remaining", "jobapi_metrics"),
)
"""One of these is in each line that counts."""
_TOTALS = ("epochs", "max", "num", "n_", "total", "nb")
"""One of these is in each line that names a total."""

_FRACTION = re.compile(r"(?<![\d,./])(\d[\d,]{0,14})\s{0,3}(?:/|of|out of)\s{0,3}(\d[\d,]{0,14})(?![\d.]*\d|/\d)")
_NAME = re.compile(
    r"(?<![a-z_])(?:(?P<run>fold|trial|run|repeat|repetition|experiment|cycle|round|candidate|generation)|(?P<epoch>epochs?|ep)"
    r"|(?P<step>steps?|(?:mini-?)?batch(?:es)?|iter(?:ation)?s?|it|updates?|episodes?|trees?|progress))"
    r"(?: (?:completed|done|finished))?[\s:=#(\[.]{0,6}\Z"
)
"""What stands before ``3/10``."""
_NAME_AFTER = re.compile(
    r"\s{0,2}(?:(?P<run>folds?|trials?|runs)|(?P<epoch>epochs?)|(?P<step>steps|batches|iterations|iters))\b"
)
_NAME_LIMIT = 30
"""Characters of such a name with what separates it from the number."""
_BRACKETS_APART = 8
"""Characters between two brackets of which the first one is the epoch, with the blanks in the second."""
_MOST_FRACTIONS = 8
"""Fractions of a line that are looked at."""
_EPOCH_AT = re.compile(
    r"^\W{0,20}(?:(?:train(?:ing)?|start(?:ing)?|begin(?:ning)?|running)\s{1,3})?epoch(?:\(train\))?[\s:=#(\[]{0,6}"
    r"(\d{1,9})(?![\d.]*\d|\s{0,3}(?:/|of\b|out of\b))"
)
_EPOCH_IN = re.compile(r"\bepoch[\s:=#(\[]{0,6}(\d{1,9})(?![\d.]*\d)")
_FOLD = re.compile(r"^\W{0,20}fold[\s:=#]{0,3}(\d{1,4})\W{0,20}$")
"""A title of one of several folds, which does not say of how many."""
_TIMM = re.compile(r"^train: (\d{1,9}) \[")
_STEP_AT = re.compile(r"^\W{0,20}(?:global[_ ])?(?:step|iter(?:ation)?)[\s:=#(\[]{0,4}(\d{1,12})(?![\d./])")
_SAMPLES = re.compile(r"\s{0,2}(?:\]|\(\s{0,2}\d)")
_RESULTS = re.compile(r"[\s:,|-]{1,5}(?!\d{1,2}:\d\d)[a-z]")
"""What follows a fraction with which a line begins, and no date."""
_KERAS = re.compile(r"^\s{0,12}(\d{1,12})/(\d{1,12})\s{1,2}(?:\[[=>.]|━|- \d{1,9}m?u?s)")
_PERCENT_OF = re.compile(r"\d%\s?\(\s{0,6}(\d{1,12}) of (\d{1,12})\)")
_RICH = re.compile(r"━\S{0,200}\s{1,4}(\d{1,12})/(\d{1,12})\s")
_PERCENT = re.compile(r"(\d{1,3})\Z")
_AFTER_BAR = re.compile(r"[^|]{0,400}\|\s{0,12}([\d.]{1,16})([kMGTP]?)/([\d.]{1,16})([kMGTP]?)(?=[\s\[]|\Z)")
_AFTER_PERCENT = re.compile(r"%\s[━╸╺─]{1,200}\s{1,4}(\d{1,12})()/(\d{1,12})()")
_YOLO = re.compile(r"^\s{0,12}(\d{1,9})/(\d{1,9})\s")
_BYTES = re.compile(r"[kMGTP]?i?B/s")
_ROUND = re.compile(r"^\[(\d{1,9})\]\s.{0,200}?:\s?[-\d]")
_CATBOOST = re.compile(r"\btotal: ([\d.]+[\w. ]{0,40}?)\s{1,4}remaining: ([\d.]+[\w. ]{0,40})")
_JOBLIB = re.compile(r"\bDone\s{1,4}(\d{1,12}) out of\s{1,4}(\d{1,12})\b")
_FITS = re.compile(r"\btotalling (\d{1,9}) fits\b")
_FIT_OVER = re.compile(r"^\[CV[^\]]{0,40}\]\s{1,4}END\b")
_SAID = re.compile(
    r"\bprogress\b\W{0,3}(\d{1,3}(?:\.\d{1,6})?)\s?%|(?<![\d.])(\d{1,3}(?:\.\d{1,6})?)\s?%\s(?:done|complete\w*|finished)\b"
)
_SAID_WORDS = ("progress", "done", "complete", "finished")
_TRAINER = re.compile(r"['\"]epoch['\"]: ['\"]?(\d{1,9}(?:\.\d{1,12})?)")
_TOTAL = re.compile(
    r"(?<![\w-])(?P<option>--(?:[a-z]{1,20}\.)?)?"
    r"(?P<prefix>(?:(?:num|n|nb|max|total|train|training|optimization)[_ -]){0,3})"
    r"(?P<kind>epochs?|steps|iters?|iterations|boost[_-]rounds?|rounds?|estimators|trees)['\"]?"
    r"(?(option)[= ]|\s{0,20}[:=]\s{0,3})['\"]?(?P<number>\d[\d,]{0,14})(?:\.0+)?(?![\d.]*\d)"
)
_IS_TOTAL = re.compile(r"\b(?:num|n|nb|max|total)[_ -]")
_FOR_EPOCHS = re.compile(r"\bfor (\d{1,9}) epochs\b")

_SURE = re.compile(r"loss|acc(?:uracy|\b|@)|error|\bauc\b|rmse|\bmae\b|reward|perplexity")
_OVER = re.compile(
    r"loss|acc|err|score|\bf1|auc|iou|mae|mse|ppl|perplex|reward|took|time|elapsed|finish|done|complete|\bend"
)
_OVER_BEFORE = re.compile(r"\b(?:loss|accuracy|after|finish\w*|done|completed?|end(?:ed)?)\b")
_COUNTED = re.compile(r"\s{0,2}(?:epochs|folds|trials|runs)\b")
_PAIR = re.compile(r"([^\W\d][\w./@-]{0,60})\s{0,2}[:=]\s{0,2}[-+]?\.?\d")
_BEGIN_NAMES = frozenset({"lr", "learning_rate", "seed", "batch_size", "device", "steps"})
_TRAINS = re.compile(r"\bfit|\bstep|\biter|\bbatch|\bloss")
_TRAIN_WORDS = ("fit", "step", "iter", "batch", "loss")
_EPOCHS = re.compile(r"\bepochs?\b")
_EPOCHS_A_SECOND = re.compile(r"epochs?/s|s/epoch")
_RUNS = re.compile(r"\b(?:folds?|trials?|runs?)\b")
_OTHER = re.compile(
    r"\b(?:val(?:id\w*)?|eval\w*|test(?:ing|set)?|predict\w*|infer\w*|sanity|download\w*|upload\w*|fetch\w*|load\w*|"
    r"map|filter\w*|tokeniz\w*|sav\w*|writ\w*|read\w*|extract\w*|generating|resolving|casting|flattening|prepar\w*|"
    r"pre-?process\w*|scor\w*|cach\w*|copy\w*|building(?! tree)|collat\w*|pushing|encoding|decoding|creating|import\w*|"
    r"calibrat\w*|verif\w*|hash\w*|unpack\w*|unzip\w*|sampling|grouping|install\w*|convert\w*)\b"
    r"|\.(?:safetensors|bin|json|txt|zip|gz|csv|parquet|tar)\b"
)
"""Loops that are not the training."""


def is_sure(text: str) -> bool:
    """Whether a line holds what only a training measures."""
    return _SURE.search(text[:LINE_LIMIT].lower()) is not None


class LineCounts:
    """Reads the counts of the lines of one log, in their order: ``epochs=10`` applies to the lines after it."""

    def __init__(self) -> None:
        self._totals: dict[str, float] = {}
        self._fits = 0.0

    def learn(self, text: str) -> None:
        """Take the totals that a command line or a printed configuration names, for counts that have none."""
        lowered = text.lower()
        for found in _TOTAL.finditer(lowered):
            kind = found["kind"]
            if found["option"] or kind == "epochs" or _IS_TOTAL.search(found["prefix"]):
                name = "epoch" if "epoch" in kind else "step" if "step" in kind or "iter" in kind else "round"
                self._totals[name] = _number(found["number"])
        if " epochs" in lowered and (epochs := _FOR_EPOCHS.search(lowered)):
            self._totals["epoch"] = float(epochs[1])

    def read(self, line: str) -> list[Count]:
        """Find the counts of a line."""
        text = line[:LINE_LIMIT]
        text = _COLOUR.sub("", text) if "\x1b" in text else text
        lowered = text.lower()
        if not (_DIGIT.search(lowered) or "[cv" in lowered) or not _holds(lowered, _HINTS):
            return []
        if HELPER_MARK in text:
            told = read_progress(text)
            return [] if told is None else [Count("told", None, *told, Trust.TOLD)]
        bar = "%|" in text or "% ━" in text
        counts = self._of_bar(text, lowered) if bar else self._of_words(text, lowered)
        if _holds(lowered, _TOTALS):
            self.learn(lowered)
        return [count for count in counts if count.total is None or count.total > 0]

    def _of_bar(self, text: str, lowered: str) -> list[Count]:
        """The counts of a bar of tqdm, and of the epoch that its description names."""
        at = text.find("%|") if "%|" in text else text.find("% ━")
        percent = _PERCENT.search(text[:at])
        if percent is None:
            return []
        title = text[: percent.start()].strip(" :").lower()
        is_other = _OTHER.search(title) is not None
        counts = self._of_title(title, is_other=is_other)
        if is_other or ("B/s" in text and _BYTES.search(text, at)):
            return counts
        done, total = float(percent[1]), 100.0
        if after := _AFTER_BAR.match(text, at + 2) or _AFTER_PERCENT.match(text, at):
            done, total = _scaled(after[1], after[2]), _scaled(after[3], after[4])
        trains = "train" in lowered or (_holds(lowered, _TRAIN_WORDS) and _TRAINS.search(lowered))
        level, trust = None, Trust.TRAINS if trains else Trust.BAR
        if counts and counts[-1].total == total and 0 <= counts[-1].number - done <= 1:
            level, counts = counts[-1].level, counts[:-1]  # a bar of epochs that is named after each of them
        elif not counts:
            level = (
                Level.EPOCH
                if _EPOCHS.search(title) or _EPOCHS_A_SECOND.search(lowered, at)
                else Level.RUN
                if _RUNS.search(title)
                else None
            )
        name = "bar " + re.sub(r"[\d.,/]+", "#", title)
        return [*counts, Count(name, level, done, total, trust if level is None else Trust.NAMED)]

    def _of_title(self, title: str, *, is_other: bool) -> list[Count]:
        """The counts in the description of a bar; a fraction that it does not name is that of the epochs."""
        named = _named(title)
        counts = [] if "run" not in named else [_ordinal("run", Level.RUN, named["run"], over=False)]
        found = named.get("epoch") or _YOLO.match(title + " ")
        if found is None and named.keys() <= {"samples"} and not is_other:
            found = _FRACTION.search(title)
        if found:
            counts.append(_ordinal("epoch", Level.EPOCH, found, over=False))
        elif found := _EPOCH_IN.search(title):
            counts.append(self._epoch_at(found, over=False))
        return counts

    def _of_words(self, text: str, lowered: str) -> list[Count]:
        """The counts of any other line."""
        if count := self._of_libraries(text, lowered):
            return [count]
        if "fold" in lowered and (fold := _FOLD.match(lowered)):
            return [Count("fold", Level.RUN, float(fold[1]), None, Trust.NAMED, ordinal=True, over=False)]
        body = _LOGGER.sub("", lowered) if _holds(lowered, _LEVELS) else lowered
        named = _named(body)
        epoch, run = named.get("epoch"), named.get("run")
        epoch_at = None if epoch else _EPOCH_AT.match(body) or _TIMM.match(body)
        step = self._step(body, named, epoch or epoch_at)
        counts = []
        if run:
            counts.append(_ordinal("run", Level.RUN, run, over=not (epoch or step) and _tells_results(body, run)))
        if epoch:
            counts.append(_ordinal("epoch", Level.EPOCH, epoch, over=not step and _tells_results(body, epoch)))
        elif epoch_at:
            counts.append(self._epoch_at(epoch_at, over=not step and _tells_results(body, epoch_at)))
        return counts if step is None else [*counts, step]

    def _step(self, body: str, named: Mapping[str, re.Match[str]], epoch: re.Match[str] | None) -> Count | None:
        """The innermost count of a line: steps, batches or samples.

        :param named: The fractions of the line.
        :param epoch: Where the line names an epoch.
        """
        if found := _KERAS.match(body) or (_RICH.search(body) if epoch and "━" in body else None):
            return _steps("bar of Keras", _number(found[1]), _number(found[2]))
        if found := named.get("step") or named.get("samples") or _percent_of(body):
            number, total = _number(found[1]), _number(found[2])
            sure = epoch is not None or is_sure(body)
            if number > total or _OTHER.search(body[: found.start()]):
                return None
            least = math.inf if "samples" in named else _FEWEST_STEPS
            return _steps("step", number, total) if sure or total >= least else None
        if "step" in self._totals and epoch is None and (found := _STEP_AT.match(body)):
            return _steps("step", float(found[1]), self._totals["step"])
        return None

    def _epoch_at(self, found: re.Match[str], *, over: bool) -> Count:
        """An epoch without its total, which may be known from elsewhere."""
        total, number = self._totals.get("epoch"), float(found[1])
        return Count("epoch at", Level.EPOCH, number, total, Trust.NAMED, ordinal=True, over=over, exact=True)

    def _of_libraries(self, text: str, lowered: str) -> Count | None:
        """The count of a line that only one library writes."""
        if text.startswith("{") and (found := _TRAINER.search(text)):
            total = self._totals.get("epoch")
            count = Count("trainer", Level.EPOCH, float(found[1]), total, Trust.BAR, weak=True)
            return None if total is None else count
        if "remaining: " in text and (found := _CATBOOST.search(text)):
            passed, left = _seconds(found[1]), _seconds(found[2])
            return _steps("catboost", passed / (passed + left), 1.0) if passed + left else None
        if "round" in self._totals and (found := _ROUND.match(text)):
            return replace(_steps("round", float(found[1]), self._totals["round"]), ordinal=True, exact=True)
        if (
            "%" in text
            and _holds(lowered, _SAID_WORDS)
            and (found := _SAID.search(lowered))
            and not _OTHER.search(lowered[: found.start()])
        ):
            return _steps("percent", float(found[found.lastindex or 1]), 100.0)
        return self._of_scikit_learn(text)

    def _of_scikit_learn(self, text: str) -> Count | None:
        """The tasks of joblib, and the fits of a search."""
        if " out of " in text and (found := _JOBLIB.search(text)):
            return _steps("joblib", float(found[1]), float(found[2]))
        if "totalling" in text and (found := _FITS.search(text)):
            self._totals["fit"], self._fits = float(found[1]), 0.0
        if "fit" in self._totals and _FIT_OVER.match(text):
            self._fits += 1
            return _steps("fits", min(self._fits, self._totals["fit"]), self._totals["fit"])
        return None


def _holds(text: str, words: tuple[str, ...]) -> bool:
    return any(map(text.__contains__, words))


def _said(lowered: str) -> re.Match[str] | None:
    return _SAID.search(lowered) if "%" in lowered and _holds(lowered, _SAID_WORDS) else None


def _percent_of(body: str) -> re.Match[str] | None:
    return _PERCENT_OF.search(body) if "%" in body and " of " in body else None


def _named(body: str) -> dict[str, re.Match[str]]:
    """The fractions of a line such as ``3/10``: the first one of each kind, by the name before it."""
    named: dict[str, re.Match[str]] = {}
    if "/" not in body and " of " not in body:
        return named
    for found in islice(_FRACTION.finditer(body), _MOST_FRACTIONS):
        before = body[max(0, found.start() - _NAME_LIMIT) : found.start()]
        if name := _NAME.search(before) or _NAME_AFTER.match(body, found.end()):
            named.setdefault(name.lastgroup or "", found)
        elif not before.strip() and _RESULTS.match(body, found.end()):
            named.setdefault("samples", found)
        elif before.rstrip().endswith("[") and _SAMPLES.match(body, found.end()):
            first = named.setdefault("samples", found)
            if first is not found and found.start() - first.end() <= _BRACKETS_APART:
                named = {"epoch": first, **named, "samples": found}  # [3/10][50/100]
    return named


def states_of(line: str) -> list[str]:
    """The states of the progress bars in a line, where carriage returns separate them."""
    if "\r" not in line and "\x08" not in line:
        return [line]
    most = STATES_LIMIT * LINE_LIMIT
    if len(line) > most:
        begin = _STATE.search(line, len(line) - most)
        line = line[begin.end() if begin else max(line.rfind("\r"), line.rfind("\x08")) + 1 :]
    return [state for state in _STATE.split(line) if state.strip()][-STATES_LIMIT:]


def _ordinal(name: str, level: Level, found: re.Match[str], *, over: bool) -> Count:
    return Count(name, level, _number(found[1]), _number(found[2]), Trust.NAMED, ordinal=True, over=over)


def _steps(name: str, number: float, total: float) -> Count:
    return Count(name, Level.STEP, number, total, Trust.TRAINS)


def _tells_results(body: str, count: re.Match[str]) -> bool:
    """Whether a line that names an epoch was written at its end: it tells what was measured, not what will be done."""
    rest = body[count.end() :]
    if _COUNTED.match(rest) or _OVER_BEFORE.search(body[: count.start()]) or _OVER.search(rest):
        return True
    return any(name not in _BEGIN_NAMES for name in _PAIR.findall(rest))


def _number(text: str) -> float:
    return float(text.replace(",", ""))


def _scaled(text: str, unit: str) -> float:
    """A number as tqdm scales it, such as 1.5k; 0 where it is none."""
    try:
        return float(text) * 1_000.0 ** " kMGTP".index(unit or " ")
    except ValueError:
        return 0.0


_SPAN = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)(us|ms|min|s|m|h|d)\b")
_UNITS: dict[str, float] = {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}


def _seconds(text: str) -> float:
    """A span such as ``1m 23s``."""
    return sum(float(found[1]) * _UNITS[found[2]] for found in _SPAN.finditer(text))
