# SPDX-License-Identifier: Apache-2.0
"""The settings of a connection to ModelArts: its endpoint, the login to IAM, and the bucket of OBS for files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from airflow_provider_jobapi.services import fields, settings

Dialect = Literal["v1", "v2"]


def _iam_url(name: str, value: Any) -> str:
    address = settings.base_url(name, settings.stripped(name, value))
    return address if address.endswith("/v3") else f"{address}/v3"


def _obs_url(name: str, value: Any) -> str:
    given = settings.stripped(name, value)
    return settings.base_url(name, given if "://" in given else f"https://{given}")


def _default_region(values: Mapping[str, Any]) -> str:
    return str(values["project"]).partition("_")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelArtsConnection(fields.HttpConnectionSettings):
    """A connection to ModelArts. See :meth:`~airflow_provider_jobapi.services.fields.ConnectionSettings.of`."""

    url: str = fields.host(
        "ModelArts endpoint",
        "The address of ModelArts, such as https://modelarts.eu-de.otc.t-systems.com.",
        placeholder="https://modelarts.eu-de.otc.t-systems.com",
    )
    user: str = fields.login("IAM user", "The name of the IAM user.")
    password: str = fields.password("IAM password", "The password of the IAM user, not an access key.")
    iam_url: str = fields.setting(
        "IAM URL",
        "The address of IAM, such as https://iam.eu-de.otc.t-systems.com/v3.",
        _iam_url,
        required=True,
        json_format="url",
    )
    domain: str = fields.setting(
        "Domain", "The name of the account that the user belongs to.", settings.stripped, required=True
    )
    project: str = fields.setting(
        "Project", "The name of the project, such as eu-de or eu-de_training.", settings.stripped, required=True
    )
    region: str = fields.setting(
        "Region",
        "The region by which requests to OBS are signed.",
        settings.matching(r"[A-Za-z0-9_-]{1,64}", "1 to 64 letters, digits, '_' and '-'"),
        default=_default_region,
        default_text="the project's name up to its first _",
    )
    obs_url: str = fields.setting(
        "OBS endpoint",
        "The address of OBS, such as https://obs.eu-de.otc.t-systems.com.",
        _obs_url,
        key="obs_endpoint",
        required=True,
    )
    obs_access_key: str = fields.setting(
        "OBS access key", "The access key (AK) to OBS.", settings.stripped, required=True, printable=False
    )
    obs_secret_key: str = fields.setting(
        "OBS secret key",
        "The secret key (SK) to OBS.",
        settings.stripped,
        required=True,
        json_format="password",
    )
    bucket: str = fields.setting(
        "Bucket",
        "The bucket of OBS for the files of jobs, in ModelArts' region.",
        settings.bucket_name,
        required=True,
    )
    prefix: str = fields.setting(
        "Prefix",
        "The folder in the bucket that contains one folder for each job.",
        settings.bucket_folder,
        default="jobs",
    )
    dialect: Dialect = fields.setting(
        "Dialect",
        "The API to use: v2, or v1 for the old version of training management.",
        settings.one_of(("v1", "v2")),
        default="v2",
        choices=("v1", "v2"),
    )
    engine: str | None = fields.setting(
        "Engine", "The engine, as name:version, for jobs whose image names no exact version."
    )
    workspace_id: str = fields.setting(
        "Workspace",
        "The id of the workspace, where the account has several.",
        settings.matching(r"[A-Za-z0-9-]{1,64}", "1 to 64 letters, digits and '-'"),
        default="0",
    )
    poll_interval: float = fields.setting(
        "Poll interval",
        "Seconds between two requests for a job's state and log, from 0.1 to 60; a tenth more or less each time.",
        settings.seconds_between(0.1, 60, example=10),
        default=10,
        json_type="number",
    )

    @property
    def in_clear(self) -> bool:
        """Whether the password or the token leaves this machine unencrypted."""
        return any(settings.travels_in_clear(url) for url in (self.url, self.iam_url))
