# SPDX-License-Identifier: Apache-2.0
"""Which engines and flavours ModelArts has: asked for where a job names one, and kept for ten minutes.

What cannot be found in a list that was kept may have come since, and what was sold out may be free again. So an old
list never refuses anything: before that it is asked for anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from airflow_provider_jobapi.exceptions import InvalidJob, QuotaReached, TrainingError
from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.modelarts import engines, flavors
from airflow_provider_jobapi.services.modelarts.engines import CustomImage, Engine
from airflow_provider_jobapi.services.modelarts.flavors import Flavor
from airflow_provider_jobapi.services.modelarts.mapping import Dialect
from airflow_provider_jobapi.services.modelarts.planning import Options
from airflow_provider_jobapi.services.modelarts.wire import Call
from airflow_provider_jobapi.training.job import TrainingJob

KEPT = 600.0
"""Seconds for which a list is good."""

Item = TypeVar("Item")
Choice = TypeVar("Choice")


class Catalogue:
    """The lists of one service.

    :param send: Sends a call, and repeats it while ModelArts is unavailable.
    """

    def __init__(self, dialect: Dialect, send: Callable[[Call], Answer]) -> None:
        self._dialect = dialect
        self._send = send
        self._lists: dict[str, tuple[float, Sequence[Any]]] = {}

    def engine(self, job: TrainingJob, options: Options, default: str | None) -> Engine | CustomImage:
        """The engine for a job; a registry's image needs no list.

        :param default: The engine that the connection names.
        :raises InvalidJob: when there is none; it lists those that there are.
        """
        if options.engine is None and (image := engines.custom(job.image)) is not None:
            return image
        return self._choose(
            self._dialect.engines(),
            self._dialect.read_engines,
            lambda there: engines.choose(
                there, job.image, named=options.engine, default=default, python=job.python_major_version
            ),
        )

    def flavor(self, job: TrainingJob, options: Options) -> Flavor:
        """The flavour for a job.

        :raises InvalidJob: when none fits; it lists those that there are.
        :raises QuotaReached: when each that fits is sold out.
        """
        return self._choose(
            self._dialect.flavors(),
            self._dialect.read_flavors,
            lambda there: flavors.choose(there, job.resources, options.flavor, options.nodes),
        )

    def fitting(self, job: TrainingJob, nodes: int) -> str:
        """Which flavours fit a job by now, for the sentence of an error; empty where that cannot be learnt."""
        try:
            there = self._dialect.read_flavors(self._send(self._dialect.flavors()))
        except TrainingError:
            return ""
        return f"; {flavors.listed(there, job.resources, nodes)}"

    def forget(self) -> None:
        """What was kept has turned out to be old."""
        self._lists.clear()

    def _choose(
        self, call: Call, read: Callable[[Answer], Sequence[Item]], choose: Callable[[Sequence[Item]], Choice]
    ) -> Choice:
        asked, kept = self._lists.get(call.path, (0.0, None))
        if kept is not None and time.monotonic() - asked < KEPT:
            try:
                return choose(kept)
            except (InvalidJob, QuotaReached):
                pass
        there = read(self._send(call))
        self._lists[call.path] = time.monotonic(), there
        return choose(there)
