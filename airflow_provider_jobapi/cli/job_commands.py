# SPDX-License-Identifier: Apache-2.0
"""The commands about jobs, on the same services as the operators: ``submit``, ``status``, ``logs``, ``stop``,
``model get``. What is needed to do them is imported when one is done.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi.cli.code_options import add_options, is_of_code
from airflow_provider_jobapi.cli.exit_codes import UNAVAILABLE, USAGE, exit_code
from airflow_provider_jobapi.cli.terminal import log_to_stderr, meters, say, visible
from airflow_provider_jobapi.exceptions import ServiceUnavailable, TrainingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow_provider_jobapi.cli.jobs import Jobs
    from airflow_provider_jobapi.cli.submission import Prepared
    from airflow_provider_jobapi.cli.terminal import Commands
    from airflow_provider_jobapi.training.logs import LogChunk, LogLine
    from airflow_provider_jobapi.training.status import JobState

FOLLOW_PATIENCE = 600.0
"""Seconds to wait for an unavailable service while a job is followed; the operator's default."""


_LINES_OF_AN_END = 100
"""The last lines of a log, in which the cause of its end is looked for."""


def add_commands(commands: Commands) -> None:
    """Add the commands about jobs."""
    submit = add_command(commands, "submit", _submit, "submit a job and print its id")
    submit.add_argument("-f", "--file", help="the job file, YAML or JSON; - is the standard input")
    submit.add_argument("folder", nargs="?", metavar="FOLDER", help="the folder whose files the job gets")
    submit.add_argument(
        "-r",
        "--requirements",
        metavar="X",
        help="requirements, or the name of a file of them, as requirements.txt, pyproject.toml[extra], uv.lock or "
        "pylock.toml; by default those of FOLDER/requirements.txt, or of PEP 723 at the head of the script",
    )
    submit.add_argument("-w", "--follow", action="store_true", help="show the log and wait for the end")
    which = submit.add_mutually_exclusive_group()
    which.add_argument("--id", type=_job_id, help="the job's id, a UUID; by default it follows from what the job is")
    which.add_argument("--new", action="store_true", help="train once more what was trained with success, or still is")
    submit.add_argument(
        "--resume-from", type=_job_id, metavar="JOB_ID", help="continue the checkpoints of an ended job"
    )
    submit.add_argument("--keep-checkpoints", action="store_true", help="keep the checkpoints after the success, too")
    _add_timestamps(submit)
    add_options(submit, _whole)

    status = add_command(commands, "status", _status, "show a job, or list the newest ones")
    status.add_argument("job_id", nargs="?", type=_job_id, metavar="JOB_ID")
    status.add_argument("--json", action="store_true", help="print the status objects of the service")
    status.add_argument("--limit", type=_whole(1, 1_000), default=20, metavar="N", help="jobs to list (20)")

    logs = add_command(commands, "logs", _logs, "print the log of a job")
    logs.add_argument("job_id", type=_job_id, metavar="JOB_ID")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the job is over")
    logs.add_argument("--tail", type=_whole(0, 10**9), metavar="N", help="begin at the last N lines")
    _add_timestamps(logs)

    stop = add_command(commands, "stop", _stop, "stop a job")
    stop.add_argument("job_id", type=_job_id, metavar="JOB_ID")

    environment = add_command(
        commands, "environment", _environment, "print the packages of a job, as requirements that install the same"
    )
    environment.add_argument("job_id", type=_job_id, metavar="JOB_ID")

    model = commands.add_parser("model", help="the model of a job").add_subparsers(required=True, metavar="COMMAND")
    get = add_command(model, "get", _model_get, "fetch the model of a job into DESTINATION/VERSION and print where")
    get.add_argument("job_id", type=_job_id, metavar="JOB_ID")
    get.add_argument("destination", metavar="DESTINATION", help="a directory of this machine")
    get.add_argument("--version", help="the directory's name beneath it; by default the Unix time of the job's end")
    which = get.add_mutually_exclusive_group()
    which.add_argument(
        "--kind",
        type=_kind,
        help="the kind that it must have, such as saved_model or onnx; files is all of MODEL_DIR, whatever it is",
    )
    which.add_argument(
        "--work", action="store_true", help="fetch the job's working directory, which stays a while without a model"
    )


def add_command(commands: Commands, name: str, run: Callable[..., int], text: str) -> argparse.ArgumentParser:
    """Add a command that connects to a service."""
    parser = commands.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.")
    parser.set_defaults(room=_run, run=run)
    parser.add_argument(
        "--connection",
        metavar="X",
        help="a connection's file, its id (in AIRFLOW_CONN_<ID> or in Airflow), or a jobAPI's address (its client in "
        "JOBAPI_CLIENT_ID and JOBAPI_CLIENT_SECRET); by default AIRFLOW_CONN_JOBAPI_DEFAULT",
    )
    parser.add_argument(
        "--patience",
        type=read_seconds,
        metavar="SPAN",
        help="how long to wait for a service that is unavailable, such as 10m",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print only errors and warnings")
    return parser


def _add_timestamps(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-t", "--timestamps", action="store_true", help="show when each line was written, in UTC")


def _job_id(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a job id; expected a UUID") from None


def _kind(text: str) -> str:
    from airflow_provider_jobapi.training.model import ModelKind

    if text not in set(ModelKind):
        raise argparse.ArgumentTypeError(f"{text!r} is no kind of model; expected one of {', '.join(ModelKind)}")
    return text


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and least <= int(text[:20]) <= most):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return read


def read_seconds(text: str) -> float:
    """Read a duration of the command line, such as 10m, in seconds."""
    from airflow_provider_jobapi.training.units import read_span

    span = read_span(text)
    if span is None and text.strip() != "0":
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a duration; expected one such as 10m, or a number of seconds"
        )
    return 0.0 if span is None else span.total_seconds()


def _run(options: argparse.Namespace) -> int:
    from airflow_provider_jobapi.training.parameter_names import COMMAND_LINE, spelled, spelling

    with spelling(COMMAND_LINE):
        try:
            return int(options.run(options))
        except ServiceUnavailable as error:
            say(str(error))
            return UNAVAILABLE
        except TrainingError as error:
            say(spelled(str(error)))
            return USAGE


def jobs_of(options: argparse.Namespace) -> Jobs:
    """Connect to the service of a command."""
    from airflow_provider_jobapi.cli.connection import connect

    return connect(
        options.connection,
        os.environ,
        log_to_stderr(quiet=options.quiet),
        patience=options.patience,
        meters=meters(quiet=options.quiet),
    )


def _submit(options: argparse.Namespace) -> int:
    from airflow_provider_jobapi.cli.submission import choose_id

    jobs, prepared = _prepared(options)
    say = _message_printer(options)
    chosen = choose_id(jobs, prepared.job_file, options.id, new=options.new)
    again = f"--id {chosen.job_id} goes on with it" if options.new else "the same command goes on with it"
    try:
        jobs.submit(prepared.job_file, prepared.sources, chosen.job_id, prepared.job, chosen.cycle)
    except ServiceUnavailable as error:
        raise ServiceUnavailable(f"{error} Job {chosen.job_id} may not be submitted yet: {again}.") from None
    except KeyboardInterrupt:
        say(f"Interrupted before job {chosen.job_id} was known to be submitted: {again}, `jobapi stop` ends it.")
        raise
    say(_submitted(chosen.job_id, chosen.state, options))
    print(chosen.job_id, flush=True)
    return _follow(jobs, chosen.job_id, options) if options.follow else 0


def _prepared(options: argparse.Namespace) -> tuple[Jobs, Prepared]:
    """Read what is to be submitted, and connect."""
    from airflow_provider_jobapi.cli.submission import prepare, read_job_file, with_checkpoints

    message = _message_printer(options)
    if is_of_code(options):
        from airflow_provider_jobapi.cli.code_submission import prepare_code

        jobs = jobs_of(options)
        prepared = prepare_code(options, message, say)
    else:
        job_file = read_job_file(options.file)
        jobs = jobs_of(options)
        prepared = prepare(job_file, options.folder, options.connection, message, options.requirements)
    return jobs, with_checkpoints(prepared, options.resume_from, keep=options.keep_checkpoints)


def _submitted(job_id: str, state: JobState | None, options: argparse.Namespace) -> str:
    if state is None:
        return f"Job {job_id} is submitted."
    advice = "use another --id to train it again" if options.id else "use --new to train it again"
    return f"Job {job_id} was submitted before and is {state}; {advice}."


def _status(options: argparse.Namespace) -> int:
    from airflow_provider_jobapi.cli.show import details, table

    jobs = jobs_of(options)
    if options.job_id is not None:
        status = jobs.status(options.job_id)
        print(json.dumps(status.to_wire(), indent=2) if options.json else details(status))
        return 0
    found, more = jobs.list(options.limit)
    if options.json:
        print(json.dumps([each.to_wire() for each in found], indent=2))
    elif found:
        print(table(found))
    say = _message_printer(options)
    if not found:
        say("This client has no job on the service.")
    elif more:
        say(f"These are the newest {len(found)}; --limit shows more.")
    return 0


def _logs(options: argparse.Namespace) -> int:
    from airflow_provider_jobapi.training.missing_module import advice_for
    from airflow_provider_jobapi.training.status import JobState

    jobs = jobs_of(options)
    cursor, state = None, None
    if options.tail is not None or not options.follow:
        kept: deque[LogLine] = deque(maxlen=options.tail)
        end: deque[str] = deque(maxlen=_LINES_OF_AN_END)
        for chunk in jobs.read_log(options.job_id):
            cursor, state = chunk.cursor, chunk.state
            end.extend(line.text for line in chunk.lines)
            if options.tail is None:
                _print(chunk.lines, options)
            else:
                kept.extend(chunk.lines)
        _print(kept, options)
        if not options.follow and state is JobState.FAILED and (advised := advice_for(end)):
            _message_printer(options)(advised)
    return _follow(jobs, options.job_id, options, cursor, state) if options.follow else 0


def _stop(options: argparse.Namespace) -> int:
    jobs = jobs_of(options)
    status = jobs.status(options.job_id)
    say = _message_printer(options)
    if status.status.ended:
        say(f"It has ended already. {status.describe()}")
    else:
        jobs.stop(options.job_id)
        say(f"Job {options.job_id} is asked to stop; `jobapi status {options.job_id}` shows when it has.")
    return 0


def _environment(options: argparse.Namespace) -> int:
    sys.stdout.write(jobs_of(options).environment(options.job_id))
    return 0


def _model_get(options: argparse.Namespace) -> int:
    from urllib.parse import unquote, urlsplit

    from airflow_provider_jobapi.exceptions import InvalidJob

    if "://" in options.destination:
        raise InvalidJob("DESTINATION is a directory of this machine; FetchSavedModelOperator knows object stores.")
    jobs = jobs_of(options)
    if options.work:
        fetched = jobs.fetch_work(options.job_id, options.destination, options.version)
    else:
        fetched = jobs.fetch_model(options.job_id, options.destination, options.version, options.kind)
        if fetched.unsafe_to_load:
            _message_printer(options)(f"The model is of the kind {fetched.kind}: to load it can run code in its files.")
    print(unquote(urlsplit(fetched.location).path))
    return 0


def _follow(
    jobs: Jobs,
    job_id: str,
    options: argparse.Namespace,
    cursor: Any = None,
    known: JobState | None = None,
) -> int:
    """Show the log after the cursor until the job ends, and return the exit code for its end.

    :param known: The state that came with the cursor.
    """
    from airflow_provider_jobapi.cli.follow import Milestones, follow
    from airflow_provider_jobapi.training.missing_module import advice

    say = _message_printer(options)
    milestones = Milestones(whole=cursor is None)
    last: JobState | None = None
    lines: deque[str] = deque(maxlen=_LINES_OF_AN_END)

    def tell_state(state: JobState | None) -> None:
        nonlocal last
        if state not in {None, last} and not state.ended:
            say(f"Job {job_id} is {state}.")
        last = state

    def show(chunk: LogChunk) -> None:
        _print(chunk.lines, options)
        lines.extend(line.text for line in chunk.lines)
        tell_state(chunk.state)
        if reached := milestones.read(chunk.lines, chunk.came):
            say(f"Job {job_id} is at {reached}.")

    tell_state(known)
    patience = FOLLOW_PATIENCE if options.patience is None else options.patience
    try:
        asyncio.run(follow(lambda: jobs.follower(job_id), cursor, show, patience=patience, warn=say))
        status = jobs.status(job_id)
    except KeyboardInterrupt:
        say(f"Job {job_id} goes on: `jobapi logs -f {job_id}` follows it again, `jobapi stop {job_id}` stops it.")
        raise
    except ServiceUnavailable as error:
        raise ServiceUnavailable(
            f"{error} Job {job_id} may go on: `jobapi logs -f {job_id}` follows it again."
        ) from None
    if any(status.message and status.message in line for line in lines):  # the log has said it
        status = status.model_copy(update={"message": ""})
    say(f"{status.describe()} {advice(status, lines)}".rstrip())
    return exit_code(status)


def _print(lines: Iterable[LogLine], options: argparse.Namespace) -> None:
    from airflow_provider_jobapi.training.logs import stamp

    terminal = sys.stdout.isatty()
    for line in lines:
        text = visible(line.text) if terminal else line.text
        sys.stdout.write(f"{stamp(line.time)} {text}\n" if options.timestamps else f"{text}\n")
    sys.stdout.flush()


def _message_printer(options: argparse.Namespace) -> Callable[[str], None]:
    return (lambda _: None) if options.quiet else say
