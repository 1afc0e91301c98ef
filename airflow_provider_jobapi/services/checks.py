# SPDX-License-Identifier: Apache-2.0
"""The checks behind the Test button of a connection: one line for each thing that was tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_jobapi.exceptions import TrainingError


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check; as a text, one line.

    :ivar subject: What was checked, such as ``Storage``.
    :ivar ok: Whether it works.
    :ivar message: What was found, or what is wrong and what to do.
    """

    subject: str
    ok: bool
    message: str

    def __str__(self) -> str:
        return f"{self.subject}: {'ok' if self.ok else 'not ok'}, {self.message}"


def run_check(subject: str, work: Callable[[], str]) -> CheckResult:
    """Run one check.

    :param work: Returns the message, or raises what is wrong.
    """
    try:
        return CheckResult(subject, True, work())
    except TrainingError as error:
        return CheckResult(subject, False, str(error))
    except Exception as error:  # noqa: BLE001 -- a form shows one line, whatever happened
        return CheckResult(subject, False, f"{type(error).__name__} during the check.")
