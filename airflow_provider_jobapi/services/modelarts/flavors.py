# SPDX-License-Identifier: Apache-2.0
"""Which flavour of machine a job gets: the one that is named, else the cheapest that fits and is not sold out.

The API tells no prices, so the cheapest is the smallest: fewest accelerators, then fewest cores, then least memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_jobapi.exceptions import InvalidJob, QuotaReached
from airflow_provider_jobapi.services.modelarts.wire import maybe_number, text
from airflow_provider_jobapi.training.job_file import Resources


@dataclass(frozen=True, slots=True)
class Flavor:
    """A kind of machine.

    :ivar code: Its name, such as ``modelarts.vm.cpu.8u``.
    :ivar npus: Ascend processors, for which a script must be written.
    :ivar memory: In megabytes.
    :ivar nodes: The most of them that one job may have.
    """

    code: str
    cpus: int
    gpus: int
    npus: int
    memory: int
    nodes: int
    sold_out: bool

    def fits(self, resources: Resources) -> bool:
        """Whether one machine has what a job asks for."""
        # Memory is sold in GB of 1,000 or of 1,024 MB, and 8 GB shall be enough for either 8,000 or 8,192.
        return (
            not self.npus
            and self.cpus >= resources.cpus
            and self.gpus >= resources.gpus
            and self.memory >= resources.memory
        )

    def __str__(self) -> str:
        parts = [f"{self.cpus} CPUs", f"{self.memory // 1024} GB"]
        parts += [f"{self.gpus} GPUs"] if self.gpus else []
        parts += [f"{self.npus} NPUs"] if self.npus else []
        parts += ["sold out"] if self.sold_out else []
        return f"{self.code} ({', '.join(parts)})"


def read_v1(specs: Iterable[dict[str, Any]]) -> list[Flavor]:
    """Read ``specs`` of v1, whose ``core`` counts cores and whose ``cpu`` is the memory in GB, both as texts."""
    return [
        Flavor(
            code=text(each.get("spec_code")),
            cpus=maybe_number(each.get("core")) or 0,
            gpus=maybe_number(each.get("gpu_num")) or 0,
            npus=_ascend(each),
            memory=1024 * (maybe_number(each.get("cpu")) or 0),
            nodes=maybe_number(each.get("max_num")) or 1,
            sold_out=text(each.get("no_resource")) in {"true", "True", "1"},
        )
        for each in specs
        if each.get("spec_code")
    ]


def read_v2(flavors: Iterable[dict[str, Any]]) -> list[Flavor]:
    """Read ``flavors`` of v2."""
    found = []
    for each in flavors:
        info = _object(each.get("flavor_info"))
        memory = _object(info.get("memory"))
        size = maybe_number(memory.get("size")) or 0
        attributes = _object(each.get("attributes"))
        found.append(
            Flavor(
                code=text(each.get("flavor_id")),
                cpus=maybe_number(_object(info.get("cpu")).get("core_num")) or 0,
                gpus=maybe_number(_object(info.get("gpu")).get("unit_num")) or 0,
                npus=maybe_number(_object(info.get("npu")).get("unit_num")) or 0,
                memory=size if text(memory.get("unit")).upper() == "MB" else 1024 * size,
                nodes=maybe_number(info.get("max_num")) or maybe_number(each.get("max_num")) or 1,
                sold_out=any(
                    text(place.get(name)) in {"true", "True", "sellout", "1"}
                    for place in (each, info, attributes)
                    for name in ("no_resource", "sold_out", "status")
                ),
            )
        )
    return [flavor for flavor in found if flavor.code]


def choose(flavors: Sequence[Flavor], resources: Resources, named: str | None, nodes: int = 1) -> Flavor:
    """The flavour for a job.

    :param named: The one that the DAG names, if it does.
    :param nodes: On how many machines the job is to run; where no flavour has so many, ModelArts says it best.
    :raises InvalidJob: when there is none of this name, or none that fits; it lists those that do.
    :raises QuotaReached: when it, or every one that fits, is sold out.
    """
    fitting = _fitting(flavors, resources, nodes)
    if named is not None:
        found = next((each for each in flavors if each.code == named), None)
        if found is None:
            raise InvalidJob(
                f"ModelArts has no flavour {named!r}; name another one, {_list(fitting, flavors)}.",
                field="service_options",
            )
        if found.sold_out:
            raise QuotaReached(f"The flavour {named} is sold out: run the task later; {_list(fitting, flavors)}.")
        return found
    if not fitting:
        wanted = f"{resources.cpus} CPUs, {resources.gpus} GPUs and {resources.memory} MB"
        raise InvalidJob(
            f"No flavour of ModelArts has {wanted}; {_list((), flavors)}: change job_resources.", field="job_resources"
        )
    free = next((each for each in fitting if not each.sold_out), None)
    if free is None:
        raise QuotaReached(f"Every flavour that fits is sold out: run the task later; {_list(fitting, flavors)}.")
    return free


def listed(flavors: Sequence[Flavor], resources: Resources, nodes: int) -> str:
    """Which flavours fit a job, for the sentence of an error."""
    return _list(_fitting(flavors, resources, nodes), flavors)


def _fitting(flavors: Sequence[Flavor], resources: Resources, nodes: int) -> list[Flavor]:
    fitting = sorted((each for each in flavors if each.fits(resources)), key=_price)
    return [each for each in fitting if each.nodes >= nodes] or fitting


def _price(flavor: Flavor) -> tuple[int, int, int, int, str]:
    return flavor.npus, flavor.gpus, flavor.cpus, flavor.memory, flavor.code


def _list(fitting: Sequence[Flavor], every: Sequence[Flavor]) -> str:
    shown = fitting or sorted(every, key=_price)
    what = "these fit" if fitting else "there are"
    return f"{what}: {', '.join(str(each) for each in shown[:20]) or 'none'}"


def _ascend(spec: dict[str, Any]) -> int:
    """v1 names Ascend processors in the code alone, or in ``npu_info``."""
    named = re.search(r"\b(kat\d*|ascend\w*|npu|snt\d*)\b", text(spec.get("spec_code")).lower())
    return 1 if named or spec.get("npu_info") else 0


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
