# SPDX-License-Identifier: Apache-2.0
"""How the rules of :mod:`~airflow_provider_jobapi.training.metrics.patterns` read a line that they match."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from airflow_provider_jobapi.training.metrics.dicts import dict_begin, dict_pairs, is_of_settings, place_of
from airflow_provider_jobapi.training.metrics.helper import HELPER_MARK
from airflow_provider_jobapi.training.metrics.name_value_pairs import NUMBER, Pair, chosen, find_pairs
from airflow_provider_jobapi.training.metrics.names import Kind, kind_of, spelled
from airflow_provider_jobapi.training.metrics.place_in_line import (
    NOWHERE,
    PHASE,
    Place,
    find_place,
    part,
    phase_of,
    without_gaps,
)
from airflow_provider_jobapi.training.metrics.tables import Row, Titles, read_row

Values = list[tuple[str, float]]


@dataclass(slots=True)
class Line:
    """A line as a rule gets it: without colours and the prefix of its logger.

    :ivar titles: The titles of the table that the line may be a row of.
    """

    text: str
    titles: Titles | None = None


@dataclass(slots=True)
class Found:
    """What a rule has found in a line.

    :ivar place: Where the line says that the training is.
    :ivar phase: The loop that the line belongs to.
    :ivar redrawn: Whether the line is a state of a progress bar.
    :ivar written: How its pairs are written, for the general rules: ``=``, ``:`` or a blank.
    :ivar closed: Whether the line is made of pairs alone.
    :ivar rest: What another program has printed behind a bar, which ends no line.
    """

    values: Values = field(default_factory=list)
    place: Place = NOWHERE
    phase: str = ""
    redrawn: bool = False
    written: str = ""
    closed: bool = True
    rest: str = ""


KERAS_BAR = re.compile(r"\s*(\d{1,12})/(\d{1,12}|Unknown)\s")
KERAS_EPOCH = re.compile(r"\s*Epoch \[?(\d{1,9})/(\d{1,9})(?!\d)")
_KERAS_PAIR = re.compile(rf"([^\W\d][\w./-]{{0,99}}): ({NUMBER})")
_KERAS_LOOKS = re.compile(r"\d(?:s|ms|us)\b|ETA|\[[=>.]|━|Epoch")
_COMMA = re.compile(r", (?![-+.\d])")

TQDM = re.compile(r"(\d{1,3})%\|(?:[^|]{0,400}\|)?")
_TQDM_COUNT = re.compile(r"\s*(\d{1,12})/(\d{1,12})\s*\[")
_TQDM_RATE = re.compile(r"[\d:?]{1,12}<[^,\]]{0,20}(?:,\s*[^,\]=:]{0,40}(?:/s|s/[^,\]]{1,20}))?")
_LIGHTNING = re.compile(r"\s*Epoch \d{1,9}:?\s*\Z")
_LEAD = re.compile(
    rf"(?i)[\s*=>#-]{{0,40}}(?:\w[\w-]{{0,30}} ){{0,3}}?"
    rf"(?P<word>{PHASE}|\w{{1,20}} results?|results?|metrics|scores?|stats|summary)"
    r"(?: (?:set|data|dataset|results?|metrics|scores?|error|phase|performance))?\s?[:|>-]\s(?=\s{0,4}[^\W\d]|[\t\[])"
)
_FIRST = re.compile(rf"(?i)[\s:*,|=>-]{{0,40}}({PHASE})[ ]")
_SETTING = re.compile(
    r"\s*[\w.]{1,100}\s?=\s?[^\s,]{1,200},\s*|\s*(?:export|ENV|ARG|set) .*"
    r"|\s*(?i:(?:best |optimal |chosen )?(?:hyper-?)?param(?:eter)?s?"
    r"|hparams|arg(?:ument)?s?|config\w*|settings|options|flags|kwargs|command)\s?[:=].*"
)
"""A line of settings: ``seed=42,``, ``export LOSS=0.5``, ``params: lr=0.1``."""
_OF_BEFORE = re.compile(
    r"(?i)[\W_]{0,40}(?:successfully )?(?:(?:re)?load(?:ed|ing)|restor(?:ed|ing)|resum(?:ed|ing)|continuing"
    r"|sav(?:ed|ing)(?! dict)|(?:assertion|runtime|value|key|type)error|e\.g|example|default)\b"
)
"""A line that repeats what was measured before, as ``Loaded model.pt (epoch 10, loss 0.12)``, or measures nothing."""
_SWITCH = re.compile(r"\w\s?[:=]\s?(?:True|False|None|true|false|null)\b")
"""A setting that is on or off, as a line of results has none that does not name its step."""
_PREDICTION = re.compile(
    r"""['"](?:label|answer|sequence|token_str|word|entity|entity_group|class|prediction)['"]\s?:\s?['"]"""
)
"""A dict of what a model says of one sample: ``{'label': 'POSITIVE', 'score': 0.99}``."""
_SCORES = re.compile(rf"(\w{{1,60}})(?:: |=)\((?:train=({NUMBER}), )?test=({NUMBER})\)")


def read_keras_pairs(text: str) -> Values:
    """The pairs of a line of Keras, whatever their names."""
    found: Values = []
    sure = None
    for segment in text.split(" - "):
        for each in _COMMA.split(segment) if "," in segment else (segment,):
            pair = _KERAS_PAIR.fullmatch(each.strip())
            if pair is None:
                continue
            name, kind = pair[1], kind_of(pair[1])
            if kind is Kind.NONE:
                sure = bool(_KERAS_LOOKS.search(text)) if sure is None else sure
            if kind is not Kind.PLACE and name != "v_num" and (kind is not Kind.NONE or sure):
                found.append((name, float(pair[2])))
    return found


def has_only_keras_pairs(text: str) -> bool:
    """Whether all pairs of a line are as Keras writes them: a name without blanks, a number without a unit."""
    parts = [part.strip() for segment in text.split(" - ") for part in _COMMA.split(segment)]
    pairs = [part for part in parts if ":" in part or "=" in part]
    return bool(pairs) and all(_KERAS_PAIR.fullmatch(part) for part in pairs)


def read_tqdm(bar: re.Match[str], line: Line) -> Found:
    """A bar of tqdm: a description, the bar, and in brackets what ``set_postfix`` gives."""
    before, after = line.text[: bar.start()], line.text[bar.end() :]
    count = _TQDM_COUNT.match(after)
    body = after[count.end() :] if count else after
    postfix, bracket, tail = body.partition("]") if count else (body, "", "")
    place, rest = find_place(without_gaps(before.rstrip(": \t")))
    inner, words = find_place(_TQDM_RATE.sub("", postfix, count=1))
    at = inner if inner and not place else place
    pairs = [pair for each in (rest, words) for pair in find_pairs(without_gaps(each))[0]]
    values = as_values(chosen(pairs, placed=True, closed=True))
    done = part(int(count[1]), int(count[2])) if count else part(int(bar[1]), 100)
    phase = at.phase or phase_of(before.strip().split(" ")[0])
    found = Found(values, at, phase=phase, redrawn=True, rest=tail.strip() if bracket else "")
    if at.epoch is not None:
        from_zero = bool(_LIGHTNING.fullmatch(before))
        found.place = Place(at.epoch, at.epochs, round(done * 10**9), 10**9, from_zero=from_zero)
    elif at.step is None and count:
        tests = phase not in {"", "train"}  # its bar belongs to the epoch that was named last
        found.place = Place(batch=int(count[1]), batches=int(count[2])) if tests else Place(step=int(count[1]))
    return found


def read_boosting(found: re.Match[str], line: Line) -> Found | None:
    """A round of XGBoost or LightGBM: all columns are metrics."""
    pairs, closed = find_pairs(line.text[found.end() :])
    kept = [pair for pair in pairs if kind_of(pair.name) not in (Kind.NONE, Kind.PLACE)]
    if not kept or not closed:
        return None
    return Found(as_values(kept), Place(step=int(found[1])))


def read_catboost(found: re.Match[str], line: Line) -> Found:
    """A round of CatBoost: ``learn`` and each ``test``; what it calls best, it has shown before."""
    pairs, _ = find_pairs(line.text[found.end() :])
    return Found(
        [(pair.name, pair.value) for pair in pairs if pair.name.startswith(("learn", "test"))],
        Place(step=int(found[1])),
    )


def read_dict(_: re.Match[str], line: Line) -> Found | None:
    """A dictionary, or an object of JSON."""
    begin = dict_begin(line.text)
    if begin < 0:
        return None
    before = line.text[:begin]
    if is_of_settings(before) or _PREDICTION.search(line.text) or HELPER_MARK in line.text:  # not as the helper writes
        return Found(closed=False)
    if before.rstrip().endswith("[") and "}, {" in line.text:  # what was logged before, as trainer.state.log_history
        return Found(closed=False)
    pairs = list(dict_pairs(line.text[begin:]))
    place, words = find_place(without_gaps(before))
    said = place_of(pairs)
    step = next((said[name] for name in ("global_step", "step", "iteration", "iter") if name in said), None)
    if step is not None or "epoch" in said:
        place = Place(epoch=said.get("epoch"), step=step)
    lead = _FIRST.match(f"{words} ")
    values = as_values(
        chosen([pair for pair in pairs if not pair.name.startswith("v_num")], placed=bool(place), closed=True)
    )
    return Found(values, place, phase=place.phase or phase_of(lead[1] if lead else ""))


def read_trial(found: re.Match[str], _: Line) -> Found:
    """A trial of Optuna; of several objectives each has its number."""
    values = [float(each) for each in found[2].strip("[]").split(",")]
    names = ["value"] if len(values) == 1 else [f"value_{number}" for number in range(len(values))]
    return Found(list(zip(names, values, strict=True)), Place(step=int(found[1])))


def read_scores(_: re.Match[str], line: Line) -> Found:
    """A fit of scikit-learn's cross-validation: its scores, and none of its parameters."""
    text = line.text[line.text.rfind(";") + 1 :]
    values: Values = []
    for name, train, test in _SCORES.findall(text):
        values += [(f"train_{name}", float(train))] if train else []
        values += [(f"test_{name}", float(test))]
    if not values and (single := re.search(rf"\bscore=({NUMBER})", text)):
        values = [("score", float(single[1]))]
    return Found(values)


def read_report(found: re.Match[str], _: Line) -> Found:
    """An average of scikit-learn's classification report; the lines of its classes are left out."""
    return Found(
        [
            (f"{found[1]}_avg_{name}", float(value))
            for name, value in zip(("precision", "recall", "f1-score"), found.groups()[1:], strict=True)
        ]
    )


def read_coco(found: re.Match[str], _: Line) -> Found:
    """A line of COCO's evaluation; -1 is its word for none."""
    value = float(found[5])
    return Found([] if value < 0 else [(f"{found[1]}@{found[2]}_{found[3]}_{found[4]}", value)])


def read_one(found: re.Match[str], _: Line) -> Found:
    """A sentence with one number: the words before it are the name."""
    value = float(found[2]) if found.re.groups < 3 or found[3] is None else float(f"{found[2]}e-2")
    return Found([(spelled(found[1]), value)])


def read_box(found: re.Match[str], _: Line) -> Found | None:
    """A row of a table with a name and a number in two columns."""
    pair = Pair(found[1].strip(), float(found[2]), found[2].isdigit())
    return Found(as_values(chosen([pair], placed=False, closed=True)))


def read_table(_: re.Match[str], line: Line) -> Found | None:
    """A row of a table with titles."""
    row: Row | None = read_row(line.text, line.titles) if line.titles else None
    return None if row is None else Found(list(row.values.items()), row.place, redrawn=True)


def read_pairs(_: re.Match[str], line: Line) -> Found:
    """Pairs of a name and a number, however they are written."""
    if _SETTING.fullmatch(line.text) or _OF_BEFORE.match(line.text):
        return Found(closed=False)
    text = without_gaps(line.text)
    lead = _LEAD.match(text)
    place, rest = find_place(text[lead.end() :] if lead else text)
    pairs, closed = find_pairs(rest, placed=bool(place))
    kept = [] if not place and _SWITCH.search(rest) else chosen(pairs, placed=bool(place), closed=closed)
    if closed and not place and len(pairs) == 1:
        kept = kept or [pair for pair in pairs if _is_best(pair)]
    if closed and not kept and place.epoch is not None and len(pairs) > 1:
        kept = [pair for pair in pairs if kind_of(pair.name) is Kind.UNKNOWN and not pair.whole]
    first = _FIRST.match(rest) if kept and not lead else None
    phase = place.phase or phase_of(lead["word"] if lead else first[1] if first else "")
    return Found(as_values(kept), place, phase=phase, written=kept[0].by if kept else "", closed=closed)


def _is_best(pair: Pair) -> bool:
    """Whether a pair is the best of a metric, which counts in a line of its own: ``Best score: 0.95``."""
    first, _, name = pair.name.partition(" ")
    return first.lower() == "best" and not pair.whole and kind_of(name) in (Kind.METRIC, Kind.LIKELY)


def as_values(pairs: Iterable[Pair]) -> Values:
    """The names and numbers of pairs."""
    return [(spelled(pair.name), pair.value) for pair in pairs]
