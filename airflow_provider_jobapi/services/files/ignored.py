# SPDX-License-Identifier: Apache-2.0
"""What of a folder is not uploaded: what its ignore files exclude, caches, and what looks like a secret.

Ignore files have git's syntax and rules: those of the folder and of the folders in it, and of the folders above it up
to the root of the repository. ``.jobapiignore`` comes after ``.gitignore`` and may bring back, by ``!``, what that one
or the lists below exclude. Whether git tracks a file does not count, nor do a user's settings (``core.excludesFile``),
so that a folder has the same files on every machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

GITIGNORE, JOBAPIIGNORE = ".gitignore", ".jobapiignore"

NEVER = frozenset({".git", "__pycache__"})
"""The names that are never uploaded."""

ENVIRONMENT_MARKS = frozenset({"pyvenv.cfg", "conda-meta"})
"""What a folder has that is a virtual environment; no such folder is uploaded."""

CACHES = (
    *(
        "*.py[co]",
        ".DS_Store",
        "Thumbs.db",
        ".hg/",
        ".svn/",
        ".idea/",
        ".vscode/",
        ".ipynb_checkpoints/",
        "node_modules/",
    ),
    *(".tox/", ".nox/", ".venv/", ".eggs/", ".mypy_cache/", ".pytest_cache/", ".ruff_cache/", ".coverage"),
    *(GITIGNORE, JOBAPIIGNORE),
)
"""What tools leave in a folder of code."""

SECRETS = (
    *(".env", ".env.*", "!.env.example", "!.env.sample", "!.env.template", "!.env.dist", ".envrc"),
    *(".netrc", "_netrc", ".pypirc", ".pgpass", ".git-credentials", ".htpasswd", ".boto", ".s3cfg", ".databrickscfg"),
    *("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx"),
    *(".aws/", ".ssh/", ".gnupg/", ".kube/", ".docker/config.json", "kaggle.json", "client_secret*.json"),
    *("credentials.json", "service_account*.json", "service-account*.json", "secrets.toml"),
)
"""The usual names of files with passwords and keys, which count in upper case, too."""

KEYS = (".pem", ".key")
"""Endings of files that may be certificates, too: those with a private key in them are secrets."""


@dataclass(frozen=True, slots=True)
class Patterns:
    """The patterns of one folder's ignore files.

    :ivar folder: The folder's path below the root, which ends with ``/``; empty for the root and the folders above it.
    :ivar before: Of a folder above the root, the path from it to the root, which ends with ``/``.
    """

    folder: str
    before: str
    spec: GitIgnoreSpec

    def verdict(self, path: str) -> bool | None:
        """Whether the last pattern that matches a path excludes it; None where none matches."""
        return self.spec.check_file(self.before + path.removeprefix(self.folder)).include


@dataclass(frozen=True, slots=True)
class Rules:
    """The patterns that count in one folder.

    :ivar patterns: Those of the folder itself come first, the lists of this module last.
    :ivar names: The ignore files that are read.
    """

    patterns: tuple[Patterns, ...]
    names: tuple[str, ...]

    @classmethod
    def of_code(cls) -> Rules:
        """The rules of a folder of code, before its ignore files are read."""
        return cls((Patterns("", "", _spec(CACHES)),), (GITIGNORE, JOBAPIIGNORE))

    @classmethod
    def of_data(cls) -> Rules:
        """The rules of a folder of data, which is itself excluded in many repositories."""
        return cls((Patterns("", "", _spec((JOBAPIIGNORE, ".DS_Store"))),), (JOBAPIIGNORE,))

    def within(self, folder: str, read: Callable[[str], str | None]) -> Rules:
        """The rules of a folder, with those of its ignore files.

        :param folder: As in :class:`Patterns`.
        :param read: Reads an ignore file of the folder by its name; None where there is none.
        """
        return self.with_texts(folder, [read(name) or "" for name in self.names])

    def with_texts(self, folder: str, texts: Sequence[str], before: str = "") -> Rules:
        """The rules with those of the texts of ignore files.

        :param folder: As in :class:`Patterns`, and so is ``before``.
        """
        lines = [line for text in texts if text for line in re.split(r"\r?\n", text.removeprefix("\ufeff"))]
        return Rules((Patterns(folder, before, _spec(lines)), *self.patterns), self.names) if lines else self

    def excludes(self, path: str) -> bool:
        """Whether a path is excluded; that of a folder ends with ``/``."""
        return self._verdict(path) is True

    def includes(self, path: str) -> bool:
        """Whether an ignore file brings a path back by ``!``."""
        return self._verdict(path) is False

    def _verdict(self, path: str) -> bool | None:
        return next((found for each in self.patterns if (found := each.verdict(path)) is not None), None)


def _spec(lines: Sequence[str]) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError:  # git passes over a line that is no pattern
        return GitIgnoreSpec.from_lines([line for line in lines if _is_pattern(line)])


def _is_pattern(line: str) -> bool:
    from pathspec import GitIgnoreSpec

    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return True


class Secrets:
    """Recognises files that look like secrets, by path and content."""

    def __init__(self) -> None:
        self._spec = _spec(SECRETS)

    def has(self, path: str, head: Callable[[], bytes]) -> bool:
        """Whether a path, that of a folder with ``/`` at its end, looks like one of secrets.

        :param head: Reads the first bytes of the file.
        """
        if self._spec.check_file(path.lower()).include:
            return True
        return PurePosixPath(path).suffix.lower() in KEYS and b"PRIVATE KEY-----" in head()
