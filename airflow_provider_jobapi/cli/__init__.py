# SPDX-License-Identifier: Apache-2.0
"""The command ``jobapi``: run training jobs on a service, and run the service.

The commands for jobs import services/ and training/, the commands for the server import server/. Each is imported
by the command that needs it, so that ``jobapi status`` starts fast and needs no web framework. Airflow is imported only
for a connection that needs it, by an entry point.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

from airflow_provider_jobapi import __version__
from airflow_provider_jobapi.cli import job_commands, server_commands, train_commands
from airflow_provider_jobapi.cli.code_options import split_arguments
from airflow_provider_jobapi.cli.exit_codes import BROKEN_PIPE, INTERRUPTED, USAGE
from airflow_provider_jobapi.cli.terminal import open_streams, print_anything, say


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    :returns: The exit code; see :mod:`airflow_provider_jobapi.cli.exit_codes`.
    """
    open_streams()
    print_anything()
    words, of_script = split_arguments(sys.argv[1:] if arguments is None else list(arguments))
    options = _parser().parse_args(words, argparse.Namespace(script_arguments=of_script))
    try:
        code = int(options.room(options))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _leave_stdout()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        _end_interrupted()
        return INTERRUPTED
    except OSError as error:
        _leave_stdout()
        say(f"{error.filename or 'The output'}: {error.strerror or error}.")
        return USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="jobapi", description="Run training jobs on a service, and run the service.")
    parser.add_argument("--version", action="version", version=f"jobapi {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    job_commands.add_commands(commands)
    train_commands.add_commands(commands)
    server_commands.add_commands(commands)
    return parser


def _leave_stdout() -> None:
    """Redirect stdout after its reader has gone; otherwise Python prints an error when it flushes at its exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end_interrupted() -> None:
    """End by SIGINT itself, so that a shell script that runs the command ends too and no thread is waited for."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
