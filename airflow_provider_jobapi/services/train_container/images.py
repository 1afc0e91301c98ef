# SPDX-License-Identifier: Apache-2.0
"""The images of trains and of their successors' bases on an engine, pulled where they are to be pulled."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.services.train_container.engine import Engine
from airflow_provider_jobapi.services.train_container.errors import ImageMissing

LOCAL = "localhost/"
"""How the names of images begin that an engine has built and no registry has."""

Auth = Callable[[str], "Mapping[str, str] | None"]
"""Returns the user and password for the registry of an image; None where that needs no login."""


@dataclass(frozen=True, slots=True)
class Images:
    """The images of one engine.

    :ivar pull: When an image is pulled: ``missing``, ``always`` or ``never``.
    :ivar retry: How each request is repeated while the engine does not answer.
    """

    engine: Engine
    pull: str
    auth: Auth
    retry: Retry
    log: logging.Logger

    def ensure(self, image: str) -> dict[str, Any]:
        """Pull an image where it is to be pulled, and return what the engine says of it.

        :raises ImageMissing: when neither the engine nor the registry has it.
        """
        found = self.retry.call(lambda: self.engine.image(image), self.log)
        may_pull = not image.startswith(LOCAL)
        if may_pull and (self.pull == "always" or (found is None and self.pull == "missing")):
            self.log.info(f"Pulling {image}.")
            self.retry.call(lambda: self.engine.pull(image, self.auth(image)), self.log)
            found = self.retry.call(lambda: self.engine.image(image), self.log)
        if found is None:
            why = f"the connection's pull is {self.pull}" if may_pull else f"{LOCAL} is no registry"
            raise ImageMissing(
                f"The engine {self.engine.where} has no image {image}, and {why}: load it there, or let it be pulled.",
                field="image",
            )
        return found


def digest_of(image: Mapping[str, Any]) -> str:
    """Return the digest of an image in its registry, else the engine's own id of it.

    :param image: What the engine says of it.
    """
    digests = (str(each).partition("@")[2] for each in image.get("RepoDigests") or [])
    return next(filter(None, digests), str(image.get("Id") or ""))
