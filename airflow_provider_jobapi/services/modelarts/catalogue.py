# SPDX-License-Identifier: Apache-2.0
"""The engines (images) and flavours (machine types) of ModelArts: list them, and choose those of a job.

A DAG names an image as other services know it, such as ``tensorflow/tensorflow:2.1.0``. The image's name is matched
with the names of ModelArts' engines and its tag with their versions, so that the same DAG runs here. The API has no
prices, so the cheapest flavour is the smallest: fewest accelerators, then fewest cores, then least memory.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from airflow_provider_jobapi.exceptions import InvalidJob, QuotaReached, TrainingError
from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.modelarts.calls import Call, as_object, maybe_number, text
from airflow_provider_jobapi.training.job import TrainingJob
from airflow_provider_jobapi.training.job_file import Resources

LIST_LIFETIME = 600.0
"""Seconds for which a list of engines or flavours is cached."""

_PLATFORM_VERSION = re.compile(r"(?:python|py|cp|cuda|cudnn|cann|ubuntu|euler(?:os)?)[-_]?\d[\d.]*")
"""Parts of an engine's version that name what it is built on, which an image's tag never means."""

_NONE_LISTED = (
    "ModelArts lists no {} for training: check that the connection's project and host are those where ModelArts is "
    "enabled, and that its user may use training there."
)

Item = TypeVar("Item")
Choice = TypeVar("Choice")


@dataclass(frozen=True, slots=True)
class ModelArtsEngine:
    """An image that ModelArts provides.

    :ivar id: A number in v1, a string in v2; kept as the service sent it.
    """

    id: Any
    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"


@dataclass(frozen=True, slots=True)
class CustomImage:
    """An image of the user in the cloud's container registry."""

    url: str


@dataclass(frozen=True, slots=True)
class Flavor:
    """A machine type.

    :ivar code: Its name, such as ``modelarts.vm.cpu.8u``.
    :ivar npus: The number of Ascend processors, for which a script must be written specially.
    :ivar memory: In megabytes.
    :ivar nodes: The most machines of this type that one job can have; None if the list does not say.
    :ivar id: Its number, ``spec_id``; v1 only.
    """

    code: str
    cpus: int
    gpus: int
    npus: int
    memory: int
    nodes: int | None
    sold_out: bool
    id: int | None = None

    def has_nodes(self, nodes: int) -> bool:
        """Whether one job can have so many machines, as far as the list says."""
        return self.nodes is None or self.nodes >= nodes

    def fits(self, resources: Resources) -> bool:
        """Whether one machine has the resources of a job."""
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


class Lists(Protocol):
    """The part of a dialect that lists engines and flavours."""

    def flavors(self) -> Call:
        """Build the request for the flavours."""

    def read_flavors(self, answer: Answer) -> list[Flavor]:
        """Parse the flavours."""

    def engines(self) -> Call:
        """Build the request for the engines."""

    def read_engines(self, answer: Answer) -> list[ModelArtsEngine]:
        """Parse the engines."""


class Catalogue:
    """Engines and flavours of one service, with a cache.

    A cached list never refuses a job: before an error is raised, the list is requested again.

    :param lists: The dialect.
    :param send: Sends a call, with retries.
    :param lifetime: Seconds for which a list is cached.
    """

    def __init__(self, lists: Lists, send: Callable[[Call], Answer], *, lifetime: float = LIST_LIFETIME) -> None:
        self._lists = lists
        self._send = send
        self._lifetime = lifetime
        self._cached: dict[str, tuple[float, Sequence[Any]]] = {}

    def engine(self, job: TrainingJob, named: str | None, default: str | None) -> ModelArtsEngine | CustomImage:
        """Return the engine for a job. An image of a registry needs no request.

        :param named: The engine in ``service_options``.
        :param default: The engine in the connection.
        :raises InvalidJob: if no engine matches; the message lists the engines.
        """
        if named is None and (image := custom_image(job.image)) is not None:
            return image
        return self._choose(
            self._lists.engines(),
            self._lists.read_engines,
            lambda engines: choose_engine(
                engines, job.image, named=named, default=default, python=job.python_major_version
            ),
        )

    def flavor(self, job: TrainingJob, named: str | None, nodes: int) -> Flavor:
        """Return the flavour for a job.

        :param named: The flavour in ``service_options``.
        :param nodes: The number of machines.
        :raises InvalidJob: if no flavour fits; the message lists the flavours.
        :raises QuotaReached: if every flavour that fits is sold out.
        """
        return self._choose(
            self._lists.flavors(),
            self._lists.read_flavors,
            lambda flavors: choose_flavor(flavors, job.resources, named, nodes),
        )

    def fitting(self, job: TrainingJob, nodes: int) -> str:
        """Describe the flavours that fit a job, for an error message; empty if the list is unavailable."""
        try:
            flavors = self._lists.read_flavors(self._send(self._lists.flavors()))
        except TrainingError:
            return ""
        return _describe(_fitting(flavors, job.resources, nodes), flavors) if flavors else ""

    def clear(self) -> None:
        """Empty the cache."""
        self._cached.clear()

    def _choose(
        self, call: Call, read: Callable[[Answer], Sequence[Item]], choose: Callable[[Sequence[Item]], Choice]
    ) -> Choice:
        asked_at, items = self._cached.get(call.path, (0.0, None))
        if items is not None and time.monotonic() - asked_at < self._lifetime:
            try:
                return choose(items)
            except (InvalidJob, QuotaReached):
                pass
        items = read(self._send(call))
        self._cached[call.path] = time.monotonic(), items
        return choose(items)


def read_engines(entries: Iterable[dict[str, Any]]) -> list[ModelArtsEngine]:
    """Parse the engines of either dialect."""
    return [
        ModelArtsEngine(each["engine_id"], text(each.get("engine_name")), text(each.get("engine_version")))
        for each in entries
        if each.get("engine_id") is not None
    ]


def custom_image(image: str) -> CustomImage | None:
    """Return the image if its first part has a dot, as a registry's name does and an engine's never does."""
    wanted = image.strip()
    return CustomImage(wanted) if "/" in wanted and "." in wanted.partition("/")[0] else None


def choose_engine(
    engines: Sequence[ModelArtsEngine],
    image: str,
    *,
    named: object = None,
    default: str | None = None,
    python: int = 3,
) -> ModelArtsEngine | CustomImage:
    """Choose the engine for a job.

    :param image: The job's image: an engine as ``name:version``, an engine's version or id, an image of a registry
        (whose first part has a dot), or an image that other services would pull.
    :param named: The engine in ``service_options``.
    :param default: The engine in the connection, for images without an exact version.
    :param python: The major version of Python, if several engines match.
    :raises InvalidJob: if none matches; the message lists the engines.
    """
    if named is not None:
        return _exact(engines, str(named)) or _no_engine(engines, f"engine {str(named)!r} in service_options")
    wanted = image.strip()
    name, _, tag = wanted.rpartition("/")[2].partition(":")
    if found := _exact(engines, wanted):
        return found
    if (custom := custom_image(wanted)) is not None:
        return custom
    matching = [each for each in engines if each.name.lower() == name.lower() and _has_version(each, tag)]
    if default and (not matching or not re.match(r"\d", tag)):
        return _exact(engines, default) or _no_engine(engines, f"engine {default!r} in the connection")
    if not matching:
        return _no_engine(engines, f"image {wanted!r} of the job")
    return max([each for each in matching if _python(each) in {python, None}] or matching, key=_version_key)


def _exact(engines: Sequence[ModelArtsEngine], wanted: str) -> ModelArtsEngine | None:
    lower = wanted.strip().lower()
    if not lower:
        return None
    return next(
        (each for each in engines if lower in {str(each).lower(), each.version.lower(), str(each.id).lower()}), None
    )


def _has_version(engine: ModelArtsEngine, tag: str) -> bool:
    found = re.match(r"\d+(\.\d+)*", tag)
    if not found:
        return True
    version = _PLATFORM_VERSION.sub("", engine.version.lower())
    return re.search(rf"(?<![\d.]){re.escape(found[0])}(?![\d])", version) is not None


def _python(engine: ModelArtsEngine) -> int | None:
    found = re.search(r"(?:python|py_?|cp)(\d)", engine.version.lower())
    return int(found[1]) if found else None


def _version_key(engine: ModelArtsEngine) -> tuple[list[int], str]:
    return [int(part) for part in re.findall(r"\d+", engine.version)], engine.version


def _no_engine(engines: Sequence[ModelArtsEngine], wanted: str) -> ModelArtsEngine:
    if not engines:
        raise InvalidJob(_NONE_LISTED.format("engines"), field="image")
    listed = ", ".join(sorted(str(each) for each in engines)[:40])
    raise InvalidJob(f"ModelArts has no engine for the {wanted}; use one of: {listed}.", field="image")


def read_v1_flavors(specs: Iterable[dict[str, Any]]) -> list[Flavor]:
    """Parse ``specs`` of v1, whose ``core`` counts cores and whose ``cpu`` is the memory in GB, both as strings."""
    return [
        Flavor(
            code=text(each.get("spec_code")),
            cpus=maybe_number(each.get("core")) or 0,
            gpus=maybe_number(each.get("gpu_num")) or 0,
            npus=_v1_npus(each),
            memory=1024 * (maybe_number(each.get("cpu")) or 0),
            nodes=maybe_number(each.get("max_num")) or None,
            sold_out=text(each.get("no_resource")) in {"true", "True", "1"},
            id=maybe_number(each.get("spec_id")),
        )
        for each in specs
        if each.get("spec_code")
    ]


def _v1_npus(spec: dict[str, Any]) -> int:
    """Ascend processors in v1, which names them in the code or in ``npu_info`` and does not count them."""
    named = re.search(r"\b(kat\d*|ascend\w*|npu|snt\d*)\b", text(spec.get("spec_code")).lower())
    return 1 if named or spec.get("npu_info") else 0


def read_v2_flavors(entries: Iterable[dict[str, Any]]) -> list[Flavor]:
    """Parse ``flavors`` of v2."""
    return [_v2_flavor(each) for each in entries if each.get("flavor_id")]


def _v2_flavor(entry: dict[str, Any]) -> Flavor:
    info = as_object(entry.get("flavor_info"))
    memory = as_object(info.get("memory"))
    size = maybe_number(memory.get("size")) or 0
    return Flavor(
        code=text(entry.get("flavor_id")),
        cpus=maybe_number(as_object(info.get("cpu")).get("core_num")) or 0,
        gpus=maybe_number(as_object(info.get("gpu")).get("unit_num")) or 0,
        npus=maybe_number(as_object(info.get("npu")).get("unit_num")) or 0,
        memory=size if text(memory.get("unit")).upper() == "MB" else 1024 * size,
        nodes=maybe_number(info.get("max_num")) or maybe_number(entry.get("max_num")) or None,
        sold_out=any(
            text(source.get(name)) in {"true", "True", "sellout", "1"}
            for source in (entry, info, as_object(entry.get("attributes")))
            for name in ("no_resource", "sold_out", "status")
        ),
    )


def choose_flavor(flavors: Sequence[Flavor], resources: Resources, named: str | None, nodes: int = 1) -> Flavor:
    """Choose the flavour for a job.

    :param named: The flavour in ``service_options``.
    :param nodes: The number of machines.
    :raises InvalidJob: if there is none with this name or none that fits; the message lists the flavours.
    :raises QuotaReached: if the flavour, or every one that fits, is sold out.
    """
    if not flavors:
        raise InvalidJob(_NONE_LISTED.format("flavours"), field="service_options")
    fitting = _fitting(flavors, resources, nodes)
    if named is not None:
        found = next((each for each in flavors if named in {each.code, str(each.id)}), None)
        if found is None:
            raise InvalidJob(
                f"ModelArts has no flavour {named!r}; {_describe(fitting, flavors)}.", field="service_options"
            )
        _check_nodes([found], nodes, f"flavour {found.code}", fitting, flavors)
        if found.sold_out:
            raise QuotaReached(f"Flavour {named} is sold out; run the task later; {_describe(fitting, flavors)}.")
        return found
    enough = [each for each in flavors if each.fits(resources)]
    if not enough:
        wanted = f"{resources.cpus} CPUs, {resources.gpus} GPUs and {resources.memory} MB"
        raise InvalidJob(
            f"No flavour of ModelArts has {wanted}; change job_resources; {_describe((), flavors)}.",
            field="job_resources",
        )
    _check_nodes(enough, nodes, "each flavour that fits", fitting, flavors)
    free = next((each for each in fitting if not each.sold_out), None)
    if free is None:
        raise QuotaReached(f"Every flavour that fits is sold out; run the task later; {_describe(fitting, flavors)}.")
    return free


def _check_nodes(
    possible: Sequence[Flavor], nodes: int, which: str, fitting: Sequence[Flavor], every: Sequence[Flavor]
) -> None:
    """Refuse more machines than one job can have, before anything is uploaded.

    :raises InvalidJob: naming the most.
    """
    if any(each.has_nodes(nodes) for each in possible):
        return
    most = max(each.nodes or 1 for each in possible)
    raise InvalidJob(
        f"The job has {nodes} nodes, and {which} has at most {most}; set fewer nodes, or another flavor in "
        f"service_options; {_describe(fitting, every)}.",
        field="nodes",
    )


def _fitting(flavors: Sequence[Flavor], resources: Resources, nodes: int) -> list[Flavor]:
    fitting = sorted((each for each in flavors if each.fits(resources)), key=_price_key)
    return [each for each in fitting if each.has_nodes(nodes)] or fitting


def _price_key(flavor: Flavor) -> tuple[int, int, int, int, str]:
    return flavor.npus, flavor.gpus, flavor.cpus, flavor.memory, flavor.code


def _describe(fitting: Sequence[Flavor], every: Sequence[Flavor]) -> str:
    shown = fitting or sorted(every, key=_price_key)
    what = "flavours that fit" if fitting else "available flavours"
    return f"{what}: {', '.join(str(each) for each in shown[:20])}"
