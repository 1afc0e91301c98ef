# SPDX-License-Identifier: Apache-2.0
"""Parse the listings of what a job left on a jobAPI: the files of its model, those in its working directory. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.answer import Answer, sentence
from airflow_provider_jobapi.services.jobapi.contract import read_object
from airflow_provider_jobapi.training.status import read_time


@dataclass(frozen=True, slots=True)
class ListingPage:
    """A page of the files that a job left.

    :ivar content: What the service says about them besides.
    :ivar files: The files as listed.
    :ivar following: Where the next page begins; None at the end.
    """

    content: Mapping[str, Any]
    files: list[dict[str, Any]]
    following: str | None

    @property
    def kind(self) -> str | None:
        """The kind of the model, where the service names it."""
        kind = self.content.get("kind")
        if kind is not None and not (isinstance(kind, str) and re.fullmatch(r"[a-z][a-z0-9_]{0,39}", kind)):
            raise BrokenContract(f"The service's listing of the model has the kind {sentence(kind, 40)!r}, not a word.")
        return kind

    @property
    def root(self) -> str:
        """The model's directory in the working directory; empty where the service does not say."""
        root = self.content.get("root", self.content.get("path"))
        return root[:1024] if isinstance(root, str) else ""

    @property
    def unsafe(self) -> bool:
        """Whether the service says that to load the model can run code that is in its files."""
        return self.content.get("unsafe") is True

    @property
    def left_out(self) -> int:
        """How many entries are not listed."""
        count = self.content.get("leftOut")
        return count if isinstance(count, int) and count > 0 else 0

    @property
    def until(self) -> datetime | None:
        """When the files are removed, where the service says so."""
        try:
            return read_time(self.content.get("until"))
        except ValueError:
            return None


def read_model(answer: Answer) -> ListingPage | None:
    """Read a page of the files of a job's model; None without a model."""
    return _read_listing(answer, "model")


def read_work(answer: Answer) -> ListingPage | None:
    """Read a page of the files in a job's working directory; None where it is gone or empty."""
    return _read_listing(answer, "work")


def _read_listing(answer: Answer, name: str) -> ListingPage | None:
    content = read_object(answer, name)
    found, following = content.get(name), content.get("next")
    if found is None and name in content:
        return None
    files = found.get("files") if isinstance(found, dict) else None
    if not isinstance(files, list) or not all(isinstance(file, dict) for file in files):
        raise BrokenContract(f"The service's listing of the {name} has no list of files.")
    if not isinstance(following, str | None):
        raise BrokenContract(f"The service's listing of the {name} has a next page that is not a text.")
    return ListingPage(found if isinstance(found, dict) else {}, files, following)
