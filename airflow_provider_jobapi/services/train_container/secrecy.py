# SPDX-License-Identifier: Apache-2.0
"""Hide what a station gave to a container in what its train says.

A train gets secrets by its environment alone, and may print them, or have them in its message. The values that a
container has are known to its engine for as long as it has the container, whatever became of the variables of Airflow
since, and whoever asks: a task, a hook, a sweep. So what is kept on an engine never depends on a caller to hide them.
"""

from __future__ import annotations

from airflow_provider_jobapi.services.train_container.container_config import DATA_VARIABLE
from airflow_provider_jobapi.services.train_container.engine import Engine
from airflow_provider_jobapi.services.train_container.states import ContainerState
from airflow_provider_jobapi.training.masking import SHORTEST, Masker

PUBLIC = frozenset({DATA_VARIABLE, "PATH", "HOME", "HOSTNAME", "TERM", "container"})
"""The variables that an engine sets, or that say where something is."""


def masker_of(engine: Engine, container: ContainerState) -> Masker:
    """Return what hides the values that a container has and its image has not.

    A value of fewer characters than Airflow hides is left: it would be found in any text.
    """
    image = engine.image(container.image_id) or {}
    own = set((image.get("Config") or {}).get("Env") or ())
    given = (each.partition("=") for each in container.environment if each not in own)
    return Masker(value for name, _, value in given if name not in PUBLIC and len(value) >= SHORTEST)
