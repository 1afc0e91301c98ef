# SPDX-License-Identifier: Apache-2.0
"""Tell at a glance that a line measures nothing, so that no rule need be asked: most lines of most logs are such.

It errs on one side only. A line is idle where none of its words can be in the name of a metric, of a place or of a
title, and none of its signs begins what a rule reads without such a word.
"""

from __future__ import annotations

import re
from functools import lru_cache

from airflow_provider_jobapi.training.metrics.names import LIKELY_METRICS, METRICS, parts_of_word

_WORD = re.compile(r"[^\W\d_]+")
_COUNTED = re.compile(r"\d\s?/\s{0,8}[\dU]|\[\s{0,12}\d{1,12}\s{0,12}[\],]")
"""``10/100``, ``17/Unknown``, ``[10]``, ``[1,  2000]``."""

_PHASE_AT_END = re.compile(r"(?i)(?:train|valid|val|test|eval)\w*+(?: \w{1,20}){0,3}[\W_]*\Z")

_MEASURED = frozenset(word.rstrip("0123456789") for word in METRICS | LIKELY_METRICS)
_PLACES = frozenset(
    {
        *("step", "timestep", "timesteps", "globalstep", "iteration", "iterations", "iter", "iterate", "itr", "round"),
        *("update", "updates", "episode", "trial", "generation", "batch", "after"),
    }
)
_TITLES = frozenset({"result", "results", "metrics", "summary", "evaluation", "report"})
_OF_RULES = frozenset({"cv", "avg", "function"})
"""Words of rules whose names are none of a metric's: see :data:`~.patterns.RULES`."""

_HINTS = _MEASURED | _PLACES | _TITLES | _OF_RULES


@lru_cache(maxsize=4096)
def _is_hint(word: str) -> bool:
    lowered = word.lower()
    if "loss" in lowered or "acc" in lowered or lowered.endswith(("ep", "epoch")):
        return True
    return not _HINTS.isdisjoint({lowered, *parts_of_word(word)})


@lru_cache(maxsize=4096)
def _is_phase(word: str) -> bool:
    return word.lower().startswith(("train", "val", "test", "eval"))


def is_idle(line: str) -> bool:
    """Whether a line measures nothing and says nothing of the lines after it.

    It may be wrong in saying no, and may not be in saying yes. What the lines before say of it is the caller's matter.
    """
    if "{" in line or "%|" in line or ":\t" in line or 'File "' in line:
        return False
    words = _WORD.findall(line)
    if any(map(_is_hint, words)) or (any(map(_is_phase, words)) and _PHASE_AT_END.search(line)):
        return False
    if line.count("(") > line.count(")"):  # a call over several lines
        return False
    return not (("/" in line or "[" in line) and _COUNTED.search(line))
