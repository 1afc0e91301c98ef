# SPDX-License-Identifier: Apache-2.0
"""What the Test button of a connection shows: one line for each thing that was tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_jobapi.exceptions import ConnectionProblem, TrainingError


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; as a text, one line."""

    subject: str
    good: bool
    said: str

    def __str__(self) -> str:
        return f"{self.subject}: {'ok' if self.good else 'not ok'}, {self.said}"


def attempt(subject: str, work: Callable[[], str]) -> Finding:
    """Do the work of one check; what it returns or raises is what is told."""
    try:
        return Finding(subject, True, work())
    except TrainingError as error:
        return Finding(subject, False, str(error))
    except Exception as error:  # noqa: BLE001 -- a form shows one line, whatever happened
        return Finding(subject, False, str(ConnectionProblem(f"{type(error).__name__} while trying it.")))
