# SPDX-License-Identifier: Apache-2.0
"""Checks that both dialects share: types of fields, names, places in OBS, the code folder's limits."""

from __future__ import annotations

import asyncio
import re
from pathlib import PurePosixPath
from typing import Any

from aiohttp import web

from tests.harness.modelarts.catalogue import ALGORITHM_LIMITS
from tests.harness.modelarts.errors import Refused
from tests.harness.modelarts.faults import Faults
from tests.harness.modelarts.obs import Obs, split

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Fields:
    """An object of a request's body, read field by field.

    :param value: The object.
    :param code: The error of this dialect for a field that is wrong.
    :param where: How the object is called in messages.
    """

    def __init__(self, value: Any, code: str, where: str = "") -> None:
        self.code, self.where = code, where
        if not isinstance(value, dict):
            raise self.wrong(where or "body", "an object")
        self.value: dict[str, Any] = value

    def wrong(self, name: str, should: str) -> Refused:
        return Refused(self.code, f"{name} must be {should}")

    def text(self, name: str, *, limit: int | None = None, needed: bool = False) -> str:
        """A string; empty when it is not given."""
        value = self.value.get(name)
        if value is None and not needed:
            return ""
        if not isinstance(value, str) or (needed and not value):
            raise self.wrong(self.where + name, "a string")
        if limit is not None and len(value) > limit:
            raise self.wrong(self.where + name, f"at most {limit} characters long")
        return value

    def number(self, name: str) -> int | None:
        """An integer; None when it is not given."""
        value = self.value.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise self.wrong(self.where + name, "an integer")
        return value

    def items(self, name: str) -> list[Fields]:
        """An array of objects; empty when it is not given."""
        value = self.value.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(self.where + name, "an array")
        return [Fields(item, self.code, f"{self.where}{name}.") for item in value]

    def inner(self, name: str) -> Fields:
        """An object within; empty when it is not given."""
        value = self.value.get(name)
        return Fields({} if value is None else value, self.code, f"{self.where}{name}.")

    def name(self, name: str) -> str:
        """The name of a job."""
        value = self.value.get(name)
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise self.wrong(self.where + name, "1 to 64 letters, digits, underscores and hyphens")
        return value

    def pairs(self, name: str, key: str) -> list[tuple[str, str]]:
        """Names and values of parameters, all of them strings."""
        found = [(item.text(key, needed=True), item.value.get("value")) for item in self.items(name)]
        for label, value in found:
            if not isinstance(value, str):
                raise self.wrong(f"{self.where}{name}.{label}", "a string")
        return [(label, str(value)) for label, value in found]


async def body_of(request: web.Request, code: str) -> Fields:
    """The JSON object of a request.

    :param code: The error of this dialect for a body that is not one.
    """
    if request.content_type != "application/json":
        raise Refused(code, "Content-Type must be application/json")
    try:
        value = await request.json()
    except ValueError:
        raise Refused(code, "the body is not JSON") from None
    return Fields(value, code)


def query_number(request: web.Request, name: str, otherwise: int, low: int, high: int, code: str) -> int:
    """A number of the query within its range."""
    given = request.query.get(name, "")
    if not given:
        return otherwise
    if not given.isdecimal() or not low <= int(given) <= high:
        raise Refused(code, f"{name} must be a number from {low} to {high}")
    return int(given)


async def check_place(obs: Obs, url: str, *, is_folder: bool = True) -> None:
    """Whether a place in OBS can be: its form and its bucket."""
    try:
        bucket, key = split(url)
    except ValueError as error:
        raise Refused("2791", url, error) from None
    if is_folder and key and not key.endswith("/"):
        raise Refused("2791", url, "a folder ends with /")
    if not await asyncio.to_thread(obs.has_bucket, bucket):
        raise Refused("2791", url, f"the bucket {bucket} does not exist")


async def check_code(obs: Obs, faults: Faults, code_url: str, boot_url: str) -> str:
    """Whether code folder and boot file can be used; answers the boot file's path within the folder."""
    await check_place(obs, code_url)
    if not code_url.endswith("/"):
        raise Refused("2757")
    folder, boot = split(code_url), _split_boot(boot_url)
    if boot[0] != folder[0] or not boot[1].startswith(folder[1]) or boot[1].endswith("/"):
        raise Refused("2758")
    sizes = await asyncio.to_thread(obs.sizes, code_url)
    if not sizes:
        raise Refused("2757")
    within = boot[1].removeprefix(folder[1])
    if within not in sizes:
        raise Refused("2758")
    limits = faults.get("code_limits") or ALGORITHM_LIMITS
    if len(sizes) > limits["files"]:
        raise Refused("2759", limits["files"])
    if max(len(PurePosixPath(name).parts) for name in sizes) > limits["depth"]:
        raise Refused("2760", limits["depth"])
    if sum(sizes.values()) > limits["bytes"]:
        raise Refused("2761", limits["bytes"] / 1024**3)
    return within


def _split_boot(url: str) -> tuple[str, str]:
    try:
        return split(url)
    except ValueError:
        raise Refused("2758") from None
