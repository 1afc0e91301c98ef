# SPDX-License-Identifier: Apache-2.0
"""Run the server: ``jobapi serve``."""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
import resource
import shlex
import signal
import socket
import sys
from contextlib import suppress
from types import FrameType

import uvicorn

from airflow_provider_jobapi import __version__
from airflow_provider_jobapi.server.config import Settings, SettingsError
from airflow_provider_jobapi.server.http.app import build, create_app
from airflow_provider_jobapi.server.http.connections import LimitedProtocol
from airflow_provider_jobapi.server.http.routes.dependencies import ServerComponents
from airflow_provider_jobapi.server.run.engines.local import can_hide_processes
from airflow_provider_jobapi.server.run.supervisor.process_tree import refuse_to_be_read
from airflow_provider_jobapi.server.store import layout
from airflow_provider_jobapi.server.store.clients import FIRST_CLIENT
from airflow_provider_jobapi.server.store.connection_help import connection_file, connection_help, write_connection
from airflow_provider_jobapi.server.store.reserve import Reserve, open_database

_SHUTDOWN_SECONDS = 10
"""The time that open requests get when the server ends."""

_HEADER_BYTES = 64 * 1024
"""The size of a request's headers at which the connection is closed; ``http/limits.py`` answers 431 to smaller ones."""

_OPEN_FILES = 65_536
"""The limit of open files that the server asks for: each connection and each log that is read needs one."""


def serve(settings: Settings) -> int:
    """Run the server until a signal ends it; returns the exit code.

    :raises SettingsError: when it cannot start.
    """
    settings.check_user_of_jobs()
    os.umask(0o077)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("airflow_provider_jobapi").setLevel(logging.INFO)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # `jobapi gc` may come before the server is up
    signal.signal(signal.SIGTERM, _interrupt)
    _raise_file_limit()
    layout.prepare_root(settings.root)
    with layout.root_lock(settings.root):
        Reserve(settings.root).make_room()
        database = open_database(settings.root)
        try:
            database.check()
            components = build(settings, database)
            if components.runner.environments.credentials:
                refuse_to_be_read()  # its variables have them
            with suppress(KeyboardInterrupt):  # uvicorn raises the signal again that ended it
                return _run(settings, components)
            if going := len(components.registry.placed()):
                _print(f"{going} jobs go on; the next server on this root takes them over.")
            return 0
        finally:
            database.close()


def _run(settings: Settings, components: ServerComponents) -> int:
    listener = _listen(settings)
    welcome = _welcome(settings, components, _url(listener))
    config = uvicorn.Config(
        create_app(components),
        # h11 bounds the memory of headers; the faster parser does not.
        http=LimitedProtocol,
        ws="none",
        h11_max_incomplete_event_size=_HEADER_BYTES,
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # an address or a scheme that the sender of a request can claim is not taken for true
        timeout_keep_alive=65,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    server = _Server(config, components, welcome)
    server.run(sockets=[listener])
    return 0 if server.started else 1


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, components: ServerComponents, welcome: str) -> None:
        super().__init__(config)
        self._components = components
        self._welcome = welcome

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._components.housekeeper.wake)
            _print(self._welcome)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._components.log_watcher.close()
        await super().shutdown(sockets)


def _print(text: str) -> None:
    """Print what the person at the terminal waits for. A log file on a full disk is no reason to end."""
    with suppress(OSError):
        print(text, flush=True)  # noqa: T201


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _raise_file_limit() -> None:
    """Raise the limit of open files, which is often 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"The server cannot listen on {settings.host} port {settings.port}: {error.strerror}. If that is a jobAPI "
            "server, use it; otherwise choose another with --host and --port."
        ) from None
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _welcome(settings: Settings, components: ServerComponents, address: str) -> str:
    clients = components.clients
    url = settings.url.rstrip("/") or address
    place = f"jobAPI server {__version__} listens at {address}; its files are below {settings.root}."
    place += f"\n{_user_of_jobs(settings, can_protect=components.runner.environments.can_protect)}"
    if names := [client.client_id for client in clients.all()]:
        renew = f"`jobapi client renew {names[0]} --root {shlex.quote(str(settings.root))}`"
        file = connection_file(settings.root, names[0])
        where = f" The connection of {names[0]!r} is in {file}." if file.exists() else ""
        return f"{place}\nClients: {', '.join(names)}.{where} A lost secret is replaced by {renew}."
    help_text = connection_help(url, FIRST_CLIENT, clients.add(FIRST_CLIENT))
    file = write_connection(settings.root, FIRST_CLIENT, help_text)
    first = f"This is its first start: the client {FIRST_CLIENT!r} was made. Its connection for Airflow is in {file}, "
    first += f"which only this user can read: `. {shlex.quote(str(file))}` sets it in a shell."
    # Where nobody reads along, the output is kept for others to read: a service's journal, a container's log.
    return f"{place}\n\n{first}\n" + (f"\nGive Airflow the connection:\n\n{help_text}" if _is_terminal() else "")


def _is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


def _user_of_jobs(settings: Settings, *, can_protect: bool = True) -> str:
    """One line that says as whom jobs run, and what they can read and change of one another.

    :param can_protect: Whether jobs can be kept from changing the environments of later jobs.
    """
    own = "" if can_protect else (
        " Each job makes a Python environment of its own, without a cache of packages, since this system lets the "
        "server make no mount namespaces, with which jobs could share one and not change it."
    )  # fmt: skip
    return _privileges_of_jobs(settings) + ("" if os.geteuid() == 0 and not settings.users else own)


def _privileges_of_jobs(settings: Settings) -> str:
    if settings.users:
        first, last = settings.users
        command_lines = (
            "they do not see the processes of other users."
            if can_hide_processes()
            else "they can read the command lines of all processes, since /proc cannot be mounted for them here (this "
            "needs Linux 5.8 and CAP_SYS_ADMIN): pass jobs no secret as an argument, or mount /proc with hidepid=2."
        )
        return (
            f"The jobs of each client run under a user id of its own ({first}-{last}) and cannot read the files of "
            f"other clients or of the server; {command_lines}"
        )
    if os.geteuid() == 0:
        return (
            "Jobs run as root (--jobs-as-root): each job can read and change the files, variables and secrets of every "
            "other job, of the server and of this machine."
        )
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        name = f"user id {os.geteuid()}"
    return (
        f"Jobs run as {name}, the server's own user: each job can read and change the files, variables and secrets of "
        "every other job and of the server; started as root with --users, the server separates its clients."
    )
