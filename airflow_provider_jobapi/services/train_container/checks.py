# SPDX-License-Identifier: Apache-2.0
"""Checks of the connection form's Test button: the engine, what the station offers, and the isolation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_jobapi.services.checks import CheckResult, run_check
from airflow_provider_jobapi.services.train_container.isolation import read_isolation

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.train_container.service import TrainContainerService


def check(service: TrainContainerService) -> list[CheckResult]:
    """Check each thing once, without retries. Nothing is created on the engine."""

    def engine() -> str:
        found = service.engine.version()
        name = next((each.get("Name") for each in found.get("Components") or []), "") or "Docker"
        clear = "" if service.connection.is_local or service.connection.certificates else "; it is not encrypted"
        return f"{service.engine.where} answers: {name} {found.get('Version')}, API {found.get('ApiVersion')}{clear}"

    def environment() -> str:
        names = sorted(service.offered())
        return f"station {service.connection.station!r} offers {', '.join(names) or 'no variables'}"

    def isolation() -> str:
        loosened = read_isolation(service.connection.isolation).loosened()
        return f"containers are looser than by default in {', '.join(loosened)}" if loosened else "nothing is loosened"

    return [run_check("Engine", engine), run_check("Environment", environment), run_check("Isolation", isolation)]
