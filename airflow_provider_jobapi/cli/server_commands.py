# SPDX-License-Identifier: Apache-2.0
"""The commands of the server: run it, manage its clients, free disk space."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from airflow_provider_jobapi.cli.exit_codes import USAGE
from airflow_provider_jobapi.cli.terminal import say

if TYPE_CHECKING:
    from airflow_provider_jobapi.cli.terminal import Commands
    from airflow_provider_jobapi.server.config import Settings


def add_commands(commands: Commands) -> None:
    """Add the commands of the server."""
    from airflow_provider_jobapi.server.config import add_options

    for name, run, text, settings in (
        ("serve", _serve, "run the server", ()),
        ("gc", _gc, "remove jobs and work folders whose retention is over, and environments beyond their bound", _GC),
        ("openapi", _openapi, "print the OpenAPI document", ("root",)),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(room=_run, run=run)
        add_options(command, *settings)
    _add_client_commands(commands.add_parser("client", help="manage the clients that may use the server"))


def _run(options: argparse.Namespace) -> int:
    try:
        from sqlalchemy.exc import DatabaseError

        from airflow_provider_jobapi.server.config import Settings, SettingsError
        from airflow_provider_jobapi.server.errors import ServerError

        try:
            return int(options.run(Settings.load(vars(options), os.environ), options))
        except (SettingsError, ServerError) as error:
            say(str(error))
        except DatabaseError as error:
            path = f"{options.root or 'the root'}/jobapi.sqlite"
            say(
                f"The database {path} cannot be used: {error.orig}; restore it from a backup, or choose another --root."
            )
    except ModuleNotFoundError as error:
        say(f"{error.name} is missing: pip install 'airflow-provider-jobapi[server]'")
    return USAGE


_GC = ("root", "retention", "work_retention", "upload_retention", "environment_bound")
_CLIENT = ("root", "host", "port", "url", "users", "trust_all_clients")


def _add_client_commands(parser: argparse.ArgumentParser) -> None:
    from airflow_provider_jobapi.server.config import add_options

    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, text, settings in (
        ("add", _client_add, "make a client and print its connection", _CLIENT),
        ("renew", _client_renew, "replace a client's secret and print its connection", _CLIENT),
        ("remove", _client_remove, "remove a client with its jobs and objects", ("root",)),
        ("list", _client_list, "list the clients", ("root",)),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(room=_run, run=run)
        if name != "list":
            command.add_argument("client", help="the client's id")
        add_options(command, *settings)


def _serve(settings: Settings, _options: argparse.Namespace) -> int:
    from airflow_provider_jobapi.server.serve import serve

    return serve(settings)


def _gc(settings: Settings, _options: argparse.Namespace) -> int:
    from airflow_provider_jobapi.server.run.housekeeping import collect_now

    print(collect_now(settings))
    return 0


def _openapi(_settings: Settings, _options: argparse.Namespace) -> int:
    from airflow_provider_jobapi.server.http.app import create_app
    from airflow_provider_jobapi.server.http.openapi import text

    sys.stdout.write(text(create_app()))
    return 0


def _client_add(settings: Settings, options: argparse.Namespace) -> int:
    from airflow_provider_jobapi.server.store.clients import open_registry

    with open_registry(settings, make=True) as registry:
        secret = registry.add(options.client)
    return _print_connection(settings, options.client, secret)


def _client_renew(settings: Settings, options: argparse.Namespace) -> int:
    from airflow_provider_jobapi.server.store.clients import open_registry

    with open_registry(settings) as registry:
        secret = registry.renew(options.client)
    return _print_connection(settings, options.client, secret)


def _client_remove(settings: Settings, options: argparse.Namespace) -> int:
    from airflow_provider_jobapi.server.store.clients import open_registry

    with open_registry(settings) as registry:
        registry.remove(options.client)
    print(f"The client {options.client!r} was removed with its jobs and objects.")
    return 0


def _client_list(settings: Settings, _options: argparse.Namespace) -> int:
    from airflow_provider_jobapi.server.store.clients import open_registry
    from airflow_provider_jobapi.training.units import size_text

    with open_registry(settings) as registry:
        for client in registry.all():
            uid = "" if client.uid is None else f", user id {client.uid}"
            print(f"{client.client_id}: {size_text(client.used)} stored{uid}")
    return 0


def _print_connection(settings: Settings, client_id: str, secret: str) -> int:
    from airflow_provider_jobapi.server.store.connection_help import connection_help

    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = settings.url or f"http://{host}:{settings.port}"
    print(f"The secret of {client_id!r} is shown this once. Give Airflow the connection:\n")
    print(connection_help(url, client_id, secret))
    return 0
