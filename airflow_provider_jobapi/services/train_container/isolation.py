# SPDX-License-Identifier: Apache-2.0
"""What a train's container may see and use, as its configuration for the engine. Pure.

A train is a program of somebody else beside data that must not leave. So by default its container has no network, a
root that it cannot write, a small ``/tmp`` in memory, no capabilities, no way to more privileges, a user that is not
root, and limits of memory, CPUs and processes. Each is loosened by the name of its setting. The fields are those of the
Docker Engine API 1.41, which Podman's service keeps, too.

Files that the successor image is made of must outlive the container's end, which those in memory do not: the folders of
``writable`` are volumes of the container itself. An engine fills them from the image and removes them with it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.train_container.export_files import KERNEL_FOLDERS, is_inside
from airflow_provider_jobapi.training.units import read_size

UNLIMITED = "unlimited"
NOBODY = "65534:65534"
"""The user and group of containers whose image names no number of its own, or root."""

LEAST_MEMORY = 16 * 1024**2
MOST_PIDS = 2**22
"""What Linux has at most."""

_USER = re.compile(r"\d{1,10}(:\d{1,10})?")
_CAPABILITY = re.compile(r"(CAP_)?[A-Z]+(_[A-Z]+)*")
_NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """The isolation of a container. The defaults are the strictest.

    :ivar network: ``none``, ``bridge``, ``host``, or a network of the engine.
    :ivar read_only_root: Whether nothing of the image's files can be changed.
    :ivar tmpfs: Folders in memory and their size in bytes. They count as memory of the container.
    :ivar writable: Folders that ``run_algorithm`` can write, whose files stay until the successor image is made.
    :ivar capabilities: Capabilities of Linux, which only root has.
    :ivar new_privileges: Whether programs with set-user-ID bits may gain privileges.
    :ivar user: A user and group by number; None for the image's own, where that is a number other than 0.
    :ivar memory: Bytes, swap included; None for as much as there is.
    :ivar cpus: None for all.
    :ivar pids: Processes and threads; None for any number.
    """

    network: str = "none"
    read_only_root: bool = True
    tmpfs: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({"/tmp": 64 * 1024**2}))  # noqa: S108
    writable: tuple[str, ...] = ("/opt/pht_train/model",)
    capabilities: tuple[str, ...] = ()
    new_privileges: bool = False
    user: str | None = None
    memory: int | None = 2 * 1024**3
    cpus: float | None = 1.0
    pids: int | None = 256

    def loosened(self) -> dict[str, Any]:
        """Return the settings that are looser than the defaults, for the log and the labels."""
        return {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if _SETTINGS[each.name].is_looser(getattr(self, each.name))
        }

    def user_for(self, image_user: str) -> str:
        """Return the user of a container.

        :param image_user: ``Config.User`` of the image. A name is no proof of anything, since the image says itself
            whose name it is.
        """
        if self.user is not None:
            return self.user
        own = _USER.fullmatch(image_user)
        return image_user if own and int(image_user.partition(":")[0]) else NOBODY

    def configuration(
        self, *, keeps_files: bool, mounts: Sequence[Mapping[str, Any]] = (), image_user: str = ""
    ) -> dict[str, Any]:
        """Return the part of the body of ``POST /containers/create`` that isolates.

        :param keeps_files: Whether the container's files are wanted after its end, so that it gets the folders of
            ``writable``.
        :param mounts: The station's data, as ``Mounts`` of the API; all of them read-only.
        :param image_user: ``Config.User`` of the image.
        :raises InvalidJob: when a mount contradicts the isolation.
        """
        writable = self.writable if keeps_files else ()
        check_mounts(mounts, {**dict.fromkeys(self.tmpfs, "tmpfs"), **dict.fromkeys(writable, "writable")})
        host: dict[str, Any] = {
            "NetworkMode": self.network,
            "ReadonlyRootfs": self.read_only_root,
            "Tmpfs": {path: f"rw,noexec,nosuid,nodev,size={size},mode=1777" for path, size in self.tmpfs.items()},
            "CapDrop": ["ALL"],
            "CapAdd": list(self.capabilities),
            "SecurityOpt": [] if self.new_privileges else ["no-new-privileges"],
            "Privileged": False,
            "PublishAllPorts": False,
            "IpcMode": "private",
            "Mounts": [dict(each) for each in mounts],
        }
        if self.memory is not None:
            host |= {"Memory": self.memory, "MemorySwap": self.memory}
        if self.cpus is not None:
            host["NanoCpus"] = round(self.cpus * 1e9)
        if self.pids is not None:
            host["PidsLimit"] = self.pids
        return {
            "User": self.user_for(image_user),
            "Tty": False,
            "OpenStdin": False,
            "Volumes": {path: {} for path in writable},
            "HostConfig": host,
        }


def read_isolation(*layers: Mapping[str, Any] | None) -> Isolation:
    """Read the settings of a container's isolation.

    :param layers: Settings by name, such as those of a connection and of a task; the last one that has a name wins.
    :raises InvalidJob: naming the setting and saying what is allowed.
    """
    given: dict[str, Any] = {}
    for layer in layers:
        given |= layer or {}
    if unknown := sorted(str(name) for name in given if name not in _SETTINGS):
        raise InvalidJob(
            f"isolation has {unknown[0][:80]!r}, which is not known; it may hold {', '.join(_SETTINGS)}.",
            field="isolation",
        )
    made = Isolation(**{name: _SETTINGS[name].read(name, value) for name, value in given.items()})
    _check(made)
    return made


def check_mounts(mounts: Sequence[Mapping[str, Any]], taken: Mapping[str, str]) -> None:
    """Refuse mounts that could be written, that show the machine itself, or that hide each other.

    :param taken: Folders of the container that are something else, and what.
    :raises InvalidJob: naming the mount.
    """
    seen = dict(taken)
    for each in mounts:
        target, source = str(each.get("Target") or ""), str(each.get("Source") or "")
        normal = _folder("data_input", target)
        if each.get("ReadOnly") is not True:
            raise _refused("data_input", target, "the station's data are mounted read-only")
        if each.get("Type") == "bind" and (
            posixpath.normpath(source) == "/" or source.endswith(".sock") or _in_kernel(source)
        ):
            raise _refused("data_input", source, "a train must not see the machine itself; give a folder of data")
        for other, what in seen.items():
            if is_inside(normal, other) or is_inside(other, normal):
                raise _refused("data_input", target, f"it overlaps {other} ({what}); choose another folder")
        seen[normal] = "data"


def _check(made: Isolation) -> None:
    """Refuse settings that contradict each other."""
    if made.capabilities and (made.user or "").partition(":")[0] != "0":
        raise _refused(
            "isolation.capabilities", list(made.capabilities), "only root has them; set isolation.user to '0' as well"
        )
    if made.memory is not None and sum(made.tmpfs.values()) > made.memory:
        raise _refused(
            "isolation.tmpfs",
            dict(made.tmpfs),
            f"it is larger than isolation.memory, {made.memory:,} bytes, of which it is",
        )
    folders = [*made.tmpfs, *made.writable]
    for place, one in enumerate(folders):
        for other in folders[place + 1 :]:
            if is_inside(one, other) or is_inside(other, one):
                raise _refused("isolation", one, f"it overlaps {other}; name only one of tmpfs and writable for it")


def _refused(name: str, value: object, why: str) -> InvalidJob:
    text = repr(value)
    return InvalidJob(f"{name} cannot be {text if len(text) <= 80 else f'{text[:80]}…'}: {why}.", field=name)


def _in_kernel(path: str) -> bool:
    return any(is_inside(posixpath.normpath(path), folder) for folder in KERNEL_FOLDERS)


def _folder(name: str, value: Any) -> str:
    usable = isinstance(value, str) and value.startswith("/") and value.isprintable() and ":" not in value
    if not usable or posixpath.normpath(value).lstrip("/") != value.strip("/") or not value.strip("/"):
        raise _refused(name, value, "it is a folder of the container such as /opt/model, without '..' and ':'")
    if _in_kernel(value):
        raise _refused(name, value, "it belongs to the system")
    return "/" + str(value).strip("/")


def _boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _refused(f"isolation.{name}", value, "it is true or false")
    return value


def _network(name: str, value: Any) -> str:
    if not isinstance(value, str) or not _NETWORK.fullmatch(value):
        raise _refused(
            f"isolation.{name}", value, "it is none, bridge, host or the name of a network; no other container's"
        )
    return value


def _bytes(name: str, value: Any) -> int:
    if (size := read_size(value)) is None:
        raise _refused(name, value, "it is a size such as 512m or 2g, or a number of megabytes")
    return size


def _memory(name: str, value: Any) -> int | None:
    if value == UNLIMITED:
        return None
    size = _bytes(f"isolation.{name}", value)
    if size < LEAST_MEMORY:
        raise _refused(f"isolation.{name}", value, "it is at least 16m")
    return size


def _tmpfs(name: str, value: Any) -> Mapping[str, int]:
    if not isinstance(value, Mapping):
        raise _refused(f"isolation.{name}", value, 'it is an object of folders and sizes, such as {"/tmp": "64m"}')
    name = f"isolation.{name}"
    return MappingProxyType({_folder(name, path): _bytes(f"{name}[{path!r}]", size) for path, size in value.items()})


def _folders(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise _refused(f"isolation.{name}", value, 'it is a list of folders, such as ["/opt/model"]')
    return tuple(dict.fromkeys(_folder(f"isolation.{name}", each) for each in value))


def _capabilities(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise _refused(f"isolation.{name}", value, 'it is a list of capabilities, such as ["NET_BIND_SERVICE"]')
    names = tuple(dict.fromkeys(each.upper().removeprefix("CAP_") for each in value))
    for each in names:
        if not _CAPABILITY.fullmatch(each) or each == "ALL":
            raise _refused(f"isolation.{name}", each, "name each capability, such as NET_BIND_SERVICE")
    return names


def _user(name: str, value: Any) -> str | None:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not _USER.fullmatch(text):
        raise _refused(f"isolation.{name}", value, "it is a user and group by number, such as 1000:1000")
    return text


def _cpus(name: str, value: Any) -> float | None:
    if value == UNLIMITED:
        return None
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    if not usable or not 0.01 <= value <= 4_096:
        raise _refused(f"isolation.{name}", value, f"it is a number of CPUs such as 1.5, or {UNLIMITED}")
    return float(value)


def _pids(name: str, value: Any) -> int | None:
    if value == UNLIMITED:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= MOST_PIDS:
        raise _refused(f"isolation.{name}", value, f"it is a number of processes such as 256, or {UNLIMITED}")
    return value


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of the isolation.

    :ivar read: Checks and converts a value.
    :ivar is_looser: Whether a value is looser than the default.
    :ivar meaning: Its default and what can be set, for the documentation.
    """

    read: Callable[[str, Any], Any]
    is_looser: Callable[[Any], bool]
    meaning: str


_DEFAULT = Isolation()


def _above(name: str) -> Callable[[Any], bool]:
    return lambda value: value is None or value > getattr(_DEFAULT, name)


_SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {
        "network": Setting(
            _network, lambda value: value != "none", "`none`; or `bridge`, `host`, the name of a network of the engine"
        ),
        "read_only_root": Setting(_boolean, lambda value: not value, "`true`: the image's files cannot be changed"),
        "tmpfs": Setting(
            _tmpfs,
            lambda value: sum(value.values()) > sum(_DEFAULT.tmpfs.values()),
            '`{"/tmp": "64m"}`: folders in memory and their sizes, which count as memory; programs in them do not run',
        ),
        "writable": Setting(
            _folders,
            lambda value: not set(value) <= set(_DEFAULT.writable),
            '`["/opt/pht_train/model"]`: folders that `run_algorithm` can write, for the export files',
        ),
        "capabilities": Setting(_capabilities, bool, '`[]`: none; with `user` 0, a list such as `["CHOWN"]`'),
        "new_privileges": Setting(_boolean, bool, "`false`: set-user-ID programs gain nothing"),
        "user": Setting(
            _user,
            lambda value: value is not None and value.partition(":")[0] == "0",
            f"the image's own user, where it is a number other than 0, else `{NOBODY}`; or a user and group by number",
        ),
        "memory": Setting(_memory, _above("memory"), f"`2g`, swap included; or a size, or `{UNLIMITED}`"),
        "cpus": Setting(_cpus, _above("cpus"), f"`1`; or a number, or `{UNLIMITED}`"),
        "pids": Setting(_pids, _above("pids"), f"`256` processes and threads; or a number, or `{UNLIMITED}`"),
    }
)

SETTINGS: Mapping[str, str] = MappingProxyType({name: each.meaning for name, each in _SETTINGS.items()})
"""The settings by name, with their defaults, for the documentation."""
