# SPDX-License-Identifier: Apache-2.0
"""The errors of a container engine and of a registry, as one sentence of this provider. Pure.

Podman's service of the Docker API says 500 for much of what Docker gives a status of its own, so the text decides, too:
a name that is taken, a container that runs and cannot be removed, a command that does not exist.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from airflow_provider_jobapi.exceptions import (
    BrokenContract,
    ConnectionProblem,
    InvalidJob,
    JobConflict,
    ServiceUnavailable,
    TrainingError,
)

LONGEST_TEXT = 300
"""Characters of an engine's own words in a message."""


class ImageMissing(InvalidJob):
    """The engine, or the registry, has no such image."""


class NoSuchCommand(InvalidJob):
    """The image has no such command, or it cannot be executed.

    :ivar exit_code: 127 or 126, as a shell has it.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message, field="command")
        self.exit_code = exit_code


class Missing(TrainingError):
    """The engine has no container or volume of this name."""


class Conflict(JobConflict):
    """The name is taken, or the container's state does not allow this."""


class FileMissing(TrainingError):
    """The container has no such file."""


class ReadOnly(TrainingError):
    """Nothing can be put there, since it is read-only."""


_COMMAND = re.compile(r'exec: "(?P<command>[^"]*)"')
_NOT_FOUND = ("executable file not found", "command that was not found", "no such file or directory")
_NO_COMMAND = ("no command specified", "no command or entrypoint", "no cmd or entrypoint")
_TAKEN = ("already in use", "container state improper", "cannot remove a running container", "is being used by")
_REMOVAL = "is already in progress"
"""What Docker says of a container that somebody else is removing."""
_NETWORK = re.compile(r"unable to find network with name or ID (?P<podman>\S+):|network (?P<docker>\S+) not found")
_HTTP_STATUS = re.compile(r"(?:http|http status:?|statuscode:) ([45]\d\d)\b")
"""The status that a registry has answered with, in the words of Docker and of Podman."""
_TOO_LARGE, _SERVER_ERROR = 413, 500
_CUT = re.compile(
    r"\b(dial|read|write) (tcp|udp)\b|\beof\b|refused|timeout|timed out|deadline exceeded|reset|aborted|broken pipe"
    r"|no such host|no route to host|unreachable|closed (idle )?connection|use of closed|goaway|stream error"
)
"""What the network's errors say in Go, in which both engines and most registries are written."""

_BUSY = frozenset({429, 502, 503, 504})


def registry_of(image: str) -> str:
    """Return the registry of an image, whose name need not be valid (distribution/reference)."""
    first, slash, _ = image.partition("/")
    return first if slash and (first == "localhost" or {".", ":"} & {*first}) else "docker.io"


def error_of_engine(error: Exception, what: str, where: str) -> TrainingError:
    """Translate what the Docker client, requests or urllib3 raise.

    :param what: What was tried, such as ``start the container``.
    :param where: The engine's address.
    """
    if isinstance(error, TrainingError):
        return error
    chain = _chain(error)
    answered = next((each for each in chain if getattr(each, "response", None) is not None), None)
    if answered is None:
        return _unreachable(chain, what, where)
    said = clean(getattr(answered, "explanation", None) or answered)
    return _answered(int(answered.response.status_code), said, what, where)


def error_of_registry(said: str, what: str, image: str) -> TrainingError:
    """Translate what a registry says to an engine that pulls or pushes.

    :param said: The engine's own words.
    :param what: ``pulled`` or ``pushed``.
    """
    words, text = said.lower(), clean(said)
    registry = registry_of(image)
    found = _HTTP_STATUS.search(words)
    status = int(found[1]) if found else 0
    if status in {401, 403} or any(
        word in words for word in ("unauthorized", "denied", "no basic auth", "authentication required", "forbidden")
    ):
        return ConnectionProblem(
            f"The registry {registry} refuses that {image} is {what} ({text}): give the connection's docker_conn_id a "
            "user who may, and its password."
        )
    if any(word in words for word in ("manifest unknown", "not found", "name unknown", "not known", "no such image")):
        return ImageMissing(f"The image {image} cannot be {what}, since it is not there ({text}).", field="image")
    if "http response to https" in words or "x509" in words or "certificate" in words:
        return ConnectionProblem(
            f"The registry {registry} cannot be trusted ({text}): install its certificate for the engine, or name it "
            "there as an insecure registry."
        )
    if _CUT.search(words):
        return ServiceUnavailable(f"The registry {registry} cannot be reached, so {image} is not {what}: {text}.")
    return _of_status(status, text, what, image)


def _of_status(status: int, text: str, what: str, image: str) -> TrainingError:
    registry = registry_of(image)
    if status == _TOO_LARGE:
        return ConnectionProblem(
            f"The registry {registry} refuses that {image} is {what}, since a layer is too large for it ({text}): let "
            "the registry, or the proxy before it, take larger ones, or let the train export less."
        )
    if status >= _SERVER_ERROR:
        return ServiceUnavailable(f"The registry {registry} has an error of its own, so {image} is not {what}: {text}.")
    return BrokenContract(f"The image {image} cannot be {what}: {text}.")


def clean(said: object) -> str:
    """Return an engine's words as one line without a stop at its end."""
    text = " ".join("".join(char if char.isprintable() else " " for char in str(said)).split())
    half = LONGEST_TEXT // 2  # the cause is at the end
    return (text if len(text) <= LONGEST_TEXT else f"{text[:half]}…{text[-half:]}").rstrip(".")


def _answered(status: int, said: str, what: str, where: str) -> TrainingError:
    """Return the error of an engine that has answered."""
    words = said.lower()
    engine = f"The container engine at {where}"
    rules: tuple[tuple[bool, Callable[[], TrainingError]], ...] = (
        (
            "no such image" in words or "image not known" in words,
            lambda: ImageMissing(f"{engine} has no such image ({said}).", field="image"),
        ),
        (
            "could not find the file" in words or (status == 404 and "no such file or directory" in words),
            lambda: FileMissing(said),
        ),
        (
            status == 404 or "no such container" in words or _REMOVAL in words,
            lambda: Missing(f"{engine} could not {what}, since it is not there ({said})."),
        ),
        ("marked read-only" in words or "volume is read-only" in words, lambda: ReadOnly(said)),
        (
            status == 409 or any(word in words for word in _TAKEN),
            lambda: Conflict(f"{engine} could not {what}: {said}."),
        ),
        (
            status in {401, 403},
            lambda: ConnectionProblem(f"{engine} refuses to {what} ({said}): give the connection a client that may."),
        ),
        (
            status in _BUSY or "broken pipe" in words,
            lambda: ServiceUnavailable(f"{engine} could not {what} now ({status}): {said}."),
        ),
        (
            "http request to an https server" in words,
            lambda: ConnectionProblem(
                f"{engine} asks for TLS: set ca_cert, client_cert and client_key of the connection to the files of its "
                "certificates."
            ),
        ),
        (status == 400, lambda: InvalidJob(f"{engine} could not {what}: {said}.")),
    )
    if (command := _no_command(words, said)) is not None:
        return command
    if (network := _NETWORK.search(said)) is not None:
        name = str(network["podman"] or network["docker"])[:100]
        return InvalidJob(
            f"{engine} has no network {name!r}: create it there, or name another in isolation.network.",
            field="isolation",
        )
    unknown = BrokenContract(f"{engine} could not {what} ({status}): {said}.")
    return next((make() for applies, make in rules if applies), unknown)


def _no_command(words: str, said: str) -> NoSuchCommand | None:
    if any(word in words for word in _NO_COMMAND):
        return NoSuchCommand(
            "The image has no entry point, and no command was given: a train image has one of both.", 127
        )
    found = _COMMAND.search(said)
    if found is None:
        return None
    name = found["command"][:100]
    if any(word in words for word in _NOT_FOUND):
        return NoSuchCommand(
            f"The image has no command {name!r}: it is no train image, or has other names for the commands, which "
            "command_names can say.",
            127,
        )
    if "permission denied" in words or "exec format error" in words or "is a directory" in words:
        return NoSuchCommand(f"The image's command {name!r} cannot be executed ({said}).", 126)
    return None


def _chain(error: Exception) -> list[Any]:
    """Return an error and what it was raised from, or has among its arguments, as urllib3 has it."""
    chain: list[Any] = [error]
    while len(chain) < 20:
        last = chain[-1]
        inner = (last.__cause__, last.__context__, *getattr(last, "args", ()), getattr(last, "reason", None))
        more = next((each for each in inner if isinstance(each, Exception) and each not in chain), None)
        if more is None:
            break
        chain.append(more)
    return chain


def _unreachable(chain: list[Any], what: str, where: str) -> TrainingError:
    """Return the error of an engine that has not answered."""
    error = chain[0]
    said = clean(next((each.strerror for each in chain if isinstance(each, OSError) and each.strerror), error))
    if any(isinstance(each, PermissionError) for each in chain):
        return ConnectionProblem(
            f"The container engine at {where} may not be used by this user (permission denied): give the user of the "
            "worker and of the triggerer access to the socket."
        )
    words = " ".join(str(each) for each in chain).lower()
    if "certificate" in words or "ssl" in words or "tls" in words:
        return ConnectionProblem(
            f"The container engine at {where} cannot be trusted ({said}): set ca_cert, client_cert and client_key of "
            "the connection to the files of its certificates."
        )
    return ServiceUnavailable(
        f"The container engine at {where} does not answer, so it could not {what} ({said}). Is it running, and is that "
        "its address?"
    )
