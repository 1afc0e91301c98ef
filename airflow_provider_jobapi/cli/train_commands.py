# SPDX-License-Identifier: Apache-2.0
"""The commands about images of the Train API: ``train validate``, ``train response``."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_provider_jobapi.cli.exit_codes import FAILED
from airflow_provider_jobapi.cli.job_commands import add_command, jobs_of, read_seconds
from airflow_provider_jobapi.cli.terminal import say, visible
from airflow_provider_jobapi.exceptions import InvalidJob

if TYPE_CHECKING:
    from airflow_provider_jobapi.cli.terminal import Commands

_CHUNK = 64 * 1024
"""Bytes that are read at once."""


def add_commands(commands: Commands) -> None:
    """Add the commands about images of the Train API."""
    train = commands.add_parser("train", help="images of the Train API").add_subparsers(
        required=True, metavar="COMMAND"
    )
    validate = add_command(
        train, "validate", _validate, "check whether an image keeps the Train API, without run_algorithm unless asked"
    )
    validate.add_argument("image", metavar="IMAGE")
    validate.add_argument("--run", dest="algorithm", action="store_true", help="run the algorithm, too")
    validate.add_argument(
        "--names", metavar="X", help="how the image spells the commands: train_api_v1 or describe_run"
    )
    validate.add_argument("--prefix", metavar="X", help="arguments before each command, such as '--station-id 3'")
    validate.add_argument(
        "--timeout", type=read_seconds, default=3600.0, metavar="SPAN", help="the most that each command may take (1h)"
    )
    _add_strict(validate)
    response = add_command(
        train, "response", _response, "read the stdout of a train from the standard input, and print its response"
    )
    response.add_argument("of", metavar="TRAIN_COMMAND", help="the command that was run, such as list_requirements")
    response.add_argument("--exit-code", type=int, default=0, metavar="N", help="the exit code of the train (0)")
    _add_strict(response)


def _add_strict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--strict", action="store_true", help="refuse anything but blanks after a response")


def _validate(options: argparse.Namespace) -> int:
    from airflow_provider_jobapi.services.train_container.commands import Command, read_spelling
    from airflow_provider_jobapi.services.train_container.plan import Plan
    from airflow_provider_jobapi.services.train_container.service import TrainContainerService
    from airflow_provider_jobapi.services.train_container.validation import validate

    spelling = read_spelling(options.names, options.prefix)
    plan = Plan(options.image, Command.LIST_REQUIREMENTS, spelling=spelling, strict=options.strict)
    service = jobs_of(options).service
    if not isinstance(service, TrainContainerService):
        raise InvalidJob("--connection runs no trains: name a connection of the type train_container.")
    bad = 0
    limit = timedelta(seconds=options.timeout)
    for found in validate(service, plan, Command.to_check(algorithm=options.algorithm), limit):
        bad += not found.ok
        print(visible(f"{found.command}: {'ok' if found.ok else 'not valid'}. {found.message}".rstrip()), flush=True)
    return FAILED if bad else 0


def _response(options: argparse.Namespace) -> int:
    from airflow_provider_jobapi.services.train_container.commands import Command
    from airflow_provider_jobapi.services.train_container.judge import Rules, judge
    from airflow_provider_jobapi.services.train_container.responses import StdoutTail

    command = Command.of(options.of)
    tail = StdoutTail(iter(lambda: sys.stdin.buffer.read(_CHUNK), b""))
    verdict = judge(command, options.exit_code, tail, Rules(strict=options.strict))
    for note in verdict.notes:
        say(note)
    if verdict.answer is not None:
        print(json.dumps(verdict.answer.model_dump(mode="json", by_alias=True)))
    if not verdict.ok:
        say(verdict.message)
    return 0 if verdict.ok else FAILED
