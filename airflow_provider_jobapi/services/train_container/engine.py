# SPDX-License-Identifier: Apache-2.0
"""A container engine: the calls of Docker's API that this service needs, on Docker and on Podman's service of it.

Where the two differ (seen on Docker 20.10 and Podman 4.3, both with API 1.41):

=================================  ======================================  ==========================================
what                               Docker                                  Podman
=================================  ======================================  ==========================================
name is taken                      409                                     500, "is already in use"
remove a container that runs       409                                     500, "container state improper"
put a file under a read-only root  refused; only into a volume             works
time of a log line                 nanoseconds                             whole seconds: continue by the line's count
part of a long log line            16 KiB                                  8 KiB, or what was written at once
the last lines, by ``tail``        whole                                   without their first part: read them all
``State.OOMKilled``                told                                    False; exit code 137 is all that is known
state while it ends                ``removing``                            ``stopped``, then ``exited``
a symbolic link in ``archive``     is sent as a link                       its target is sent; 404 for one that
                                                                           leads out of its volume
zeros behind the end of a tar      are read                                break its pipe now and then (500): send none
a byte of a log that is no UTF-8   replaced by U+FFFD                      kept
what a path is (``HEAD archive``)  base64                                  base64 of URLs, with ``-`` and ``_``
killed in the middle of a create   nothing is left                         the name is taken by an id that no list has
killed in the middle of a start    the process runs on, "created" is told  the same, until the container is removed
killed while a container runs      ends it at its own start, but for       it goes on, and no line is lost
                                   ``live-restore``
a container ends meanwhile         all that it has printed since is lost   nothing is lost
a registry without the image       404 to the pull                         200, and an error in its progress
=================================  ======================================  ==========================================

Both start a container *again* that has ended, where they are told to start it: so none is ever started twice.
"""

from __future__ import annotations

import json
import tarfile
import threading
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import cached_property
from tempfile import TemporaryFile
from typing import Any
from urllib.parse import quote

from airflow_provider_jobapi.exceptions import ServiceUnavailable, TrainingError
from airflow_provider_jobapi.services.train_container.errors import (
    Conflict,
    FileMissing,
    ImageMissing,
    Missing,
    error_of_engine,
    error_of_registry,
)

CHUNK = 64 * 1024
"""Bytes that are read at a time."""

_NOT_FOUND, _SERVER_ERROR = 404, 500

_OF_URLS = str.maketrans("-_", "+/")
"""From the alphabet of base64 in URLs to the usual one."""

THREADS = 8
"""Requests to one engine that a triggerer has open at a time."""


class Engine:
    """A container engine.

    Safe for threads. Every method raises the errors of
    :mod:`~airflow_provider_jobapi.services.train_container.errors` only.

    :param connect: Makes a ``docker.APIClient``; called before the first request.
    :param where: The engine's address, for messages.
    """

    def __init__(self, connect: Callable[[], Any], where: str) -> None:
        self._made: Any = None
        self._connect = connect
        self.where = where
        self._making = threading.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.where!r})"

    def __del__(self) -> None:
        self.close()
        if "threads" in self.__dict__:
            self.threads.shutdown(wait=False)

    @cached_property
    def threads(self) -> ThreadPoolExecutor:
        """Threads for the requests of a triggerer: an engine that does not answer blocks these, and no others."""
        return ThreadPoolExecutor(THREADS, "container-engine")

    def close(self) -> None:
        """Close the connections; the next request opens others."""
        made, self._made = self._made, None
        if made is not None:
            made.close()

    def version(self) -> Mapping[str, Any]:
        """Return the engine's name and version."""
        with self._client("say its version") as client:
            return dict(client.version())

    def now(self) -> str:
        """Return the engine's clock, as RFC 3339."""
        with self._client("say its time") as client:
            return str(client.info().get("SystemTime") or "")

    def inspect(self, container: str) -> dict[str, Any] | None:
        """Return a container, by its name or id; None where there is none."""
        try:
            with self._client("inspect the container") as client:
                return dict(client.inspect_container(container))
        except Missing:
            return None

    def containers(self, label: str) -> list[dict[str, Any]]:
        """Return the containers with a label, such as ``name=value``, also those that have ended."""
        with self._client("list containers") as client:
            return list(client.containers(all=True, filters={"label": [label]}))

    def create(self, name: str, config: Mapping[str, Any]) -> str:
        """Create a container; returns its id.

        :param config: The body of the request, as in Docker's API.
        :raises Conflict: when the name is taken.
        :raises ImageMissing: when the engine does not have the image.
        """
        with self._client(f"create the container {name}") as client:
            return str(client.create_container_from_config(dict(config), name)["Id"])

    def start(self, container: str) -> None:
        """Start a container that was never started.

        :raises NoSuchCommand: when the image has no such command.
        """
        with self._client("start the container") as client:
            client.start(container)

    def actions(self, container: str, since: int, until: int) -> set[str]:
        """Return what the engine remembers to have done with a container, such as ``create`` and ``start``.

        Docker's memory ends with its daemon. Podman notes ``init`` when it prepares a start.

        :param since: Unix time in whole seconds; so is the other one.
        """
        with self._client("list its events") as client:
            found = client.events(since=since, until=until, filters={"container": [container]}, decode=True)
            return {str(each.get("Action") or each.get("status")) for each in found}

    def stop(self, container: str, grace: int) -> None:
        """End a container: SIGTERM, and SIGKILL after so many seconds. One that has ended is no error."""
        with self._client("stop the container") as client:
            client.stop(container, timeout=grace)

    def unpause(self, container: str) -> None:
        """Let a paused container go on."""
        with self._client("unpause the container") as client:
            client.unpause(container)

    def remove(self, container: str, *, force: bool = False) -> None:
        """Remove a container with the volumes that have no name; one that is not there is no error.

        :param force: Also where it runs.
        :raises Conflict: when it runs.
        """
        try:
            with self._client("remove the container") as client:
                client.remove_container(container, v=True, force=force)
        except Missing:
            pass

    @contextmanager
    def unstarted(self, name: str, config: Mapping[str, Any]) -> Iterator[str]:
        """Create a container that only holds files, instead of one that a killed worker left, and remove it at the end.

        :param config: As for :meth:`create`.
        """
        try:
            container = self.create(name, config)
        except Conflict:
            self.remove(name)
            container = self.create(name, config)
        try:
            yield container
        finally:
            self.remove(container)

    @contextmanager
    def log(
        self, container: str, *, since: int = 0, stderr: bool = True, times: bool = True
    ) -> Iterator[Iterator[bytes]]:
        """Open the log of a container as it is now: the bytes of Docker's multiplexed stream.

        :param since: Unix time in whole seconds, from which on lines are wanted.
        """
        flags = {"stdout": 1, "stderr": int(stderr), "timestamps": int(times), "since": since}
        # The client has no call that keeps times and streams apart.
        with self._opened(container, "logs", flags, "read the log") as chunks:
            yield chunks

    def stat(self, container: str, path: str) -> Mapping[str, Any]:
        """Return what a path of a container is: ``mode``, as Go has it, and ``size``.

        :raises FileMissing: when there is none.
        """
        with (
            self._client(f"look at {path} in the container") as client,
            closing(client.head(_url(client, container, "archive"), params={"path": path}, timeout=30)) as answer,
        ):
            if answer.status_code == _NOT_FOUND:  # without a text, as the answer to a HEAD
                raise FileMissing(f"The container has no file {path}.")
            if answer.status_code >= _SERVER_ERROR:  # as of Podman that was killed and is back
                raise ServiceUnavailable(
                    f"The container engine at {self.where} cannot look at {path} in the container now."
                )
            client._raise_for_status(answer)  # noqa: SLF001 -- as its own calls do
            about = answer.headers["X-Docker-Container-Path-Stat"]
            return dict(json.loads(b64decode(about.translate(_OF_URLS))))

    @contextmanager
    def get_archive(self, container: str, path: str) -> Iterator[Iterator[bytes]]:
        """Open a file or a folder of a container as a tar stream.

        :raises FileMissing: when there is none.
        """
        with self._opened(container, "archive", {"path": path}, f"read {path} in the container") as chunks:
            yield chunks

    def put_files(self, container: str, folder: str, add: Callable[[tarfile.TarFile], None]) -> None:
        """Write files into a folder of a container, started or not.

        :param add: Adds them to a tar, which is a temporary file.
        :raises ReadOnly: when the root is read-only, on Docker.
        """
        with TemporaryFile() as file:
            with tarfile.open(fileobj=file, mode="w") as tar:
                add(tar)
            file.truncate(tar.offset)  # see the table above
            file.seek(0)
            with self._client(f"write into {folder} in the container") as client:
                client.put_archive(container, folder, file)

    def diff(self, container: str) -> list[tuple[str, int]]:
        """Return the paths that differ from the image: 0 changed, 1 added, 2 deleted."""
        with self._client("compare the container with its image") as client:
            return [(str(each["Path"]), int(each["Kind"])) for each in client.diff(container) or []]

    def commit(self, container: str, repository: str, tag: str) -> str:
        """Make an image of a container; returns its id."""
        with self._client("make an image of the container") as client:
            made = str(client.commit(container, repository, tag)["Id"])
            return made if ":" in made else f"sha256:{made}"  # Podman leaves it out here

    def image(self, reference: str) -> dict[str, Any] | None:
        """Return an image; None where the engine does not have it."""
        try:
            with self._client(f"inspect the image {reference}") as client:
                return dict(client.inspect_image(reference))
        except (ImageMissing, Missing):
            return None

    def tag(self, image: str, repository: str, tag: str) -> None:
        """Give an image another name."""
        with self._client(f"tag {repository}:{tag}") as client:
            client.tag(image, repository, tag)

    def remove_image(self, reference: str) -> None:
        """Remove a name of an image, and the image with its last name; one that is not there is no error."""
        try:
            with self._client(f"remove the image {reference}") as client:
                client.remove_image(reference)
        except (ImageMissing, Missing):
            pass

    def pull(self, reference: str, auth: Mapping[str, str] | None) -> None:
        """Pull an image from its registry.

        :raises ImageMissing: when the registry does not have it.
        :raises ConnectionProblem: when the registry refuses us.
        """
        repository, tag = split_reference(reference)
        with self._client(f"pull {reference}", ("pulled", reference)) as client:
            answer = client.pull(repository, tag=tag, stream=True, decode=True, auth_config=auth)
            _check_progress(answer, "pulled", reference)

    def push(self, repository: str, tag: str, auth: Mapping[str, str] | None) -> str:
        """Push an image to its registry; returns its digest, empty where the engine does not say it.

        :raises ConnectionProblem: when the registry refuses us.
        """
        with self._client(f"push {repository}:{tag}", ("pushed", f"{repository}:{tag}")) as client:
            answer = client.push(repository, tag=tag, stream=True, decode=True, auth_config=auth)
            return _check_progress(answer, "pushed", f"{repository}:{tag}")

    def volume(self, name: str) -> dict[str, Any] | None:
        """Return a volume; None where there is none."""
        try:
            with self._client("inspect a volume") as client:
                return dict(client.inspect_volume(name))
        except Missing:
            return None

    def volumes(self, label: str) -> list[str]:
        """Return the names of the volumes with a label, such as ``name=value``."""
        with self._client("list volumes") as client:
            found = client.volumes(filters={"label": [label]}).get("Volumes") or []
            return [str(each["Name"]) for each in found]

    def create_volume(self, name: str, labels: Mapping[str, str]) -> dict[str, Any]:
        """Create a volume, or return the one of this name, with its own labels."""
        with self._client("create a volume") as client:
            return dict(client.create_volume(name, labels=dict(labels)))

    def remove_volume(self, name: str) -> None:
        """Remove a volume; one that is not there is no error.

        :raises Conflict: when a container uses it.
        """
        try:
            with self._client("remove a volume") as client:
                client.remove_volume(name)
        except Missing:
            pass

    @contextmanager
    def _opened(self, container: str, part: str, params: Mapping[str, Any], what: str) -> Iterator[Iterator[bytes]]:
        """Open an answer as a stream, which is closed also where it is not read to its end."""
        with self._client(what) as client:
            answer = client.get(_url(client, container, part), params=params, stream=True, timeout=client.timeout)
        with closing(answer):
            with self._client(what) as client:
                client._raise_for_status(answer)  # noqa: SLF001 -- as its own calls do
            yield self._translated(answer.iter_content(CHUNK), what)

    @contextmanager
    def _client(self, what: str, image: tuple[str, str] | None = None) -> Iterator[Any]:
        """Use the client, and translate what it raises.

        :param what: What is tried.
        :param image: Where a registry takes part: ``pulled`` or ``pushed``, and the image.
        """
        try:
            with self._making:
                if self._made is None:
                    self._made = self._connect()
            yield self._made
        except Exception as error:  # noqa: BLE001 -- whatever the client raises is translated
            said = getattr(error, "explanation", None)
            if image is not None and said and not isinstance(error, TrainingError):
                raise error_of_registry(str(said), *image) from None
            raise error_of_engine(error, what, self.where) from None

    def _translated(self, chunks: Iterable[bytes], what: str) -> Iterator[bytes]:
        try:
            yield from chunks
        except Exception as error:  # noqa: BLE001 -- whatever the client raises is translated
            raise error_of_engine(error, what, self.where) from None


def _url(client: Any, container: str, part: str) -> str:
    return f"{client.base_url}/v{client.api_version}/containers/{quote(container, safe='')}/{part}"


def split_reference(reference: str) -> tuple[str, str]:
    """Split the name of an image into repository and tag, or digest; ``latest`` where it has none."""
    if "@" in reference:
        repository, _, digest = reference.partition("@")
        return repository, digest
    repository, colon, tag = reference.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (reference, "latest")


def _check_progress(answer: Iterable[Any], what: str, image: str) -> str:
    """Read what an engine says while it pulls or pushes; returns the digest where it says one."""
    digest = ""
    for each in answer:
        if isinstance(each, str | bytes):
            each = json.loads(each)  # noqa: PLW2901 -- Podman sends texts as well
        if not isinstance(each, Mapping):
            continue
        if said := each.get("error") or (each.get("errorDetail") or {}).get("message"):
            raise error_of_registry(str(said), what, image)
        digest = str((each.get("aux") or {}).get("Digest") or digest)
        status = str(each.get("status") or "")
        if not digest and "digest: sha256:" in status:
            digest = status.partition("digest: ")[2].split()[0]
    return digest
