# SPDX-License-Identifier: Apache-2.0
"""Log lines that want to be more than text, in Airflow's own logging: shown as they are, and secrets masked."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.training.logs import LogLine, Timeline, parse_records, plain
from tests.harness.hostile_server import (
    SECRET,
    TOKEN,
    Answer,
    HostileServer,
    log_page,
    records,
    secrets_in,
)
from tests.harness.server import Server
from tests.hostile.lies import JOB_ID

WILD = [
    "\x1b[31mred\x1b[0m \x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\",
    "::group::hidden",
    "::endgroup::",
    "in the middle ::group:: of a line, ::endgroup:: too",
    "[2020-01-01T00:00:00.000+0000] {fake.py:1} ERROR - not me",
    '{"timestamp": "2020-01-01T00:00:00Z", "level": "critical", "event": "not me", "logger": "root"}',
    "2020-01-01T00:00:00.000000Z a time within a line",
    "100% %s %d %(name)s {} {0} {name} {{ ti }} {% raw %} $HOME ${HOME} `id`",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "\u202eevil\u202c \u2028 \u2029 \x85 \x0b \x0c \ufeff \u200b",
    "\U0001f4a5 \ufffd \udbff".encode(errors="replace").decode(),
    "Traceback (most recent call last):",
    "*** not a note of Airflow's",
    "Pausing task as DEFERRED.",
    "",
    " ",
    "\t",
    "x" * 16_000,
]
LEAKS = [
    f"the secret is {SECRET}",
    f"Authorization: Bearer {TOKEN}",
    f'{{"password": "{SECRET}"}}',
    f"{SECRET}{TOKEN}{SECRET}",
]

_FOLLOW = """
import asyncio, sys
from airflow.sdk.log import configure_logging
configure_logging(json_output=True, output=sys.stdout.buffer, log_level="INFO")
from airflow_provider_jobapi.triggers.training import TrainingTrigger

async def follow():
    trigger = TrainingTrigger(
        conn_id="hostile", job_id=sys.argv[1], handle={"job_id": sys.argv[1]}, not_before="2026-01-01T00:00:00+00:00", patience=1.0
    )
    print(trigger.serialize(), repr(trigger), vars(trigger), file=sys.stderr)
    return (await anext(trigger.run())).payload

print(asyncio.run(follow()), file=sys.stderr)
"""


def _shown(server: HostileServer, tmp_path: Path) -> tuple[list[dict[str, Any]], str, str]:
    """Follow a job with the real trigger, hook and masker in a process of its own; its log records, and what else it said."""
    fields = {"conn_type": "jobapi", "host": server.url, "login": "client", "password": SECRET}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    environment |= {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW_CONN_HOSTILE": json.dumps(fields)}
    ran = subprocess.run(
        [sys.executable, "-c", _FOLLOW, JOB_ID], env=environment, capture_output=True, check=False, timeout=120
    )
    assert ran.returncode == 0, ran.stderr.decode()[-3000:]
    lines = ran.stdout.decode().split("\n")
    return [json.loads(line) for line in lines if line.startswith("{")], ran.stdout.decode(), ran.stderr.decode()


def _log(hostile: HostileServer, body: bytes) -> None:
    hostile.says("/logs", log_page(body, 0, state="SUCCESSFUL", complete=True))


def test_every_line_is_text_and_no_secret_is_shown(hostile: HostileServer, tmp_path: Path, tally: Counter[str]) -> None:
    _log(hostile, records(*WILD, *LEAKS))
    logged, out, said = _shown(hostile, tmp_path)
    ours = [record for record in logged if record["timestamp"].startswith("2026-01-01T00:00:0")]
    assert [record["event"] for record in ours[: len(WILD)]] == [plain(line) for line in WILD]
    assert all(record["level"] == "info" for record in ours)
    stamps = [record["timestamp"] for record in ours]
    assert stamps == sorted(set(stamps))
    leaked = [record["event"] for record in ours[len(WILD) :]]
    assert len(leaked) == len(LEAKS)
    assert all("***" in line for line in leaked)
    assert not secrets_in([out, said])
    # The secret came to the service all the same, so it was there to be leaked.
    assert hostile.count("/oauth/token") == 1
    tally["hostile log lines"] += len(WILD) + len(LEAKS)


def test_a_service_that_echoes_the_secrets_in_its_errors(hostile: HostileServer, tmp_path: Path) -> None:
    problem = {"detail": f"You sent {TOKEN} and {SECRET}.", "field": SECRET}
    body = json.dumps(problem).encode()
    hostile.says("/logs", Answer(503, {"Content-Type": "application/problem+json", "Retry-After": "0"}, body))
    _, out, said = _shown(hostile, tmp_path)
    assert "UNREACHABLE" in said.upper() or "unreachable" in said
    assert not secrets_in([out, said])


def test_a_line_of_another_age_does_not_end_the_trigger(hostile: HostileServer, tmp_path: Path) -> None:
    ages = ["0001-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z", "2026-01-01T00:00:00.000000Z"]
    _log(hostile, b"".join(records(f"line {number}", stamp=stamp) for number, stamp in enumerate(ages * 2)))
    logged, _, _ = _shown(hostile, tmp_path)
    shown = [record["event"] for record in logged if str(record["event"]).startswith("line ")]
    assert shown == [f"line {number}" for number in range(6)]


@given(
    st.lists(st.datetimes(timezones=st.just(UTC)), max_size=20),
    st.timedeltas(),
    st.datetimes(timezones=st.just(UTC)),
)
def test_no_time_breaks_the_timeline(times: list[datetime], skew: Any, not_before: datetime) -> None:
    timeline = Timeline(skew, not_before)
    shown = [timeline.place(time) for time in times]
    assert shown == sorted(shown)
    assert all(moment >= not_before.replace(microsecond=not_before.microsecond // 1000 * 1000) for moment in shown)


@given(
    st.text() | st.sampled_from(["::group::", "::::group::group::", "::end::group::group::", "::endgroup::::group::"])
)
def test_no_line_folds_the_log(text: str) -> None:
    shown = plain(text)
    assert "::group::" not in shown
    assert "::endgroup::" not in shown
    assert shown.replace("\u200b", "") == text.replace("\u200b", "")


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0"), max_size=50), max_size=5)
)
def test_a_record_is_what_it_was_whatever_its_text(texts: list[str]) -> None:
    assert [line.text for line in parse_records(records(*texts))] == texts
    assert all(isinstance(line, LogLine) for line in parse_records(records(*texts)))


# On a real Airflow

_JWT = re.compile(r"eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}")


def _database(path: Path) -> dict[str, str]:
    """Everything in a SQLite database as text, by the table; what people type into a connection is its own table."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        tables = [row[0] for row in database.execute("select name from sqlite_master where type = 'table'")]
        return {name: repr(database.execute(f'select * from "{name}"').fetchall()) for name in tables}  # noqa: S608


def _files(folder: Path) -> dict[str, str]:
    return {str(path): path.read_bytes().decode("utf-8", "replace") for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_airflow_shows_wild_lines_as_text_and_keeps_no_secret_anywhere(
    request: pytest.FixtureRequest, jobapi_server: Server, tmp_path: Path, tally: Counter[str]
) -> None:
    airflow = request.getfixturevalue("airflow")
    wild, gate, key = tmp_path / "wild.txt", tmp_path / "gate", jobapi_server.token()
    lines = [line for line in WILD if line.strip() and not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", line)]
    # The server signs each token anew; what all of them begin with is the same.
    header = key.partition(".")[0]
    wild.write_text("\n".join([*lines, "\x1b[31mred\x1b[0m", f"the secret is {jobapi_server.secret}"]) + "\n")
    environment = {"WILD": str(wild), "GATE": str(gate)}
    place = ("hostile_lines", airflow.run("hostile_lines", {"env": environment}), "train")
    airflow.wait_for_state(*place, "deferred")

    def texts() -> list[str]:
        return [str(record["event"]) for record in airflow.log(*place)]

    from tests.harness.waiting import wait_for

    wait_for("the last wild line is shown", lambda: any("the secret is" in text for text in texts()), 60, 0.5)
    while_deferred = _database(airflow.home / "airflow.db")
    gate.touch()
    airflow.wait_for_state(*place, "success")
    shown = texts()
    for line in [*lines, "\x1b[31mred\x1b[0m"]:
        assert plain(line) in shown, line
    assert "the secret is ***" in shown
    after = _database(airflow.home / "airflow.db")
    logs = _files(airflow.home / "logs") | {"standalone": airflow.output.read_text(errors="replace")}
    # What is looked through is there, and not encrypted: what the trigger was given, and the XComs.
    assert airflow.xcom(*place, "training_job_id") in while_deferred["trigger"]
    assert airflow.xcom(*place, "training_job_id") in after["xcom"]
    for name, text in [*while_deferred.items(), *after.items(), *logs.items()]:
        assert jobapi_server.secret not in text, name
        assert f"{header}." not in text, name
    tally["tables and log files searched for secrets"] += len(while_deferred) + len(after) + len(logs)
    tally["hostile log lines"] += len(lines)
