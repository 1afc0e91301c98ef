# SPDX-License-Identifier: Apache-2.0
"""The files of a folder, on this machine or in an object store, without what is not uploaded."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.files.ignored import ENVIRONMENT_MARKS, GITIGNORE, NEVER, Rules, Secrets
from airflow_provider_jobapi.services.files.sources import unreadable
from airflow_provider_jobapi.training.job import DataPath
from airflow_provider_jobapi.training.job_file import MOST_INPUTS, check_path
from airflow_provider_jobapi.training.units import count_text, size_text

MOST_SEEN = 200_000
"""The most files that are looked at before a folder is refused."""

LARGEST_IGNORE_FILE = 1_000_000
"""Bytes of an ignore file that are read."""

HEAD = 65_536
"""Bytes of a file in which a private key is looked for."""


class Entry(NamedTuple):
    """A file or a folder in a folder.

    :ivar real: Of a folder and of a link, the path without links.
    :ivar problem: Why it cannot be uploaded.
    """

    name: str
    is_folder: bool
    size: int = 0
    real: str = ""
    problem: str = ""
    is_link: bool = False


@dataclass(slots=True)
class Listing:
    """The files of a folder.

    :ivar files: By their path in the folder.
    :ivar sizes: Their bytes.
    :ivar left_out: The paths that were left out, without those below them.
    :ivar secrets: Those that look like secrets and were left out.
    """

    files: dict[str, DataPath] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(self.sizes.values())

    def biggest(self) -> str:
        """The folders and files that take most, as a list for an error."""
        folders: Counter[str] = Counter()
        counts: Counter[str] = Counter()
        for path, size in self.sizes.items():
            if "/" in path:
                folders[top := f"{path.split('/', 1)[0]}/"] += size
                counts[top] += 1
        named = [
            f"{name} ({count_text(counts[name], 'file')}, {size_text(size)})" for name, size in folders.most_common(2)
        ]
        files = Counter(self.sizes).most_common(3)
        return ", ".join([*named, *(f"{name} ({size_text(size)})" for name, size in files)])


class Tree(Protocol):
    """A folder with everything in it."""

    real: str

    def entries(self, folder: str) -> list[Entry]:
        """What is in a folder, whose path below the root ends with ``/``."""

    def path(self, path: str) -> DataPath:
        """The path of a file in it."""


def list_folder(
    root: Any,
    rules: Rules,
    *,
    what: str,
    most_bytes: int | None = None,
    advice: str = "",
    repository: Path | None = None,
) -> Listing:
    """List the files of a folder.

    :param root: A ``Path``, or a path of an object store.
    :param rules: What of it is left out.
    :param what: How to call it in an error.
    :param most_bytes: The bound of its size.
    :param advice: What to do where it is too large.
    :param repository: The folder at or above it whose ignore files count as well.
    :raises InvalidJob: when it cannot be read, is too large, or has a file that no job can have.
    """
    tree = tree_of(root, what)
    lister = _Lister(tree, what, advice, code=most_bytes is not None)
    lister.walk(rules if repository is None or not isinstance(root, Path) else _above(rules, root, repository))
    found = lister.found
    if most_bytes is not None and (found.size > most_bytes or len(found.files) > MOST_INPUTS):
        raise InvalidJob(
            f"{what} has {count_text(len(found.files), 'file')} and {size_text(found.size)}, and may have "
            f"{MOST_INPUTS:,} files and {size_text(most_bytes)}. The biggest are {found.biggest()}. {advice}",
            field=_field(what),
        )
    found.files = {path: found.files[path] for path in sorted(found.files)}
    found.left_out.sort()
    return found


def tree_of(root: Any, what: str) -> Tree:
    """The tree of a folder; one of ``file://`` is of this machine.

    :raises InvalidJob: when there is no such folder.
    """
    if str(getattr(root, "protocol", "")) in {"file", "local"}:
        root = Path(root.path)
    return _LocalTree(root, what) if isinstance(root, Path) else _StoreTree(root, what)


def _above(rules: Rules, root: Path, repository: Path) -> Rules:
    """Add the ignore files of the folders above, unless they exclude the folder itself."""
    root, repository = root.resolve(), repository.resolve()
    if not root.is_relative_to(repository):
        return rules
    found = rules
    files = [(repository, git_folder(repository) / "info" / "exclude")] if GITIGNORE in rules.names else []
    files += [
        (folder, folder / name)
        for folder in reversed(root.parents)
        if folder.is_relative_to(repository)
        for name in rules.names
    ]
    for folder, file in files:
        parts = root.relative_to(folder).parts
        paths = ["".join(f"{part}/" for part in parts[:count]) for count in range(1, len(parts) + 1)]
        more = found.with_texts("", [_text(file) or ""], paths[-1] if paths else "")
        if more is not found and any(more.patterns[0].spec.match_file(path) for path in paths):
            return rules
        found = more
    return found


def repository_of(folder: Path) -> Path | None:
    """The root of the git repository that a folder is in."""
    folder = folder.resolve()
    return next((each for each in (folder, *folder.parents) if (each / ".git").exists()), None)


def git_folder(repository: Path) -> Path:
    """The folder with git's own files; that of a worktree, and of a submodule, is elsewhere, and ``.git`` names it."""
    folder = repository / ".git"
    if folder.is_file():
        folder = repository / (_text(folder) or "").removeprefix("gitdir:").strip()
        folder /= (_text(folder / "commondir") or "").strip()  # of a worktree
    return folder


def _field(what: str) -> str:
    return re.split(r"[ \[]", what, maxsplit=1)[0]


def _text(path: Any) -> str | None:
    try:
        with path.open("rb") as file:
            return bytes(file.read(LARGEST_IGNORE_FILE)).decode("utf-8", "replace")
    except OSError:
        return None


class _Lister:
    def __init__(self, tree: Tree, what: str, advice: str, *, code: bool) -> None:
        self.found = Listing()
        self._tree = tree
        self._what = what
        self._advice = advice
        self._secrets = Secrets() if code else None
        self._seen = 0

    def walk(self, rules: Rules) -> None:
        waiting: list[tuple[str, Rules, tuple[str, ...]]] = [("", rules, (self._tree.real,))]
        while waiting:
            folder, rules, above = waiting.pop()
            entries = self._tree.entries(folder)
            names = {each.name for each in entries}
            if folder and names & ENVIRONMENT_MARKS:
                self.found.left_out.append(folder.rstrip("/"))
                continue
            here = rules.within(folder, self._reader(folder, names))
            waiting += [
                (f"{folder}{entry.name}/", here, (*above, entry.real))
                for entry in entries
                if self._takes(folder + entry.name, entry, here, above)
            ]

    def _reader(self, folder: str, names: set[str]) -> Callable[[str], str | None]:
        return lambda name: _text(self._tree.path(folder + name)) if name in names else None

    def _takes(self, path: str, entry: Entry, rules: Rules, above: tuple[str, ...]) -> bool:
        """Take a file, or leave it out; whether it is a folder to be looked into."""
        marked = f"{path}/" if entry.is_folder else path
        if entry.name in NEVER or rules.excludes(marked) or (entry.is_link and rules.excludes(path)):
            self.found.left_out.append(path)
            return False
        if self._is_secret(path, marked, entry) and not rules.includes(marked):
            self.found.left_out.append(path)
            self.found.secrets.append(path)
            return False
        if entry.problem:
            raise self._refusal(path, entry.problem)
        if entry.is_folder and entry.real in above:
            raise self._refusal(path, "is a link to a folder that it is in")
        if not entry.is_folder:
            self._take(path, entry)
        return entry.is_folder

    def _take(self, path: str, entry: Entry) -> None:
        try:
            check_path(path)
        except ValueError:  # a name that is not UTF-8 as well
            raise InvalidJob(
                f"{self._what} has {path!a}, which cannot be the name of a job's file: it has at most 1,024 bytes of "
                "UTF-8, and no backslashes and control characters; give it another name.",
            ) from None
        self.found.files[path], self.found.sizes[path] = self._tree.path(path), entry.size
        if len(self.found.files) > MOST_SEEN:
            raise InvalidJob(
                f"{self._what} has more than {MOST_SEEN:,} files, and a job may have {MOST_INPUTS:,}. The biggest are "
                f"{self.found.biggest()}. {self._advice}".rstrip()
            )

    def _is_secret(self, path: str, marked: str, entry: Entry) -> bool:
        if self._secrets is None:
            return False
        inside = os.path.relpath(entry.real, self._tree.real) if entry.is_link and not entry.is_folder else path
        return any(self._secrets.has(each, lambda: self._head(path)) for each in {marked, inside})

    def _head(self, path: str) -> bytes:
        try:
            with self._tree.path(path).open("rb") as file:
                return bytes(file.read(HEAD))
        except OSError:  # the upload says so
            return b""

    def _refusal(self, path: str, problem: str) -> InvalidJob:
        return InvalidJob(
            f"{self._what} has {path}, which {problem}: remove it, put in its place what it should be, or name it in a "
            ".jobapiignore.",
            field=_field(self._what),
        )


class _LocalTree:
    def __init__(self, root: Path, what: str) -> None:
        self._root = root
        self._what = what
        self.real = os.path.realpath(root)
        if not root.is_dir():
            problem = "is a file, not a folder" if root.exists() else "does not exist"
            raise InvalidJob(f"{what} {problem}.", field=_field(what))

    def path(self, path: str) -> Path:
        return self._root / path

    def entries(self, folder: str) -> list[Entry]:
        try:
            with os.scandir(self._root / folder) as found:
                return sorted(self._entry(each) for each in found)
        except OSError as error:
            raise InvalidJob(
                f"{self._what}: the folder {self._root / folder} cannot be read: {error.strerror or error}.",
                field=_field(self._what),
            ) from None

    def _entry(self, entry: os.DirEntry[str]) -> Entry:
        if entry.is_symlink():
            return self._link(entry)
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            return Entry(entry.name, True, 0, os.path.realpath(entry.path))
        problem = "" if stat.S_ISREG(status.st_mode) else "is neither a file nor a folder"
        return Entry(entry.name, False, status.st_size, "", problem)

    def _link(self, entry: os.DirEntry[str]) -> Entry:
        real = os.path.realpath(entry.path)
        try:
            status = Path(real).stat()
        except OSError:
            return Entry(entry.name, False, 0, real, f"is a link to {real}, which does not exist", True)
        inside = Path(real).is_relative_to(self.real) and not NEVER & set(Path(real).relative_to(self.real).parts)
        is_folder, is_file = stat.S_ISDIR(status.st_mode), stat.S_ISREG(status.st_mode)
        problem = "" if inside else f"is a link to {real}, outside of the folder"
        problem = problem or ("" if is_folder or is_file else "is a link to what is neither a file nor a folder")
        return Entry(entry.name, is_folder, status.st_size, real, problem, is_link=True)


class _StoreTree:
    """A folder of an object store, which has no links; it is listed at once."""

    real = ""

    def __init__(self, root: Any, what: str) -> None:
        self._root = root
        self._folders: dict[str, dict[str, Entry]] = {"": {}}
        for path, size in found_below(root, what):
            self._add(path, size)
        if not self._folders[""]:
            raise InvalidJob(f"{what} has no file: there is nothing below {root}.", field=_field(what))

    def _add(self, path: str, size: int) -> None:
        *folders, name = path.split("/")
        place = ""
        for folder in folders:
            self._folders[place].setdefault(folder, Entry(folder, True, 0, f"/{place}{folder}"))
            place += f"{folder}/"
            self._folders.setdefault(place, {})
        self._folders[place][name] = Entry(name, False, size)

    def path(self, path: str) -> DataPath:
        found: DataPath = self._root.joinpath(*path.split("/"))
        return found

    def entries(self, folder: str) -> list[Entry]:
        return sorted(self._folders.get(folder, {}).values())


def found_below(root: Any, what: str) -> Iterator[tuple[str, int]]:
    """The path below a folder of an object store, and the size, of each file in it.

    :raises TrainingError: when the store cannot be read, as for the file of a job.
    """
    base = root.path.rstrip("/")
    try:
        found = root.fs.find(root.path, detail=True)
    except Exception as error:
        known = unreadable(what, root, error)
        if known is None:
            raise
        raise known from None
    for key, about in found.items():
        path = key.removeprefix(base).lstrip("/") if key.startswith(base) else key.lstrip("/")
        if path and not path.endswith("/") and about.get("type") != "directory":
            yield path, int(about.get("size") or 0)
