# SPDX-License-Identifier: Apache-2.0
"""Secrets are hidden wherever a text shows them, in every process alike."""

from __future__ import annotations

import html
import json
import shlex
import subprocess
import sys
from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.server.run.supervisor.framing import TEXT_LIMIT, clean
from airflow_provider_jobapi.training.logs import LogChunk, LogLine
from airflow_provider_jobapi.training.masking import Masker, occurring, without_credentials
from airflow_provider_jobapi.training.status import JobState, JobStatus
from tests.harness.scripted import START

SECRET = "pä$$ w'ör\"d/+\\1"
KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBg\n  kqhkiG9w0BAQ\nab\n-----END KEY-----\n"


@pytest.mark.parametrize(
    "write",
    [
        str,
        json.dumps,
        lambda secret: json.dumps(json.dumps(secret)),
        lambda secret: json.dumps(secret, ensure_ascii=False),
        repr,
        shlex.quote,
        quote,
        quote_plus,
        lambda secret: quote(secret, safe=""),
        lambda secret: b64encode(secret.encode()).decode(),
        lambda secret: urlsafe_b64encode(secret.encode()).decode(),
        lambda secret: b64encode(f"user:{secret}".encode()).decode(),
        lambda secret: b64encode(f"user1:{secret}, and more".encode()).decode(),
        lambda secret: b64encode(f"user12:{secret}?".encode()).decode(),
        lambda secret: f"--password={secret}{secret}",
        html.escape,
        ascii,
        lambda secret: repr(secret.encode()),
        lambda secret: repr([json.dumps(secret)]),
        lambda secret: json.dumps(repr([json.dumps([secret])])),
        lambda secret: shlex.quote(json.dumps({"key": secret})),
    ],
)
def test_every_spelling_is_hidden(write):
    text = f"a line with {write(SECRET)} in it"
    masked = Masker([SECRET]).text(text)
    assert masked.startswith("a line with ")
    assert masked.endswith(" in it")
    assert "***" in masked
    assert not any(SECRET[begin : begin + 4] in masked for begin in range(len(SECRET) - 3))
    assert occurring([SECRET, "another"], ["", text]) == {SECRET}


def test_a_secret_of_several_lines_is_hidden_line_by_line():
    masker = Masker([KEY])
    assert [masker.text(line) for line in KEY.splitlines()] == ["***", "***", "  ***", "ab", "***"]
    assert masker.text(f"key={KEY}.") == "key=***."
    assert masker.text(json.dumps({"key": KEY})) == '{"key": "***"}'


def test_the_beginning_of_a_secret_in_a_line_that_was_cut_is_hidden():
    cut = clean("x" * (TEXT_LIMIT - 12) + " tok-12345678 and more").decode()
    assert cut.endswith(" tok-1234…")
    assert Masker(["tok-12345678"]).text(cut).endswith("xx ***…")
    assert Masker(["other-secret"]).text(cut) == cut
    assert Masker(["tok-12345678"]).text("token tok-1234…") == "token tok-1234…", "a short line was not cut"


def test_a_secret_is_hidden_as_the_log_writes_it():
    secret = "tok\x1b-\x0012345"
    assert Masker([secret]).text(clean(f"is {secret}").decode()) == "is ***"


def test_secrets_that_overlap_leave_nothing():
    assert Masker(["abcdef", "defghi"]).text("x abcdefghi y") == "x *** y"
    assert Masker(["secret-1", "secret-12"]).text("secret-12") == "***"
    assert Masker(["secret-1"]).text("secret-1secret-1") == "******"


def test_what_is_no_secret_is_shown():
    assert Masker(["secret-1"]).text("epoch 1/2 100% {} ***") == "epoch 1/2 100% {} ***"
    assert Masker().text("anything") == "anything"
    assert Masker(["12345\nab\nairflow\n"]).text("ab airflow 12345") == "ab airflow ***"


@given(st.sets(st.text(min_size=1, max_size=8), max_size=4), st.text())
def test_no_secret_is_left(secrets, text):
    joined = text.join(["", *sorted(secrets), ""])
    masked = Masker(secrets).text(joined)
    assert not any(secret in masked for secret in secrets if "*" not in secret)
    assert masked == Masker(sorted(secrets, reverse=True)).text(joined)


def test_values_chunks_and_statuses():
    masker = Masker(["secret-1"])
    assert masker.value({"a secret-1": ["b secret-1", 1, None, ("secret-1",)]}) == {
        "a ***": ["b ***", 1, None, ["***"]]
    }
    chunk = LogChunk((LogLine(START, "is secret-1", 1, 2),), 7, JobState.RUNNING)
    assert masker.chunk(chunk) == LogChunk((LogLine(START, "is ***", 1, 2),), 7, JobState.RUNNING)
    status = JobStatus(job_id="secret-1", status=JobState.FAILED, name="of-secret-1", message="no secret-1")
    assert masker.status(status) == JobStatus(
        job_id="secret-1", status=JobState.FAILED, name="of-***", message="no ***"
    )


def test_where_the_secrets_are_not_known_nothing_is_shown():
    masker = Masker(withhold=True)
    assert masker.chunk(LogChunk((LogLine(START, "a"), LogLine(START, "b")), 1)).lines == (LogLine(START, "***"),) * 2
    assert masker.status(JobStatus(status=JobState.FAILED, message="why")).message == "***"


LONG = """
from airflow_provider_jobapi.training.masking import without_credentials
for text in ("a" * 2**20, "?" * 2**20, "?a" * 2**19, "@" * 2**20, "://" * 2**18, "a=" * 2**19):
    without_credentials(text)
"""


def test_credentials_are_sought_in_one_pass():
    """A client of the server chooses the text, and its length. Tried at each character it would take hours."""
    subprocess.run([sys.executable, "-c", LONG], check=True, timeout=60)


def test_credentials_in_addresses_are_hidden():
    assert without_credentials("see https://me:pass@host/a?token=x&b=y and git+https://t@host/x@v1") == (
        "see https://***@host/a?token=***&b=*** and git+https://***@host/x@v1"
    )
