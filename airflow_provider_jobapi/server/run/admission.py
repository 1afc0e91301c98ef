# SPDX-License-Identifier: Apache-2.0
"""Which job may begin: first come first served, by the CPUs, GPUs and memory that jobs ask for.

Nobody overtakes. A big job would otherwise wait for ever behind a stream of small ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from airflow_provider_jobapi.server.config import Settings
from airflow_provider_jobapi.server.store.job_record import Job
from airflow_provider_jobapi.training.job_file import Resources

_UNITS = {"cpus": ("CPU", "CPUs"), "gpus": ("GPU", "GPUs"), "memory": ("MB of memory", "MB of memory")}


@dataclass(slots=True)
class Admission:
    """What to do with the jobs that wait.

    :ivar starts: Those that may begin now, and the numbers of their GPUs.
    :ivar waits: The others, each with the sentence that says why it waits.
    """

    starts: list[tuple[Job, tuple[int, ...]]] = field(default_factory=list)
    waits: list[tuple[Job, str]] = field(default_factory=list)


def admit(settings: Settings, running: Iterable[Job], waiting: Sequence[Job]) -> Admission:
    """Decide which jobs may begin.

    :param settings: What all jobs may use together.
    :param running: The jobs that hold something.
    :param waiting: The jobs that wait, in the order of their submission.
    """
    total = {"cpus": settings.cpus, "gpus": settings.gpus, "memory": settings.memory}
    free, gpus = dict(total), set(range(settings.gpus))
    for job in running:
        _take(free, job.job_file.job.execution.resources)
        gpus -= set(job.gpu_ids)
    free["gpus"] = len(gpus)
    answer = Admission()
    ahead = 0
    for job in waiting:
        wanted = job.job_file.job.execution.resources
        if _lacking(wanted, total):
            answer.waits.append((job, _impossible(wanted, total)))
            continue
        missing = _missing(wanted, free, total)
        if ahead or missing:
            answer.waits.append((job, _reason(missing, ahead)))
            ahead += 1
            continue
        granted = tuple(sorted(gpus)[: wanted.gpus])
        gpus -= set(granted)
        _take(free, wanted)
        answer.starts.append((job, granted))
    return answer


def _take(free: dict[str, int], wanted: Resources) -> None:
    for name in free:
        free[name] -= getattr(wanted, name)


def _lacking(wanted: Resources, there: dict[str, int]) -> list[str]:
    """Of what more is wanted than is there."""
    return [name for name in there if getattr(wanted, name) > there[name]]


def _count(number: int, name: str) -> str:
    return f"{number:,} {_UNITS[name][number != 1]}"


def _impossible(wanted: Resources, total: dict[str, int]) -> str:
    lacks = [(_count(getattr(wanted, name), name), f"{total[name]:,}") for name in _lacking(wanted, total)]
    asked = ", ".join(f"{count} (this server has {has})" for count, has in lacks)
    return f"It asks for {asked}: stop it and ask for less, or start the server with more."


def _missing(wanted: Resources, free: dict[str, int], total: dict[str, int]) -> str:
    lacks = [(name, _count(getattr(wanted, name), name)) for name in _lacking(wanted, free)]
    return ", ".join(f"{count}: {max(0, free[name]):,} of {total[name]:,} free" for name, count in lacks)


def _reason(missing: str, ahead: int) -> str:
    jobs = f"{ahead} job{'s are' if ahead > 1 else ' is'} ahead"
    parts = ([f"Waiting for {missing}"] if missing else []) + ([jobs] if ahead else [])
    return "; ".join(parts) + "."
