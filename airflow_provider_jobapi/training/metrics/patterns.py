# SPDX-License-Identifier: Apache-2.0
"""Find metrics in log lines without definitions: the table of all rules, and how they are applied to a log.

To recognise another form of line, add a :class:`Rule` to :data:`RULES` with an example: the tests read each example,
and docs/metrics.md shows the table. A rule without a reader takes the groups of its pattern: ``name`` and ``value``,
and ``step`` or ``epoch``. No pattern here takes longer than linear time in the length of a line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_jobapi.training.metrics import rule_readers
from airflow_provider_jobapi.training.metrics.dicts import Unfinished
from airflow_provider_jobapi.training.metrics.idle_lines import is_idle
from airflow_provider_jobapi.training.metrics.line_metrics import Measured
from airflow_provider_jobapi.training.metrics.name_value_pairs import NUMBER
from airflow_provider_jobapi.training.metrics.names import spelled
from airflow_provider_jobapi.training.metrics.place_in_line import Place, phase_of
from airflow_provider_jobapi.training.metrics.place_in_log import Whereabouts, phase_in
from airflow_provider_jobapi.training.metrics.prefixes import last_state, without_prefix
from airflow_provider_jobapi.training.metrics.rule_readers import KERAS_BAR, KERAS_EPOCH, Found, Line
from airflow_provider_jobapi.training.metrics.tables import Titles, read_titles

KERAS = "keras"
TQDM = "tqdm"

LINE_LIMIT = 4_096
"""Characters of a line that are read."""


def read_groups(found: re.Match[str], _: Line) -> Found:
    """Take name, value, step and epoch from the groups of a rule's own pattern."""
    groups = found.groupdict()
    place = Place(epoch=_float(groups.get("epoch")), step=_float(groups.get("step")))
    return Found([(spelled(groups["name"]), float(groups["value"]))], place)


@dataclass(frozen=True, slots=True)
class Rule:
    """One form of line that is recognised.

    :ivar name: What the facts of a training call it.
    :ivar printed_by: Who prints such lines.
    :ivar example: Such a line, after the lines that it needs before it.
    :ivar pattern: Finds the lines that the rule may read.
    :ivar read: Reads one; None where it is none in the end, so that the next rule is asked.
    :ivar anywhere: Whether the pattern is searched in the whole line and not at its beginning alone.
    :ivar holds: What stands in each such line, which is looked for before the pattern is, since that is quicker.
    """

    name: str
    printed_by: str
    example: str
    pattern: re.Pattern[str]
    read: Callable[[re.Match[str], Line], Found | None] = read_groups
    anywhere: bool = False
    holds: str = ""


RULES = (
    Rule(
        TQDM,
        "tqdm, and Lightning, which counts epochs from 0",
        "Epoch 3:  45%|███  | 18/40 [00:01<00:01, 30it/s, v_num=0, train_loss=0.2]",
        rule_readers.TQDM,
        rule_readers.read_tqdm,
        anywhere=True,
        holds="%|",
    ),
    Rule(
        "boosting",
        "XGBoost, LightGBM",
        "[10]\tvalidation_0-rmse:0.85123\tvalidation_1-rmse:0.90211",
        re.compile(r"\[(\d{1,12})\]\t"),
        rule_readers.read_boosting,
        holds="]\t",
    ),
    Rule(
        "catboost",
        "CatBoost",
        "7:\tlearn: 0.6812\ttest: 0.6900\tbest: 0.6900 (7)\ttotal: 50ms\tremaining: 49s",
        re.compile(r"(\d{1,12}):\t(?=learn|test)"),
        rule_readers.read_catboost,
        holds=":\t",
    ),
    Rule(
        "optuna",
        "Optuna",
        "[I 2026-11-30 08:00:00,123] Trial 3 finished with value: 0.25 and parameters: {'x': 1.5}.",
        re.compile(rf"Trial (\d{{1,12}}) finished with values?: (\[[\d., eE+-]{{1,400}}\]|{NUMBER})"),
        rule_readers.read_trial,
        holds="Trial ",
    ),
    Rule(
        "cross-validation",
        "scikit-learn's GridSearchCV and its cross-validation",
        "[CV 1/5] END .......................C=1, kernel=rbf;, score=0.960 total time=   0.0s",
        re.compile(r"\[CV[^\]]{0,60}\].{0,40}(?:END|score=)"),
        rule_readers.read_scores,
        holds="[CV",
    ),
    Rule(
        "classification report",
        "scikit-learn's classification report; lines of classes are left out",
        "   macro avg       0.97      0.96      0.95     10000",
        re.compile(r"\s{0,60}(macro|micro|weighted|samples) avg" + r"\s{1,40}([\d.]{1,9})" * 3 + r"\s{1,40}\d"),
        rule_readers.read_report,
        holds=" avg",
    ),
    Rule(
        "coco",
        "pycocotools",
        " Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.376",
        re.compile(
            r"\s?Average (?:Precision|Recall)\s{1,4}\((AP|AR)\) @\[ IoU=([\d.:]{1,20})\s{0,8}\| area=\s{0,8}(\w{1,20}) "
            r"\| maxDets=\s{0,8}(\d{1,9}) \] = (-?[\d.]{1,20})"
        ),
        rule_readers.read_coco,
        holds="Average ",
    ),
    Rule(
        "accuracy of a network",
        "PyTorch's tutorials",
        "Accuracy of the network on the 10000 test images: 55 %",
        re.compile(
            r"((?:[A-Z][a-z]{1,12} )?[Aa]ccuracy (?:of|on|for) [^:%=]{1,80}?)(?:: ?| is )(\d{1,3}(?:\.\d{1,9})?) ?(%)"
        ),
        rule_readers.read_one,
        holds="ccuracy ",
    ),
    Rule(
        "function value",
        "SciPy, statsmodels",
        "         Current function value: 0.3512",
        re.compile(rf"\s{{0,40}}(?P<name>Current function value): (?P<value>{NUMBER})\s*\Z"),
        holds="Current function value: ",
    ),
    Rule(
        "value = name",
        "AutoGluon",
        "\t0.8512\t = Validation score   (accuracy)",
        re.compile(rf"\s{{1,20}}(?P<value>{NUMBER})\s{{1,8}}=\s(?P<name>Validation score\s{{1,4}}\([\w-]{{1,40}}\))"),
        holds="Validation score",
    ),
    Rule(
        "box",
        "Lightning, Stable-Baselines3, and others that print two columns",
        "│         test_acc          │    0.9700000286102295     │",
        re.compile(
            rf"\s{{0,40}}[|│┃]\s{{0,60}}([^\W\d][^|│┃=:]{{0,99}}?)\s{{0,60}}[|│┃]\s{{0,60}}({NUMBER})\s{{0,60}}[|│┃]?\s*\Z"
        ),
        rule_readers.read_box,
    ),
    Rule(
        "dict",
        "transformers' Trainer, evaluate, structlog: a dict or an object of JSON",
        "{'loss': 0.4112, 'grad_norm': 1.25, 'learning_rate': 4.5e-05, 'epoch': 0.5}",
        re.compile(r"\{['\"]"),
        rule_readers.read_dict,
        anywhere=True,
        holds="{",
    ),
    Rule(
        "name=number",
        "scripts, loggers, TensorFlow's Estimators (`loss = 27.19, step = 1`)",
        "epoch=3 step=120 loss=0.25 lr=1e-3",
        re.compile("="),
        rule_readers.read_pairs,
        anywhere=True,
        holds="=",
    ),
    Rule(
        "name: number",
        "scripts, Detectron2, mmengine, PyTorch's examples",
        "Train Epoch: 2 [6400/60000 (11%)]\tLoss: 0.873",
        re.compile(":"),
        rule_readers.read_pairs,
        anywhere=True,
        holds=":",
    ),
    Rule(
        "name number",
        "nanoGPT, fairseq, PyTorch's ImageNet example",
        "step 250: train loss 1.9630, val loss 2.0577",
        re.compile(r"\d"),
        rule_readers.read_pairs,
        anywhere=True,
    ),
)
"""All forms of line, in the order in which they are tried; tables come before them, and bars of Keras before all."""

TABLE = Rule(
    "table",
    "fastai, Ultralytics' YOLO, scikit-learn's gradient boosting",
    "epoch     train_loss  valid_loss  accuracy  time\n0         0.512345    0.412345    0.812000  00:12",
    re.compile(r"[\s|│┃]{0,60}[\w/#.-]{1,20}[\s|│┃,]"),
    rule_readers.read_table,
)
KERAS_RULE = Rule(
    KERAS,
    "Keras 2 and 3",
    "Epoch 3/10\n1875/1875 - 2s - 1ms/step - accuracy: 0.88 - loss: 0.43",
    KERAS_BAR,
)
ALL_RULES = (KERAS_RULE, TABLE, *RULES)

_WRITTEN = {"=": "name=number", ":": "name: number", " ": "name number"}
_ALONE = re.compile(r"[\W_]*(?:Epoch|EPOCH|epoch)\s?[:#]?\s?[\[(]?\d{1,9}(?:\s?(?:/|of)\s?\d{1,9})?[\])]?[\W_]*\Z")
_VALUES = re.compile(r"\d|(?i:nan|inf)")
_TITLE = re.compile(r"(?i)\b(?:results?|metrics|summary|evaluation|report)\b")
_PHASE_TITLE = re.compile(
    r"(?i)[\W_]{0,40}(?:running |begin |start |starting )?(train\w*|valid\w*|val|test\w*|eval\w*)"
    r"(?: \w{1,20}){0,3}[\W_]*\Z"
)
_CALL_BEGIN = re.compile(r"[\s\w.=:]{0,120}?\w\((?:[^()]|\([^()]{0,200}\))*,?\s*\Z")
_CALL_ROW = re.compile(r"\s*(?:[\w.'\"]{1,100}\s?[=:]\s?.*)?[,(\[{]\s*\Z|\s*[)\]}]+,?\s*\Z|\s*[\w.]{1,100}=.*\)\s*\Z")
_SOURCE = re.compile(r'\s*File "[^"]*", line \d')
_BEST_NEXT = re.compile(r"(?i)best iteration(?: is)?:?\s*\Z")
_MOST_BETWEEN = 20
"""Lines between two rows of a table."""


class LinePatterns:
    """Finds metrics in the lines of one log, in their order: ``Epoch 3/10`` applies to the lines after it."""

    def __init__(self) -> None:
        self._at = Whereabouts()
        self._titles: Titles | None = None
        self._since_titles = 0
        self._summary = False
        self._in_call = False
        self._skip = False
        self._dict = Unfinished()

    def read(self, text: str) -> Measured:
        """Find the metrics of a line."""
        line = last_state(text) if "\x1b" in text or "\r" in text or "\b" in text else text
        cut = len(line) > LINE_LIMIT
        line = _shortened(line) if cut else line
        return self._read_keras(line) or self._read_other(line, cut=cut)

    def inherited(self) -> float | None:
        """The step of a line that does not say where the training is."""
        return self._at.inherited()

    def _read_keras(self, line: str) -> Measured | None:
        """Read a line as those of Keras; None where it is none, or measures nothing as such."""
        bar, epoch = KERAS_BAR.match(line), None
        if bar is None and (epoch := KERAS_EPOCH.match(line)) is not None and _is_of_keras(line, epoch):
            self._at.begin(int(epoch[1]), again=not line[epoch.end() :].strip())
            self._summary, self._at.phase = False, ""
        elif bar is None or self._titles is not None:
            return None
        count = None if bar is None else (bar[1], bar[2])
        values = dict(rule_readers.read_keras_pairs(line)) if ": " in line else {}
        step = self._at.of_keras(count)
        evaluates = self._at.evaluates(count)
        if evaluates:
            values = {f"evaluate_{name}": value for name, value in values.items()}
        if not values and bar is not None:
            return None
        return Measured(values, step, KERAS if values else "", self._at.loop, redrawn=bar is not None)

    def _read_other(self, line: str, *, cut: bool) -> Measured:
        if self._passes_over(line):
            return self._measured({}, Found(closed=False), "")
        if not (self._summary or self._titles or self._dict.pending) and is_idle(line):
            return Measured({}, None, loop=self._at.loop)
        rest, phase = without_prefix(line)
        if rest is not line and (measured := self._read_keras(rest)):
            return measured
        if self._dict.pending or not cut:
            rest = self._dict.feed(rest) or rest
        if self._dict.pending or not _VALUES.search(rest):
            self._read_words(rest)
            return Measured({}, None, loop=self._at.loop)
        rule, found = self._ask(Line(rest, self._titles))
        if found.rest and not found.values:
            rule, found = self._ask(Line(found.rest))
        if not found.values and not found.place and self._read_titles(rest):
            return Measured({}, None, loop=self._at.loop)
        if self._at.goes_on(found.place, measures=bool(found.values)):
            self._at.phase = ""
        values = self._at.named(found.values, found.phase or phase or self._at.phase) if found.values else {}
        return self._measured(values, found, rule, rest)

    def _ask(self, line: Line) -> tuple[str, Found]:
        if self._titles is not None:
            self._since_titles += 1
            if (match := TABLE.pattern.match(line.text)) and (found := TABLE.read(match, line)):
                self._since_titles = 0
                return TABLE.name, found
            if self._since_titles > _MOST_BETWEEN:
                self._titles = None
        for rule in RULES:
            if rule.holds not in line.text:
                continue
            match = rule.pattern.search(line.text) if rule.anywhere else rule.pattern.match(line.text)
            if match is not None and (found := rule.read(match, line)) is not None:
                return _WRITTEN.get(found.written, rule.name), found
        return "", Found(closed=False)

    def _measured(self, values: dict[str, float], found: Found, rule: str, line: str = "") -> Measured:
        if found.place.epoch is not None and not values and _ALONE.match(line):
            self._at.begin(found.place.epoch, again=True)
            self._summary, self._at.phase = False, ""
        step = self._at.step_of(found.place) if found.place else None
        inherited = bool(values) and step is None
        if inherited:
            step = self._at.inherited()
        if not values:
            self._read_words(line)
        self._summary = summary = self._summary and not (values and found.place)
        if not found.closed and not values:
            self._summary = summary = summary and bool(_TITLE.search(line))
        validated = None
        if rule == TQDM:
            validated = self._at.validated(found.place, step, shown=any(phase_in(each) == "val" for each in values))
        name = rule if values else ""
        return Measured(values, step, name, self._at.loop, inherited, found.redrawn, summary, validated)

    def _read_words(self, line: str) -> None:
        """Read a line without values as a title: of a table, of a loop, of results; or as the beginning of a call."""
        if not line.strip() or len(line) > 400:
            return
        if self._read_titles(line):
            return
        if _TITLE.search(line):
            self._summary = True
        if title := _PHASE_TITLE.match(line):
            self._at.phase = phase_of(title[1])
        self._skip = bool(_BEST_NEXT.search(line) or _SOURCE.match(line))
        self._in_call = bool(_CALL_BEGIN.match(line))

    def _read_titles(self, line: str) -> bool:
        titles = read_titles(line) if len(line) < 1_000 else None
        if titles is not None:
            self._titles, self._since_titles = titles, 0
        return titles is not None

    def _passes_over(self, line: str) -> bool:
        """Whether a line is the rest of settings, of a traceback, or repeats what was printed before."""
        if line.startswith("wandb:"):
            return True
        if self._skip:
            self._skip = False
            return True
        if self._in_call and _CALL_ROW.match(line):
            self._in_call = not line.rstrip().endswith(")")
            return True
        self._in_call = False
        return False


def _shortened(line: str) -> str:
    """The beginning of a line, up to its last whole word."""
    words = line[:LINE_LIMIT].rsplit(None, 1)
    return words[0] if len(words) > 1 else ""


def _is_of_keras(line: str, epoch: re.Match[str]) -> bool:
    rest = line[epoch.end() :].strip()
    return not rest or (rest.startswith("- ") and rule_readers.has_only_keras_pairs(rest))


def _float(digits: str | None) -> float | None:
    return None if digits is None else float(digits)


def documented() -> list[tuple[Rule, Measured]]:
    """Each rule with what it reads of its example."""
    read = []
    for rule in ALL_RULES:
        patterns = LinePatterns()
        *before, last = rule.example.split("\n")
        for line in before:
            patterns.read(line)
        read.append((rule, patterns.read(last)))
    return read
