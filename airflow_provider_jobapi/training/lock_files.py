# SPDX-License-Identifier: Apache-2.0
"""Locks as requirements: ``uv.lock``, and ``pylock.toml`` of PEP 751.

They are read here and not by uv on the server: a worker needs no uv for it, and the text that comes of it, pins with
hashes and markers, is installed by every service, also by those that have pip alone. What is locked for other systems
and other Pythons stays in the text with its marker, since the worker does not know where the job will run.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.requirement_text import ALWAYS, NEVER, Listing, canonical_name, pinned

_PYPI = re.compile(r"https?://(?:www\.)?pypi\.(?:org|python\.org)(?:/simple)?/?")
_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
_MOST_ALTERNATIVES = 200
"""Of ways in which a package can be needed, each with a marker of its own."""

_CONFLICT = re.compile(r"""extra == ['"](?P<kind>extra|group)-(?P<length>\d+)-(?P<rest>[^'"]+)['"]""")
_MEMBER = re.compile(
    r"""(?P<quote>['"])(?P<name>[^'"]+)(?P=quote)\s+(?P<absent>not\s+)?in\s+(?P<kind>extras|dependency_groups)"""
)

Alternatives = set[frozenset[str]]
"""The markers under which a package is needed: one of the sets, all of whose markers hold."""


def refusal(where: str, why: str) -> InvalidJob:
    """Return the error about a file of requirements.

    :param where: The file.
    :param why: What is wrong and what to do, after "requirements names the file …, ".
    """
    return InvalidJob(f"requirements names the file {where}, {why}", field="requirements")


def _index(listing: Listing, address: str, where: str) -> None:
    """Note the index of a package, unless it is PyPI, which a server has or has a mirror of."""
    if not _ADDRESS.match(address):
        raise refusal(
            where, f"in which the package index {address} is a folder; lock with an index that has an address."
        )
    if not _PYPI.fullmatch(address):
        listing.indexes.append(address)


def _hashes(files: Sequence[Any]) -> list[str]:
    """The hashes of a package's files; none where one has no hash, since any of them may be the one to install."""
    found = [each.get("hash") if isinstance(each, dict) else None for each in files]
    return [each for each in found if isinstance(each, str)] if all(found) else []


class UvLock:
    """A ``uv.lock`` of a project, of a workspace, or of a script.

    :param groups: The extras and dependency groups of the project that are wanted, too.
    :param where: The file, for messages.
    :raises InvalidJob: when it cannot be installed from.
    """

    def __init__(self, content: Mapping[str, Any], groups: Sequence[str], where: str) -> None:
        self._content = content
        self._groups = groups
        self._where = where
        if content.get("version") != 1:
            raise refusal(where, f"which has version {content.get('version')} of uv's locks; only 1 is known here.")
        self._packages: list[dict[str, Any]] = list(content.get("package", []))
        self._by_name: dict[str, list[int]] = defaultdict(list)
        for number, package in enumerate(self._packages):
            self._by_name[package["name"]].append(number)
        self._needed: dict[int, Alternatives] = defaultdict(set)

    def listing(self) -> Listing:
        """Return what it locks."""
        self._walk()
        listing = Listing(python=str(self._content.get("requires-python", "")), exact=True)
        for number, package in enumerate(self._packages):
            if self._needed[number]:
                self._add(listing, package, _marker(self._needed[number]))
        return listing

    def _roots(self) -> list[int]:
        own = [
            number
            for number, package in enumerate(self._packages)
            if {"virtual", "editable"} & package["source"].keys()
        ]
        root = [number for number in own if "." in {*self._packages[number]["source"].values()}]
        return root or own

    def _walk(self) -> None:
        """Follow the dependencies, and collect the markers under which each package is needed."""
        always: frozenset[str] = frozenset()
        reached: dict[tuple[int, str], Alternatives] = defaultdict(set)
        manifest = self._content.get("manifest", {}).get("requirements", [])
        waiting = list(self._edges(manifest, always)) if not self._roots() else []
        for root in self._roots():
            waiting += [((root, ""), always), *self._edges(self._of_groups(self._packages[root]), always)]
        self._check_groups()
        while waiting:
            node, alternative = waiting.pop()
            known = reached[node]
            if any(each <= alternative for each in known):
                continue
            known -= {each for each in known if alternative <= each}
            known.add(alternative)
            if len(known) > _MOST_ALTERNATIVES:
                raise refusal(self._where, "whose markers are too many; export it with `uv export -o pylock.toml`.")
            number, extra = node
            package = self._packages[number]
            waiting += self._edges(
                package.get("optional-dependencies", {}).get(extra, []) if extra else package.get("dependencies", []),
                alternative,
            )
        for (number, _), alternatives in reached.items():
            self._needed[number] |= alternatives

    def _edges(
        self, dependencies: Iterable[Mapping[str, Any]], before: frozenset[str]
    ) -> Iterator[tuple[tuple[int, str], frozenset[str]]]:
        for each in dependencies:
            marker = self._without_conflicts(each.get("marker", ""))
            if marker == NEVER:
                continue
            after = before | {marker} if marker not in {"", ALWAYS} else before
            for number in self._matching(each):
                yield (number, ""), after
                for extra in each.get("extra", each.get("extras", ())):
                    yield (number, extra), after

    def _matching(self, dependency: Mapping[str, Any]) -> list[int]:
        return [
            number
            for number in self._by_name[canonical_name(dependency["name"])]
            if all(
                self._packages[number].get(key) == dependency[key] for key in ("version", "source") if key in dependency
            )
        ]

    def _of_groups(self, root: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        for group in self._groups:
            for kind in ("optional-dependencies", "dev-dependencies"):
                found += root.get(kind, {}).get(group, [])
        return found

    def _check_groups(self) -> None:
        known: set[str] = set()
        for root in self._roots():
            package = self._packages[root]
            known |= {*package.get("optional-dependencies", {}), *package.get("dev-dependencies", {})}
            known |= {*package.get("metadata", {}).get("provides-extras", [])}
        check_groups(self._groups, known, self._where)

    def _without_conflicts(self, marker: str) -> str:
        """Decide the markers that uv writes for extras and groups that exclude one another."""

        def decide(found: re.Match[str]) -> str:
            name = found["rest"][int(found["length"]) + 1 :]
            return ALWAYS if name in self._groups else NEVER

        return _CONFLICT.sub(decide, marker)

    def _add(self, listing: Listing, package: Mapping[str, Any], marker: str) -> None:
        source, name = package["source"], package["name"]
        files = [*([package["sdist"]] if "sdist" in package else []), *package.get("wheels", [])]
        if {"virtual", "editable"} & source.keys():
            return  # the project itself, whose files are the job's
        if "registry" in source:
            _index(listing, source["registry"], self._where)
            listing.lines.append(pinned(name, package["version"], marker, _hashes(files)))
        elif "git" in source:
            listing.lines.append(_at(name, _git(source["git"]), marker))
        elif "url" in source:
            listing.lines.append(_at(name, source["url"], marker, _hashes(files)))
        else:
            place = next(iter(source.values()), "")
            raise local_package(self._where, name, place)


def local_package(where: str, name: str, place: object) -> InvalidJob:
    """Return the error about a package of a lock that is a folder or a file of the machine that locked."""
    return refusal(
        where,
        f"in which the package {name} is the path {place}, which the job does not have: publish it to a package index, "
        "or ship its code as source.",
    )


def check_groups(groups: Iterable[str], known: Iterable[str], where: str) -> None:
    """Refuse extras and groups that a file does not have.

    :raises InvalidJob: naming those that it has.
    """
    have = sorted({*known})
    if unknown := [group for group in groups if group not in have]:
        there = f"it has {', '.join(have)}" if have else "it has none"
        raise refusal(where, f"which has no extra or dependency group {unknown[0]!r}; {there}.")


def _git(address: str) -> str:
    """The address of uv.lock as pip writes it: ``https://host/a?rev=main#<commit>`` becomes ``git+https://host/a@<commit>``."""
    place, _, commit = address.partition("#")
    place, _, query = place.partition("?")
    folder = re.search(r"(?:^|&)subdirectory=([^&]+)", query)
    return f"git+{place}@{commit}" + (f"#subdirectory={folder[1]}" if folder else "")


def _at(name: str, address: str, marker: str, hashes: Sequence[str] = ()) -> str:
    whole = f"{name} @ {address}" + (f" ; {marker}" if marker else "")
    return " \\\n    ".join([whole, *(f"--hash={each}" for each in hashes)])


def _marker(alternatives: Alternatives) -> str:
    """The alternatives as one marker; empty where there is no condition."""
    if frozenset() in alternatives:
        return ""
    parts = sorted(
        " and ".join(sorted(f"({each})" if " or " in each else each for each in one)) for one in alternatives
    )
    return parts[0] if len(parts) == 1 else " or ".join(f"({each})" for each in parts)


def from_pylock(content: Mapping[str, Any], groups: Sequence[str], where: str) -> Listing:
    """Read a ``pylock.toml``.

    :param groups: The extras and dependency groups that are wanted; by default its ``default-groups``.
    :param where: The file, for messages.
    :raises InvalidJob: when it cannot be installed from.
    """
    if not re.fullmatch(r"1(\.\d+)?", str(content.get("lock-version", ""))):
        raise refusal(where, f"which has the lock-version {content.get('lock-version')}; only 1 is known here.")
    known = [*content.get("extras", []), *content.get("dependency-groups", [])]
    check_groups(groups, known, where)
    chosen = set(groups) or {*content.get("default-groups", [])}
    listing = Listing(python=str(content.get("requires-python", "")), exact=True)
    for package in content.get("packages", []):
        marker = _of_members(str(package.get("marker", "")), chosen)
        _add_of_pylock(listing, package, "" if marker == ALWAYS else marker, where)
    return listing


def _of_members(marker: str, chosen: set[str]) -> str:
    """Decide what a marker of a pylock.toml asks about extras and groups."""

    def decide(found: re.Match[str]) -> str:
        return ALWAYS if (found["name"] in chosen) != bool(found["absent"]) else NEVER

    return _MEMBER.sub(decide, marker)


def _add_of_pylock(listing: Listing, package: Mapping[str, Any], marker: str, where: str) -> None:
    name = package["name"]
    if "directory" in package:
        if package["directory"].get("path") not in {".", "./"}:
            raise local_package(where, name, package["directory"].get("path"))
        return  # the project itself, whose files are the job's
    if vcs := package.get("vcs"):
        folder = f"#subdirectory={vcs['subdirectory']}" if "subdirectory" in vcs else ""
        listing.lines.append(_at(name, f"{vcs['type']}+{vcs.get('url', '')}@{vcs['commit-id']}{folder}", marker))
        return
    if archive := package.get("archive"):
        if "url" not in archive:
            raise local_package(where, name, archive.get("path"))
        listing.lines.append(_at(name, archive["url"], marker, _best_hashes([archive])))
        return
    files = [*([package["sdist"]] if "sdist" in package else []), *package.get("wheels", [])]
    if local := [file for file in files if "url" not in file and "path" in file]:
        raise local_package(where, name, local[0]["path"])
    if "index" in package:
        _index(listing, package["index"], where)
    listing.lines.append(pinned(name, package["version"], marker, _best_hashes(files)))


def _best_hashes(files: Sequence[Mapping[str, Any]]) -> list[str]:
    """The strongest hash of each file that pip knows; none where one file has none."""
    found = []
    for file in files:
        hashes = file.get("hashes", {})
        best = next((name for name in ("sha256", "sha512", "sha384") if name in hashes), None)
        if best is None:
            return []
        found.append(f"{best}:{hashes[best]}")
    return found
