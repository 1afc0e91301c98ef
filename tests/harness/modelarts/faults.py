# SPDX-License-Identifier: Apache-2.0
"""Faults of the double, and switches for points on which the API's documents contradict each other."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

FAULTS: dict[str, dict[str, Any]] = {
    # Faults of the wire. `path` is a regular expression over "METHOD /path?query".
    "lost_answer": {"path": r"^POST .*/training-jobs$", "times": 1, "every": 1},
    "too_many_requests": {"path": r"/v[12]/", "every": 3, "retry_after": 1, "times": None},
    "unavailable": {"path": r"/v[12]/", "times": 1, "retry_after": None},
    "bad_gateway": {"path": r"/v[12]/", "times": 1},  # something in between answers, with HTML
    "refusal": {"path": r"/v[12]/", "status": 400, "code": "3976", "message": "No resources.", "times": 1},
    "slow": {"path": "", "seconds": 1.0, "times": None},
    # Faults of IAM: invalid tokens, a changed password, tokens with a short lifetime.
    "expired_token": {"status": 401},
    "new_password": {"password": "another password of the user"},
    "token_life": {"seconds": 86400},
    "no_agency": {"code": "0428"},  # or 2785, which is a 403
    # Faults of the training service.
    "quota": {"jobs": 0},
    "code_limits": {"files": 1000, "depth": 32, "bytes": 5 * 1024**3},
    "sold_out": {"flavor": None, "seconds": None},
    "status": {"job": None, "code": 14},
    "deleted": {"job": None},
    "no_job_list": {},  # the procedure of the documents has none
    "listed_late": {"seconds": 2.0},  # how old a job is before a list shows it
    "late_lines": {"seconds": 1.0, "last": None},
    "preview_limit": {"bytes": 1000},  # v2: how much of a log a preview shows
    "no_log_pages": {},  # v2: a region without logs by page, as Open Telekom Cloud documents it
    # Points that the documents leave open or on which they contradict each other.
    "string_numbers": {},  # 2 and 4
    # What base_line and end_line mean: inclusive, exclusive, half_open, ignored, constant, refused.
    "cursors": {"mode": "exclusive"},
    "directions": {"flipped": True},  # v1 with the order of v2: asc from old to new, desc from new to old
    "empty_base_line": {"asc": "latest"},  # the reference: always the latest; seen in production: asc is the head
    "separator": {"text": "\n"},  # 5
    "error_key": {"name": "error_msg"},  # 8
    "log_file_list": {"as_string": True},  # 9
    "flavor_field": {"takes": "spec_id", "code": "0104"},  # 1: v1 takes spec_id alone, or "flavor" alone, or "neither"
    "soft_failures": {},  # 11
    "not_found": {"status": 404},
}


class Faults:
    """The faults that are on, kept in a file."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._on: dict[str, dict[str, Any]] = json.loads(place.read_text()) if place.exists() else {}

    def switch_on(self, fault: str, how: dict[str, Any]) -> dict[str, Any]:
        """Switch a fault on and return its options."""
        if fault not in FAULTS:
            raise ValueError(f"There is no fault {fault!r}, only {', '.join(FAULTS)}.")
        if unknown := set(how) - set(FAULTS[fault]):
            raise ValueError(f"{fault} takes {sorted(FAULTS[fault])}, not {sorted(unknown)}.")
        self._on[fault] = FAULTS[fault] | how | {"since": time.time(), "seen": 0}
        self._keep()
        return self._on[fault]

    def switch_off(self, fault: str | None = None) -> None:
        """Switch a fault off, or all."""
        if fault is None:
            self._on.clear()
        else:
            self._on.pop(fault, None)
        self._keep()

    def get(self, fault: str) -> dict[str, Any] | None:
        """Return the options of a fault; None if it is off."""
        return self._on.get(fault)

    def option(self, fault: str, name: str, otherwise: Any) -> Any:
        """Return one option of a fault, or a default if it is off."""
        found = self._on.get(fault)
        return otherwise if found is None else found[name]

    def strikes(self, fault: str, line: str) -> dict[str, Any] | None:
        """Whether a network fault applies to a request; counts the request."""
        how = self._on.get(fault)
        if how is None or not re.search(how["path"], line):
            return None
        how["seen"] += 1
        struck = how["seen"] % how.get("every", 1) == 0
        if struck and how["times"] is not None:
            how["times"] -= 1
            if how["times"] <= 0:
                del self._on[fault]
        self._keep()
        return how if struck else None

    def sold_out(self, flavor: str) -> bool:
        """Whether a flavour is sold out now: for so many seconds, or until the fault is switched off."""
        how = self._on.get("sold_out")
        if how is None or how["flavor"] not in {None, flavor}:
            return False
        return how["seconds"] is None or time.time() < how["since"] + how["seconds"]

    def _keep(self) -> None:
        write_json(self._place, self._on)


def write_json(place: Path, value: Any) -> None:
    """Write a JSON file in one step."""
    aside = place.with_name(f"{place.name}.new")
    aside.write_text(json.dumps(value))
    aside.replace(place)
