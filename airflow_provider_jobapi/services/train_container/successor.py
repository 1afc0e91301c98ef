# SPDX-License-Identifier: Apache-2.0
"""The successor image of a train: its export files on a named base, or all that it has changed on its own image.

Neither is made of the train's container itself. What an engine commits has the container's environment and command in
its configuration, and so the station's secrets. So a new container is created of the base, gets the files, and is
committed without having been started. With ``commit`` the files are the export files and those in which the container
differs from its image: regular files only, and nothing of the station's data. What the train has deleted stays in the
successor, since a file can be deleted in a container that runs only.

An image without an entry point and without a command cannot be committed without one; its successor has
``print_model_summary`` as its default command.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from airflow_provider_jobapi.exceptions import BrokenContract, InvalidJob
from airflow_provider_jobapi.services.train_container import names
from airflow_provider_jobapi.services.train_container.changes import changes_of
from airflow_provider_jobapi.services.train_container.commands import Command
from airflow_provider_jobapi.services.train_container.connection import LARGEST_EXPORT
from airflow_provider_jobapi.services.train_container.engine import Engine
from airflow_provider_jobapi.services.train_container.errors import ImageMissing
from airflow_provider_jobapi.services.train_container.exports import Export, check_room, measured, opened
from airflow_provider_jobapi.services.train_container.images import LOCAL, Images
from airflow_provider_jobapi.services.train_container.responses import ResponseProblem
from airflow_provider_jobapi.services.train_container.states import ContainerState
from airflow_provider_jobapi.services.train_container.tags import ImageName, check_next_tag, read_image
from airflow_provider_jobapi.services.train_container.vocabulary import RunResult

Mode = Literal["rebase", "commit"]


@dataclass(frozen=True, slots=True)
class Successor:
    """A successor image.

    :ivar image: Its name, with its first tag.
    :ivar tags: All of its tags.
    :ivar image_id: The engine's own id.
    :ivar digest: As the registry has it; empty where it was not pushed.
    :ivar parent: The train's image.
    :ivar notes: Sentences for the log.
    """

    image: str
    tags: tuple[str, ...]
    image_id: str
    digest: str
    mode: Mode
    parent: str
    parent_digest: str
    files: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as a task's result has it."""
        return {
            "image": self.image,
            "tags": list(self.tags),
            "digest": self.digest or None,
            "image_id": self.image_id,
            "mode": self.mode,
            "parent": self.parent,
            "parent_digest": self.parent_digest or None,
            "files": list(self.files),
        }


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a successor is to be made; by default as the train says.

    :ivar mode: ``rebase`` or ``commit``; by default ``rebase`` where the train names a base.
    :ivar base: The image to put the export files onto.
    :ivar repository: The repository of the successor; by default that of the train.
    :ivar tags: Its tags.
    :ivar push: Whether it is pushed to the repository's registry.
    :ivar largest: Bytes of all files together; by default what the connection says.
    :ivar hide: Hides the station's secrets in a text; by default all values that the station gave to the train. A name
        that the train gives and that has one is refused, since it would leave the station, and stand in results and
        events.
    """

    mode: Mode | None = None
    base: str | None = None
    repository: str | None = None
    tags: Sequence[str] = ()
    push: bool = False
    largest: int | None = None
    hide: Callable[[str], str] | None = None

    @property
    def bound(self) -> int:
        """Bytes of all files together."""
        return LARGEST_EXPORT if self.largest is None else self.largest

    def hidden(self, text: str) -> str:
        """Return a text without secrets."""
        return text if self.hide is None else self.hide(text)

    def check(self, train: str) -> None:
        """Refuse names that no image can have, and a push to where nothing can be pushed, before a train is run.

        :param train: The train's image.
        :raises InvalidJob: naming the parameter.
        """
        given = (("tags", self.tags), ("base", self.base and [self.base]), ("repository", [self.repository or train]))
        for name, texts in given:
            if wrong := [each for each in texts or () if not isinstance(each, str)]:
                raise InvalidJob(f"{name} cannot be {str(wrong[0])[:80]!r}: it is a text.", field=name)
        try:
            for tag in self.tags:
                check_next_tag(tag, "A tag of tags")
        except ResponseProblem as problem:
            raise InvalidJob(str(problem), field="tags") from None
        for name, image in (("base", self.base), ("repository", self.repository)):
            if image:
                read_image(image, name)
        if self.push and (self.repository or train).startswith(LOCAL):
            raise InvalidJob(
                f"The successor of {train} cannot be pushed, since {LOCAL} is no registry: give its repository, such "
                "as registry.example.com/trains/bmi, or set push to False.",
                field="repository",
            )


def make_successor(
    engine: Engine,
    train: ContainerState,
    answer: RunResult,
    wanted: Wanted,
    images: Images,
) -> Successor:
    """Make the successor image of an ended container, and push it where that is wanted.

    It may be called again: an image that was made of the same files is not made again, so its digest stays.

    :param train: The ended container.
    :param images: Pulls the base where the engine does not have it, and knows the users of registries.
    :raises ResponseProblem: when what the train says cannot be done.
    :raises ConnectionProblem: when the registry refuses us.
    """
    _check_secrets(answer, wanted)
    parent = train.labels.get(names.IMAGE) or train.image_id
    name = _named(parent, answer, wanted)
    mode: Mode = wanted.mode or ("rebase" if answer.base or wanted.base else "commit")
    base, files, notes = _contents(engine, train, answer, wanted, mode)
    if mode == "rebase":
        _ensure_base(engine, images, base, parent, wanted)
    image_id = _build(engine, train, base, files, _labels(train, parent, mode), name[0])
    for tag in name[1:]:
        engine.tag(image_id, tag.repository, tag.tag)
    return Successor(
        image=str(name[0]),
        tags=tuple(each.tag for each in name),
        image_id=image_id,
        digest=_pushed(engine, name, images) if wanted.push else "",
        mode=mode,
        parent=parent,
        parent_digest=train.labels.get(names.IMAGE_DIGEST, ""),
        files=tuple(each.path for each in files),
        notes=tuple(map(wanted.hidden, notes)),
    )


def _pushed(engine: Engine, tags: Sequence[ImageName], images: Images) -> str:
    """Push an image under each of its names; returns its digest, which the registry makes of its content."""
    digest = ""
    for tag in tags:
        digest = engine.push(tag.repository, tag.tag, images.auth(tag.repository)) or digest
    return digest or _digest_of_pushed(engine, tags[0])


def _check_secrets(answer: RunResult, wanted: Wanted) -> None:
    said = {
        "next_train_tag": () if wanted.tags else answer.next_train_tag,
        "rebase": () if wanted.base else filter(None, [answer.base]),
        "export_files": answer.export_files,
    }
    for field, texts in said.items():
        if any(wanted.hidden(text) != text for text in texts):
            raise _has_secret("The train's response has", field)


def _has_secret(what: str, where: str) -> ResponseProblem:
    return ResponseProblem(
        f"{what} a secret of the station in {where}, which would leave the station as a name: look at what it does, or "
        "give it no such secret."
    )


def _named(parent: str, answer: RunResult, wanted: Wanted) -> list[ImageName]:
    """Return the names of the successor: the train's repository, or the one that is wanted, with each next tag."""
    tags = list(wanted.tags) or list(answer.next_train_tag)
    if not tags:
        raise ResponseProblem("The train names no next tag: let it answer next_train_tag, or give the successor's tag.")
    repository = read_image(wanted.repository or parent, "repository").repository
    found = [ImageName(repository, check_next_tag(tag)) for tag in dict.fromkeys(tags)]
    for name in () if wanted.tags else found:
        if name in (_tagged(parent), _tagged(wanted.base or answer.base)):
            raise ResponseProblem(
                f"The train's next tag {name.tag!r} is that of the train or of its base, which its successor would "
                "replace: let it answer another next_train_tag, or give the successor's tag."
            )
    return found


def _tagged(image: str | None) -> ImageName | None:
    """Return the name of an image with its tag, which is ``latest`` where it has none; None where it is no name."""
    try:
        name = read_image(image or "")
    except InvalidJob:
        return None
    return ImageName(name.repository, name.tag or ("" if name.digest else "latest"))


def _ensure_base(engine: Engine, images: Images, base: str, parent: str, wanted: Wanted) -> None:
    """Pull the base, but not from a registry that only the train names.

    The train has seen the data, and the name of an image is a message to whoever keeps its registry.
    """
    known = {read_image(each).registry for each in (parent, wanted.repository) if each}
    if wanted.base or base.startswith(LOCAL) or read_image(base).registry in known:
        images.ensure(base)
    elif engine.image(base) is None:
        raise ResponseProblem(
            f"The engine does not have the base {base[:80]} that the train names, and it is not pulled, since it is of "
            "another registry than the train: pull it there, or give the successor's base."
        )


def _contents(
    engine: Engine, train: ContainerState, answer: RunResult, wanted: Wanted, mode: Mode
) -> tuple[str, tuple[Export, ...], list[str]]:
    """Return the base, the files to put onto it, and notes."""
    if mode == "rebase":
        base = wanted.base or answer.base
        if not base:
            raise ResponseProblem("The train names no image to rebase onto: let it answer rebase, or give the base.")
        if not answer.export_files:
            raise ResponseProblem("The train exports no files: let it answer export_files, or use the mode commit.")
        try:
            read_image(base, "rebase")
        except InvalidJob as error:
            raise ResponseProblem(str(error)) from None
        return base, measured(engine, train.id, answer.export_files, train.data, wanted.bound), []
    found = changes_of(engine, train, answer.export_files, wanted.bound)
    if any(wanted.hidden(each.path) != each.path for each in found.files):
        raise _has_secret("The train has written a file with", "the path of a file")
    return train.image_id, found.files, found.notes()


def _labels(train: ContainerState, parent: str, mode: Mode) -> dict[str, str]:
    """Return where the successor comes from."""
    kept = (*names.TASK_LABELS, names.JOB_ID, names.STATION)
    labels = {name: train.labels[name] for name in kept if name in train.labels}
    labels |= {names.PARENT: parent, names.PARENT_DIGEST: train.labels.get(names.IMAGE_DIGEST, "")}
    return labels | {names.MODE: mode}


def _build(
    engine: Engine,
    train: ContainerState,
    base: str,
    files: Sequence[Export],
    labels: Mapping[str, str],
    name: ImageName,
) -> str:
    image = engine.image(base)
    if image is None:
        raise ImageMissing(f"The engine has no image {base}, of which the successor is to be made.", field="image")
    labels = {**labels, names.CONTENT: _digest(image, files)}
    if (made := engine.image(str(name))) is not None and labels.items() <= _labels_of(made).items():
        return str(made["Id"])  # by a worker that was killed
    config = image.get("Config") or {}
    body: dict[str, Any] = {"Image": base, "Labels": labels, "HostConfig": {"NetworkMode": "none"}}
    if not config.get("Cmd") and not config.get("Entrypoint"):
        body["Cmd"] = [Command.PRINT_MODEL_SUMMARY.value]
    check_room(files)
    with engine.unstarted(names.successor_builder(train.labels[names.JOB_ID]), body) as container:
        if files:
            engine.put_files(container, "/", lambda tar: _add(engine, train.id, files, tar))
        return engine.commit(container, name.repository, name.tag)


def _digest(base: Mapping[str, Any], files: Sequence[Export]) -> str:
    """Return the digest of what a successor is made of; the files of an ended container do not change."""
    content = [str(base.get("Id")), [[each.path, each.size, each.mode] for each in files]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _labels_of(image: Mapping[str, Any]) -> Mapping[str, str]:
    return (image.get("Config") or {}).get("Labels") or {}


def _add(engine: Engine, container: str, files: Sequence[Export], tar: tarfile.TarFile) -> None:
    for export in files:
        with opened(engine, container, export) as (member, chunks):
            entry = tarfile.TarInfo(export.path.lstrip("/"))
            entry.size, entry.mode = export.size, export.mode
            # The next station's run, as the same user, may want to replace it.
            entry.uid, entry.gid, entry.mtime = member.uid, member.gid, member.mtime
            tar.addfile(entry, _Chunks(chunks))  # type: ignore[arg-type]


class _Chunks:
    """What ``tarfile`` copies from: reads of exactly as many bytes as it asks for."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._kept = b""

    def read(self, size: int) -> bytes:
        while len(self._kept) < size and (chunk := next(self._chunks, b"")):
            self._kept += chunk
        found, self._kept = self._kept[:size], self._kept[size:]
        return found


def _digest_of_pushed(engine: Engine, name: ImageName) -> str:
    """Return the digest of an image that was pushed, where the engine has not said it while it pushed."""
    image = engine.image(str(name)) or {}
    for each in image.get("RepoDigests") or []:
        repository, _, digest = str(each).partition("@")
        if repository == name.repository and digest:
            return digest
    raise BrokenContract(f"The engine has pushed {name}, and does not say its digest.")
