# SPDX-License-Identifier: Apache-2.0
"""The settings of a connection to ModelArts: its endpoint, who we are for IAM, and the bucket of OBS for the files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from airflow_provider_jobapi.exceptions import ConnectionProblem
from airflow_provider_jobapi.services import settings

EXTRAS = (
    "bucket", "ca_bundle", "dialect", "domain", "engine", "iam_url", "obs_access_key", "obs_endpoint",
    "obs_secret_key", "poll_interval", "prefix", "project", "proxy", "region", "timeout", "verify", "workspace_id",
)  # fmt: skip
"""What the connection's extra may hold."""

_NEEDED = {
    "iam_url": "the address of IAM, such as https://iam.eu-de.otc.t-systems.com/v3",
    "domain": "the name of the account that the user belongs to",
    "project": "the name of the project, such as eu-de",
    "obs_endpoint": "the address of OBS, such as https://obs.eu-de.otc.t-systems.com",
    "obs_access_key": "the access key (AK) to OBS",
    "obs_secret_key": "the secret key (SK) to OBS",
    "bucket": "the bucket of OBS for the files of jobs",
}

Dialect = Literal["v1", "v2"]


@dataclass(frozen=True, slots=True)
class ModelArtsConnection:
    """A connection to ModelArts.

    :ivar url: The endpoint of ModelArts; the documents' paths begin there.
    :ivar user: The IAM user.
    :ivar password: Its password; in no repr.
    :ivar iam_url: IAM's address, ``/v3`` included.
    :ivar domain: The account's name.
    :ivar project: The project's name; its id comes with the token.
    :ivar region: The region by which requests to OBS are signed.
    :ivar obs_url: The endpoint of OBS.
    :ivar bucket: Where the files of jobs are kept.
    :ivar prefix: The folder in the bucket below which each job has its own.
    :ivar dialect: Which of the two APIs is spoken.
    :ivar engine: The engine for jobs whose image names no exact one, as ``name:version``.
    :ivar poll_interval: Seconds from one look at a job to the next.
    """

    url: str
    user: str
    password: str = field(repr=False)
    iam_url: str
    domain: str
    project: str
    region: str
    obs_url: str
    obs_access_key: str = field(repr=False)
    obs_secret_key: str = field(repr=False)
    bucket: str
    prefix: str = "jobs"
    dialect: Dialect = "v2"
    engine: str | None = None
    workspace_id: str = "0"
    poll_interval: float = 10.0
    verify: bool = True
    ca_bundle: str | None = None
    proxy: str | None = field(default=None, repr=False)
    timeout: float = 30.0

    @classmethod
    def of(
        cls,
        *,
        host: str | None,
        port: int | None = None,
        schema: str | None = None,
        login: str | None = None,
        password: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> ModelArtsConnection:
        """Read a connection from the fields that Airflow keeps.

        :param host: ``modelarts.eu-de.otc.t-systems.com`` or a whole address.
        :param extra: See :data:`EXTRAS`; empty texts count as not given.
        :raises ConnectionProblem: naming the field and saying what is allowed.
        """
        user, secret = _user(login, password)
        given, needed = _read(extra)
        return cls(
            url=settings.address(host, port, schema, "ModelArts endpoint"),
            user=user,
            password=secret,
            iam_url=_iam(needed["iam_url"]),
            domain=needed["domain"],
            project=needed["project"],
            region=_matching(given, "region", r"[A-Za-z0-9_-]{1,64}", needed["project"].partition("_")[0]),
            obs_url=_obs(needed["obs_endpoint"]),
            obs_access_key=needed["obs_access_key"],
            obs_secret_key=needed["obs_secret_key"],
            bucket=_matching(given, "bucket", r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", ""),
            prefix=_matching(given, "prefix", r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*", "jobs"),
            dialect=_dialect(given),
            engine=settings.text(given, "engine"),
            workspace_id=_matching(given, "workspace_id", r"[A-Za-z0-9-]{1,64}", "0"),
            poll_interval=_pace(given),
            verify=settings.switch(given, "verify", default=True),
            ca_bundle=settings.file(given, "ca_bundle"),
            proxy=settings.proxy(given),
            timeout=settings.seconds(given, "timeout", 30.0),
        )

    @property
    def in_clear(self) -> bool:
        """Whether the password or the token leaves this machine unencrypted."""
        return any(settings.travels_in_clear(url) for url in (self.url, self.iam_url))

    def proxy_for(self, url: str) -> str | None:
        """The proxy on the way to this URL: the connection's own, else the one that the environment names."""
        return self.proxy or settings.environment_proxy(url)


def _read(extra: Mapping[str, Any] | None) -> tuple[dict[str, Any], dict[str, str]]:
    """What the extra gives, and of it what must be there."""
    given = settings.known(extra, EXTRAS)
    return given, {name: _needed(given, name) for name in _NEEDED}


def _user(login: str | None, password: str | None) -> tuple[str, str]:
    if not login or not password:
        missing = "login: it is the IAM user's name" if not login else "password: it is the IAM user's password"
        raise ConnectionProblem(f"The connection has no {missing}.")
    return login, password


def _obs(given: str) -> str:
    address = given if "://" in given else f"https://{given}"
    return settings.url("extra obs_endpoint", address).geturl().rstrip("/")


def _iam(given: str) -> str:
    address = settings.url("extra iam_url", given).geturl().rstrip("/")
    return address if address.endswith("/v3") else f"{address}/v3"


def _needed(extra: Mapping[str, Any], name: str) -> str:
    value = settings.text(extra, name)
    if not value or not value.strip():
        raise ConnectionProblem(f"The connection's extra has no {name}: it is {_NEEDED[name]}.")
    return value.strip()


def _matching(extra: Mapping[str, Any], name: str, allowed: str, default: str) -> str:
    value = settings.text(extra, name) or default
    if not re.fullmatch(allowed, value) or ".." in value:
        raise ConnectionProblem(f"The connection's extra {name} cannot be {value[:80]!r}; check it.")
    return value


def _dialect(extra: Mapping[str, Any]) -> Dialect:
    value = extra.get("dialect", "v2")
    if value == "v1":
        return "v1"
    if value == "v2":
        return "v2"
    raise ConnectionProblem(f"The connection's extra dialect cannot be {value!r}: it is v1 or v2.")


def _pace(extra: Mapping[str, Any]) -> float:
    read = settings.seconds(extra, "poll_interval", 10.0)
    if not 0.1 <= read <= 60:
        raise ConnectionProblem(
            f"The connection's extra poll_interval cannot be {read:g}: it is seconds from 0.1 to 60, such as 10."
        )
    return read
