# SPDX-License-Identifier: Apache-2.0
"""Take off what loggers and launchers put before a line: times, levels, names of loggers, ranks.

No pattern takes longer than linear time in the length of a line.
"""

from __future__ import annotations

import re

from airflow_provider_jobapi.training.metrics.place_in_line import phase_of

_CLOCK = r"\d{1,2}:\d{2}:\d{2}(?:[.,]\d{1,9})?"
_TIME = (
    r"(?:(?:\d{1,4}[-/.]\d{1,2}(?:[-/.]\d{1,4})?|[A-Z][a-z]{2}[ ]{1,2}\d{1,2})(?:,[ ]?|[ T_]|[ ]-[ ]))?"
    rf"{_CLOCK}"
    r"(?:[ ]?(?:Z|UTC|[AP]M|[+-]\d{2}:?\d{2})(?!\w))?"
)
_LEVEL = r"(?:TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR|CRITICAL|FATAL|SUCCESS)"

_PART = re.compile(
    rf"""(?x)
    (?P<rank> \[(?:rank[ ]?|Rank[ ]?|GPU[ ]?|gpu)\d{{1,6}}\]:? | \[\d{{1,6}},\d{{1,6}}\]<std(?:out|err)>:?
      | [Rr]ank[ ]\d{{1,6}}:
      | \[(?:worker|node|ps|chief|master|task|host|pod|default)[\w.-]{{0,40}}\]:?
      | \((?:[\w.-]{{1,60}}[ ])?pid=\d{{1,9}}[^()]{{0,60}}\) )
    | (?P<glog> [IWEF]\d{{4}}[ ]\d\d:\d\d:\d\d\.\d{{1,9}}[ ]{{1,8}}\d{{1,9}}[ ][\w./-]{{1,80}}:\d{{1,6}}\] )
    | (?P<tag> \[(?!CV\])[A-Za-z][\w-]{{0,40}}\](?=[ \t]) )
    | (?P<time> \[(?:[A-Z][ ])?{_TIME}[^\[\]]{{0,80}}\]:? | {_TIME}(?=[\s|\[,:-]|$) )
    | (?P<level> {_LEVEL}(?::(?![\s])[\w./-]{{1,80}}:|(?=[\s:|\]-]|$))
      | \[\s?(?:{_LEVEL}|(?i:info|debug|warning))\s{{0,8}}(?:[|:\s][^\[\]]{{0,80}})?\]:? )
    """
)
_NAME = re.compile(
    r"""(?x) (?:\[(?P<bracketed>[A-Za-z_][\w.:\ -]{0,80})\]:?
    | (?P<name>[A-Za-z_][\w.]{0,80}(?::[\w.<>]{1,80}){0,2})(?=[ ][|-][ ])
    | [\w./]{1,80}\.py:\d{1,6}:? | (?:line[ ])?\d{1,6}(?=[ ][|-][ ]|[ ]>>[ ])) """
)
"""The name of a logger; only after a time or a level, since it looks like that of a metric."""

_BETWEEN = re.compile(r"[ \t]{0,40}(?:(?:[-|>:]|>>|--)[ \t]{1,40})?")
_MOST_PARTS = 8
_STARTS = frozenset("0123456789[(TDINWECFSRrABCEJMO")
"""What a prefix begins with: a digit, a bracket, a level, a rank, a month."""

COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_STATES = re.compile(r"[\r\b]+")
_STATES_LIMIT = 8_192
"""Characters of a line in which its last state is looked for."""


def without_prefix(text: str) -> tuple[str, str]:
    """A line without what its logger put before it, and the loop that a logger is named after, such as ``valid``."""
    begin = text[:1]
    if begin not in _STARTS:
        return text, ""
    position, phase, named = 0, "", False
    for _ in range(_MOST_PARTS):
        found = _PART.match(text, position)
        if found is not None:
            phase = phase or phase_of((found["tag"] or "[]")[1:-1])
        elif named and (found := _NAME.match(text, position)):
            phase = phase or phase_of(found["name"] or found["bracketed"])
        if found is None:
            break
        named = True
        between = _BETWEEN.match(text, found.end())
        position = between.end() if between else found.end()
    return text[position:], phase


def last_state(text: str) -> str:
    """What a terminal shows in the end: without colours, and the last state where a bar overwrites its line."""
    if len(text) > _STATES_LIMIT:
        text = text[-_STATES_LIMIT:] if "\r" in text or "\b" in text else text[:_STATES_LIMIT]
    if "\x1b" in text:
        text = COLOUR.sub("", text)
    if "\r" in text or "\b" in text:
        return next((state for state in reversed(_STATES.split(text)) if state.strip()), "")
    return text
