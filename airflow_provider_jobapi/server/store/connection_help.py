# SPDX-License-Identifier: Apache-2.0
"""Describe the Airflow connection of a client, and keep that of the first one in a file of its own."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from urllib.parse import urlsplit

from airflow_provider_jobapi.server.config import SettingsError


def connection_file(root: Path, client_id: str) -> Path:
    """Return the file with the connection of a client that was made at the first start."""
    return root / f"connection-{client_id}.sh"


def write_connection(root: Path, client_id: str, help_text: str) -> Path:
    """Write the connection of a client to a file that only the user of the server can read, and return its path.

    :param help_text: The description of :func:`connection_help`. A shell that reads the file sets the variable.
    :raises SettingsError: when it cannot be written.
    """
    file = connection_file(root, client_id)
    lines = (line if line.lstrip().startswith("export ") else f"# {line}".rstrip() for line in help_text.splitlines())
    try:
        file.unlink(missing_ok=True)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as opened:
            opened.write("\n".join(lines) + "\n")
    except OSError as error:
        raise SettingsError(
            f"The connection of {client_id!r} cannot be written to {file}: {error.strerror}; get another secret with "
            f"`jobapi client renew {client_id} --root {shlex.quote(str(root))}`."
        ) from None
    return file


def connection_help(base_url: str, client_id: str, secret: str) -> str:
    """Describe the Airflow connection of a client, as a command and as an environment variable.

    The port stands apart, also where it is the default one: Airflow's form sends port 0 for an empty one, and its
    *Test* button then answers that the port differs from the stored connection's.
    """
    host, port = _split_port(base_url)
    fields = {"conn_type": "jobapi", "host": host, "port": port, "login": client_id, "password": secret}
    command = (
        f"airflow connections add jobapi_default --conn-type jobapi --conn-host {shlex.quote(host)} --conn-port {port} "
        f"\\\n      --conn-login {client_id} --conn-password {shlex.quote(secret)}"
    )
    return f"  {command}\n\nor\n\n  export AIRFLOW_CONN_JOBAPI_DEFAULT={shlex.quote(json.dumps(fields))}\n"


def _split_port(base_url: str) -> tuple[str, int]:
    """Split an address into the address without its port, and the port."""
    parts = urlsplit(base_url.rstrip("/"))
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return parts._replace(netloc=host).geturl(), parts.port or {"http": 80, "https": 443}[parts.scheme]
