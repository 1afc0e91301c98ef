# SPDX-License-Identifier: Apache-2.0
"""The data of a job in its container: mounted from this machine where the engine is local, else copied into a volume.

A volume is filled through a container of the same image that is never started, and is read-only for the train: Docker
puts no file under a root that is read-only, and none into a volume that the container may not write.
"""

from __future__ import annotations

import os
import re
import stat
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from airflow_provider_jobapi.services.files.sources import Source
from airflow_provider_jobapi.services.train_container.engine import Engine
from airflow_provider_jobapi.training.job import DataSource

MOST_MOUNTS = 64
"""Files that are mounted one by one; more are mounted as a folder, or copied."""


def mounts_of(data: Mapping[str, DataSource], folder: str) -> list[dict[str, Any]] | None:
    """Return the read-only mounts of the files of this machine; None where they cannot be mounted.

    The user of the container is nobody here, so only files that all users may read are of use to it. A folder that is
    given whole is one mount; its files are those of this moment or later. A file system that is mounted inside of it is
    a reason to mount its files one by one: only the mount itself is read-only, not what is mounted below it.

    :param data: The files, by their path in the folder.
    :param folder: The folder of the container.
    """
    if not data or not all(isinstance(source, Path) for source in data.values()):
        return None
    places = {path: Path(str(source)).absolute() for path, source in data.items()}
    if any(place.is_symlink() or not place.is_file() or not _may_all(place, stat.S_IROTH) for place in places.values()):
        return None
    tops: dict[str, dict[str, Path]] = {}
    for path, place in places.items():
        tops.setdefault(PurePosixPath(path).parts[0], {})[path] = place
    found: list[dict[str, Any]] = []
    for top, files in tops.items():
        whole = _whole_folder(top, files)
        pairs = [(top, whole)] if whole is not None else list(files.items())
        found += [_bind(place, f"{folder}/{path}") for path, place in pairs]
    return found if len(found) <= MOST_MOUNTS else None


def _whole_folder(top: str, files: Mapping[str, Path]) -> Path | None:
    """Return the folder of this machine that has these files and no others; None where there is none."""
    if set(files) == {top}:
        return None
    path, place = next(iter(files.items()))
    base = place
    for _ in PurePosixPath(path).parts[1:]:
        base = base.parent
    if any(base / PurePosixPath(path).relative_to(top) != place for path, place in files.items()):
        return None
    walked = [(Path(parent), names) for parent, _, names in os.walk(base)]
    there = {folder / name for folder, names in walked for name in names}
    usable = all(_may_all(folder, stat.S_IROTH | stat.S_IXOTH) for folder, _ in walked)
    usable = usable and not base.is_symlink() and not _is_mounted_below(base)
    return base if there == set(files.values()) and usable else None


def _is_mounted_below(folder: Path) -> bool:
    """Whether a file system, a folder or a file is mounted below a folder of this machine."""
    above = f"{folder.resolve()}/"
    return any(place.startswith(above) for place in _mount_points())


def _mount_points() -> Iterator[str]:
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:  # no Linux
        return
    for line in lines:  # proc(5): the fifth field; blanks and the like are octal
        yield re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), line.split(" ")[4])


def _may_all(place: Path, bits: int) -> bool:
    return place.stat().st_mode & bits == bits


def _bind(place: Path, target: str) -> dict[str, Any]:
    return {"Type": "bind", "Source": str(place), "Target": target, "ReadOnly": True}


def volume_mount(volume: str, target: str, *, read_only: bool) -> dict[str, Any]:
    """Return the mount of a volume, which is not filled from the image."""
    return {
        "Type": "volume",
        "Source": volume,
        "Target": target,
        "ReadOnly": read_only,
        "VolumeOptions": {"NoCopy": True},
    }


def fill(
    engine: Engine, volume: str, image: str, folder: str, sources: Mapping[str, Source], labels: Mapping[str, str]
) -> None:
    """Copy files into a volume, through a container that is never started.

    :param folder: Where the volume is in it.
    :param labels: Of the volume and of the container.
    """
    engine.create_volume(volume, labels)
    config = {
        "Image": image,
        "Cmd": ["true"],
        "Labels": dict(labels),
        "HostConfig": {"NetworkMode": "none", "Mounts": [volume_mount(volume, folder, read_only=False)]},
    }
    with engine.unstarted(f"{volume}-fill", config) as container:
        engine.put_files(container, folder, lambda tar: _add(sources, tar))


def _add(sources: Mapping[str, Source], tar: tarfile.TarFile) -> None:
    made: set[str] = set()
    for path, source in sorted(sources.items()):
        for parent in reversed(PurePosixPath(path).parents[:-1]):
            if str(parent) not in made:
                made.add(str(parent))
                entry = tarfile.TarInfo(str(parent))
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
        entry = tarfile.TarInfo(path)
        entry.size, entry.mode = source.size, 0o644
        with source.open(lambda _: None) as content:
            tar.addfile(entry, content)
