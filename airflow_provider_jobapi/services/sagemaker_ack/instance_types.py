# SPDX-License-Identifier: Apache-2.0
"""The instance types of training jobs, and the choice of one by cpus, gpus and memory. Pure.

``instance_types.csv`` has the types of ``TrainingInstanceType`` in botocore's model of SageMaker (botocore 1.43), with
what EC2's ``DescribeInstanceTypes`` says of the type without ``ml.`` (as recorded by moto 5.2). A type that is not in
it can be named all the same.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.job_file import Resources

CHOSEN = ("m5", "c5", "r5", "g4dn", "g5", "p4d", "p4de", "p5")
"""The families that are chosen from, cheaper ones first: those that most regions have had for years. Newer ones,
burstable ones, and those whose accelerators are no GPUs, are used where a job names them."""

_MEMORY_OF_A_CPU = 10 * 1024
"""MiB that cost about as much as one CPU, by the prices of m5, c5 and r5 (2, 2 and 2 CPUs with 8, 4 and 16 GiB)."""
MIB_OF_MEGABYTE = 10**6 / 2**20


class InstanceType(NamedTuple):
    """An instance type.

    :ivar name: Such as ``ml.m5.large``.
    :ivar memory: MiB.
    :ivar gpu: The name of its GPUs, such as ``T4``; empty without any.
    """

    name: str
    cpus: int
    memory: int
    gpus: int
    gpu: str

    @property
    def family(self) -> str:
        """Such as ``m5``."""
        return self.name.split(".")[1]

    def __str__(self) -> str:
        gpus = f", {self.gpus} {self.gpu} GPU{'s' if self.gpus > 1 else ''}" if self.gpus else ""
        return f"{self.name} ({self.cpus} CPUs, {self.memory / 1024:g} GiB{gpus})"


@cache
def table() -> dict[str, InstanceType]:
    """Return the instance types by name."""
    with (Path(__file__).parent / "instance_types.csv").open(encoding="utf-8", newline="") as file:
        rows = [
            InstanceType(row["type"], int(row["cpus"]), int(row["memory_mib"]), int(row["gpus"]), row["gpu"])
            for row in csv.DictReader(file)
        ]
    return {each.name: each for each in rows}


def choose(needed: Resources) -> InstanceType:
    """Return the smallest instance type that has what a job needs: fewest GPUs, then the cheapest by family and size.

    :raises InvalidJob: when none has.
    """
    fitting = sorted((each for each in table().values() if _fits(each, needed)), key=_rank)
    if not fitting:
        largest = max(_choosable(), key=lambda each: (each.gpus >= needed.gpus, each.cpus, each.memory))
        raise InvalidJob(
            f"No instance type has {needed.cpus} CPUs, {needed.gpus} GPUs and {needed.memory:,} MB; the largest that "
            f"is chosen from is {largest}. Ask for less on each of more nodes, or name a type in "
            'service_options={"instance_type": …}.',
            field="job_resources",
        )
    return fitting[0]


def named(name: str, needed: Resources) -> str:
    """Return the instance type that a job names. One that is not in the table may have anything.

    :raises InvalidJob: when it has less than the job needs.
    """
    known = table().get(name)
    if known is not None and not _has(known, needed):
        raise InvalidJob(
            f"job_resources asks for {needed.cpus} CPUs, {needed.gpus} GPUs and {needed.memory:,} MB, and "
            f"service_options names {known}: leave one of them out.",
            field="job_resources",
        )
    return name


def default(name: str, needed: Resources) -> str:
    """Return the connection's instance type for a job that names none, if it has what the job needs; else the chosen
    one.
    """
    known = table().get(name)
    return name if name and (known is None or _has(known, needed)) else choose(needed).name


def _choosable() -> Iterable[InstanceType]:
    return (each for each in table().values() if each.family in CHOSEN)


def _fits(each: InstanceType, needed: Resources) -> bool:
    return each.family in CHOSEN and _has(each, needed)


def _has(each: InstanceType, needed: Resources) -> bool:
    return each.cpus >= needed.cpus and each.gpus >= needed.gpus and each.memory >= needed.memory * MIB_OF_MEGABYTE


def _rank(each: InstanceType) -> tuple[int, int, float]:
    family = CHOSEN.index(each.family)
    return each.gpus, family if each.gpus else 0, each.cpus + each.memory / _MEMORY_OF_A_CPU
