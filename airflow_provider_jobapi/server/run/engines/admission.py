# SPDX-License-Identifier: Apache-2.0
"""First come, first served: which waiting jobs fit into the CPUs, GPUs and memory of one machine.

A job never overtakes an earlier one, since a large job would otherwise wait for ever behind a stream of small ones.
"""

from __future__ import annotations

from collections.abc import Iterable

from airflow_provider_jobapi.server.run.engines.base import Admission, PlacementRequest
from airflow_provider_jobapi.training.job_file import Resources

_UNITS = {"cpus": ("CPU", "CPUs"), "gpus": ("GPU", "GPUs"), "memory": ("MB of memory", "MB of memory")}


def admit(
    capacity: Resources,
    placed: Iterable[PlacementRequest],
    waiting: Iterable[PlacementRequest],
    *,
    explain: bool = True,
) -> Admission:
    """Decide which jobs are placed now.

    :param capacity: What all jobs may use together.
    :param placed: The jobs that occupy some of it.
    :param waiting: The jobs that wait, in the order of their submission.
    :param explain: Whether to say why each of the others waits. Without it, those behind the first are not looked at.
    """
    total = {name: getattr(capacity, name) for name in _UNITS}
    free, free_gpus = dict(total), set(range(capacity.gpus))
    for request in placed:
        _take(free, request.resources)
        free_gpus -= set(request.gpu_ids)
    free["gpus"] = len(free_gpus)
    admission = Admission()
    ahead = 0
    for request in waiting:
        wanted = request.resources
        if _exceeded(wanted, total):
            admission.waits[request.key] = _impossible(wanted, total)
            continue
        missing = _missing(wanted, free, total)
        if ahead or missing:
            if not explain:
                break
            admission.waits[request.key] = _reason(missing, ahead)
            ahead += 1
            continue
        granted = tuple(sorted(free_gpus)[: wanted.gpus])
        free_gpus -= set(granted)
        _take(free, wanted)
        admission.granted[request.key] = granted
    return admission


def _take(free: dict[str, int], wanted: Resources) -> None:
    for name in free:
        free[name] -= getattr(wanted, name)


def _exceeded(wanted: Resources, available: dict[str, int]) -> list[str]:
    """The names of the resources of which more is wanted than available."""
    return [name for name in available if getattr(wanted, name) > available[name]]


def _count(number: int, name: str) -> str:
    return f"{number:,} {_UNITS[name][number != 1]}"


def _impossible(wanted: Resources, total: dict[str, int]) -> str:
    lacks = [(_count(getattr(wanted, name), name), f"{total[name]:,}") for name in _exceeded(wanted, total)]
    asked = ", ".join(f"{count} (this server has {has})" for count, has in lacks)
    return f"It asks for {asked}: stop it and ask for less, or start the server with more."


def _missing(wanted: Resources, free: dict[str, int], total: dict[str, int]) -> str:
    lacks = [(name, _count(getattr(wanted, name), name)) for name in _exceeded(wanted, free)]
    return ", ".join(f"{count}: {max(0, free[name]):,} of {total[name]:,} free" for name, count in lacks)


def _reason(missing: str, ahead: int) -> str:
    jobs = f"{ahead} job{'s are' if ahead > 1 else ' is'} ahead"
    parts = ([f"Waiting for {missing}"] if missing else []) + ([jobs] if ahead else [])
    return "; ".join(parts) + "."
