# SPDX-License-Identifier: Apache-2.0
"""What the two dialects of ModelArts' API have in common: the questions that the service asks, and the answers' shape.

A dialect builds calls and reads answers; it sends nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from airflow_provider_jobapi.exceptions import BrokenContract, InvalidJob
from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.base import Handle
from airflow_provider_jobapi.services.modelarts.engines import CustomImage, Engine
from airflow_provider_jobapi.services.modelarts.flavors import Flavor
from airflow_provider_jobapi.services.modelarts.wire import Call
from airflow_provider_jobapi.training.status import JobState, JobStatus

SEARCH_PAGE = 50
"""Jobs of one page of a search; our id is in the name of at most one of them."""


@dataclass(frozen=True, slots=True)
class Key:
    """By which ModelArts knows a job.

    :ivar version: v1 only; a job there is one or more versions, and each of ours is one.
    """

    id: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a job is made of, in neither dialect.

    :ivar code: The folder of the code in OBS, ``/bucket/key/``; so are ``data`` and ``output``.
    :ivar boot_file: The name of the boot file in it.
    :ivar flavor: None where ``more`` says where the job runs.
    :ivar engine: None where ``more`` says it.
    :ivar env: Names as the DAG gives them, and values; a script gets them as ``--name=value``.
    :ivar more: What the DAG asks for besides, in the API's own words.
    """

    name: str
    description: str
    workspace_id: str
    code: str
    boot_file: str
    data: str
    output: str
    engine: Engine | CustomImage | None
    flavor: str | None
    nodes: int
    env: tuple[tuple[str, str], ...]
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """What reaches the script as ``--name=value``, the name in lower case."""
        return [(name.lower(), value) for name, value in self.env]


@dataclass(frozen=True, slots=True)
class Named:
    """Which of our own choices a DAG's options replace."""

    flavor: bool
    engine: bool


@dataclass(frozen=True, slots=True)
class Found:
    """A job that a search found."""

    key: Key
    name: str
    description: str


@dataclass(frozen=True, slots=True)
class Details:
    """Where a job stands.

    :ivar word: The service's own word for the state.
    :ivar nodes: On how many machines it runs.
    :ivar train_url: The folder of OBS that its output goes to.
    :ivar tasks: Whose logs there are; empty where they have to be asked for.
    """

    status: JobStatus
    word: str
    nodes: int
    train_url: str
    tasks: tuple[str, ...] = ()

    @property
    def over(self) -> bool:
        """Whether there is nothing left to stop: the job has ended, or is about to since somebody stops it."""
        return self.status.status.ended or self.status.stopping


class Dialect(Protocol):
    """One of the two APIs."""

    version: str

    def flavors(self) -> Call:
        """Ask for the flavours."""

    def read_flavors(self, answer: Answer) -> list[Flavor]:
        """The flavours."""

    def engines(self) -> Call:
        """Ask for the engines."""

    def read_engines(self, answer: Answer) -> list[Engine]:
        """The engines."""

    def check(self, more: Mapping[str, Any]) -> Named:
        """Which of our own choices the DAG's options, in the API's own words, replace.

        :raises InvalidJob: for one that cannot be.
        """

    def create(self, plan: Plan) -> Call:
        """Create a job."""

    def read_created(self, answer: Answer) -> Key:
        """The job that was created."""

    def search(self, job_id: str, workspace_id: str, page: int) -> Call:
        """Search for the jobs whose name holds our id."""

    def read_search(self, answer: Answer) -> Sequence[Found]:
        """One page of what was found."""

    def details(self, key: Key) -> Call:
        """Ask where a job stands."""

    def read_details(self, answer: Answer) -> Details:
        """Where it stands."""

    def stop(self, key: Key) -> Call:
        """Stop a job."""

    def delete(self, key: Key) -> Call:
        """Delete a job."""

    def logs(self, key: Key) -> Call | None:
        """Ask whose logs there are; None where the details tell it."""

    def read_logs(self, answer: Answer) -> tuple[str, ...]:
        """Whose logs there are."""

    def tail(self, key: Key, log: str, lines: int) -> Call:
        """Ask for the end of a log."""

    def read_tail(self, answer: Answer) -> tuple[str, ...]:
        """The lines of it, oldest first; they may be more than were asked for."""


def dialect_of(name: str) -> Dialect:
    """The dialect of this name.

    :raises BrokenContract: when there is none.
    """
    from airflow_provider_jobapi.services.modelarts.mapping_v1 import V1
    from airflow_provider_jobapi.services.modelarts.mapping_v2 import V2

    dialects: dict[str, type[V1 | V2]] = {"v1": V1, "v2": V2}
    if name not in dialects:
        raise BrokenContract(f"ModelArts has no dialect {name[:20]!r}, only v1 and v2.")
    return dialects[name]()


def key_of(handle: Handle) -> tuple[Dialect, Key]:
    """In which dialect a job is spoken of, whatever the connection says by now, and by which key.

    :raises BrokenContract: when the handle is none of ModelArts.
    """
    version = str(handle.get("version_id") or "") if isinstance(handle, dict) else ""
    return dialect_of(text_of(handle, "dialect")), Key(text_of(handle, "modelarts_id"), version)


def text_of(handle: Handle, name: str) -> str:
    """A text that a handle must hold.

    :raises BrokenContract: when it does not.
    """
    value = handle.get(name) if isinstance(handle, dict) else None
    if not isinstance(value, str) or not value:
        raise BrokenContract(f"The handle {handle!r} is none of ModelArts; it holds a {name}.")
    return value


def finished(state: JobState, begun: datetime | None, duration: int | None) -> datetime | None:
    """When a job ended, where that can be told.

    :param duration: In milliseconds.
    """
    if not state.ended or begun is None or duration is None:
        return None
    return begun + timedelta(milliseconds=max(0, duration))


def refuse_reserved(body: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    """Refuse what only we may say, since a job is found again by it.

    :raises InvalidJob: naming it.
    """
    for name in names:
        if name in body:
            raise InvalidJob(
                f"service_options cannot set {where}{name}: the job is found again by it; remove it.",
                field="service_options",
            )


def part(options: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object inside of the options.

    :raises InvalidJob: when it is none.
    """
    value = options.get(name, {})
    if not isinstance(value, Mapping):
        raise InvalidJob(
            f"service_options has {name!r} as a {type(value).__name__}; it is an object.", field="service_options"
        )
    return value


def without_nothing(body: Mapping[str, Any]) -> dict[str, Any]:
    """A request without the fields that the DAG's options take away by naming them null."""
    return {
        name: without_nothing(value) if isinstance(value, Mapping) else value
        for name, value in body.items()
        if value is not None
    }
