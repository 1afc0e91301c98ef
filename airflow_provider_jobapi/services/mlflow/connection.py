# SPDX-License-Identifier: Apache-2.0
"""The settings of a connection to an MLflow server."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from airflow_provider_jobapi.services import fields, settings


@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowConnection(fields.HttpConnectionSettings):
    """A connection to MLflow. See :meth:`~airflow_provider_jobapi.services.fields.ConnectionSettings.of`."""

    base_url: str = fields.host(
        "Address",
        "The address of the MLflow server, such as https://mlflow.example.com; with the path of --static-prefix, where "
        "the server has one.",
        placeholder="https://mlflow.example.com",
    )
    user: str = fields.setting(
        "User", "The user, where the server asks for one.", settings.entered, key="login", default=""
    )
    password: str = fields.setting(
        "Password or token",
        "The password of the user; without a user, a token that is sent as Bearer.",
        settings.entered,
        key="password",
        default="",
        printable=False,
    )

    @property
    def authorization(self) -> str | None:
        """The header ``Authorization``; None where the connection has no password."""
        if self.user:
            return f"Basic {base64.b64encode(f'{self.user}:{self.password}'.encode()).decode()}"
        return f"Bearer {self.password}" if self.password else None

    @property
    def in_clear(self) -> bool:
        """Whether the password leaves this machine unencrypted."""
        return self.authorization is not None and settings.travels_in_clear(self.base_url)
