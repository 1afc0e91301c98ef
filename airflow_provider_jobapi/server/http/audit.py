# SPDX-License-Identifier: Apache-2.0
"""Write one structured line to the server's log for each login that failed, submit, stop and delete."""

from __future__ import annotations

import json
import logging

from starlette.requests import Request

log = logging.getLogger(__name__)

_LENGTH = 200
"""Characters of one text in a line: of what the sender of a request claims, such as its client id."""


def audit(request: Request, event: str, client_id: str, **facts: str | bool) -> None:
    """Write a line ``audit {"event": …, "client": …, "address": …}``.

    The address is the one that the connection comes from; nobody can forge it. Behind a proxy it is the proxy's, and
    ``forwarded`` is what the proxy, or else the sender itself, says about the sender.

    :param facts: What the event is about.
    """
    line: dict[str, str | bool] = {"event": event, "client": client_id}
    line["address"] = request.client.host if request.client else ""
    if forwarded := _forwarded(request):
        line["forwarded"] = forwarded
    line |= facts
    short = {name: value[:_LENGTH] if isinstance(value, str) else value for name, value in line.items()}
    log.info("audit %s", json.dumps(short))  # in ASCII and without line breaks, so that no text forges a line


def _forwarded(request: Request) -> str:
    names = ("forwarded", "x-forwarded-for", "x-real-ip")
    return next((", ".join(request.headers.getlist(name)) for name in names if name in request.headers), "")
