# SPDX-License-Identifier: Apache-2.0
"""The engines that can run jobs, by the name that ``jobapi serve --engine`` takes."""

from __future__ import annotations

from collections.abc import Callable

from airflow_provider_jobapi.server.config import Settings, SettingsError
from airflow_provider_jobapi.server.run.engines.base import Engine
from airflow_provider_jobapi.training.job_file import Resources


def make_engine(settings: Settings) -> Engine:
    """Make the engine that the settings name.

    :raises SettingsError: when there is no such engine, or it cannot run jobs with these settings.
    """
    make = _ENGINES.get(settings.engine)
    if make is None:
        raise SettingsError(f"--engine cannot be {settings.engine!r}: the known engines are {', '.join(_ENGINES)}.")
    return make(settings)


def _make_local(settings: Settings) -> Engine:
    from airflow_provider_jobapi.server.run.engines.local import LocalEngine

    settings.check_user_of_jobs()
    return LocalEngine(Resources(cpus=settings.cpus, gpus=settings.gpus, memory=settings.memory))


_ENGINES: dict[str, Callable[[Settings], Engine]] = {"local": _make_local}
