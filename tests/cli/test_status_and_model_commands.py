# SPDX-License-Identifier: Apache-2.0
"""``jobapi status``, ``jobapi stop`` and ``jobapi model get``; and none of them needs Airflow or the server."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import uuid

import pytest

from airflow_provider_jobapi import __version__
from tests.harness.command import Command
from tests.harness.server import running
from tests.harness.tiny import Tiny, reply

MODEL = (
    "import os, pathlib\n"
    "model = pathlib.Path(os.environ['MODEL_DIR']) / 'deep'\nmodel.mkdir(parents=True)\n"
    "(model.parent / 'saved_model.pb').write_bytes(b'graph')\n(model / 'data').write_bytes(b'x' * 3_000_000)\n"
)


def test_one_job_for_people_and_for_programs(command, jobapi_server):
    job_id = jobapi_server.submit("import sys\nsys.exit(4)", name="one")
    wire = jobapi_server.wait_for(job_id)
    rows = dict(re.findall(r"^([a-z ]+): +(.*)$", command("status", job_id).out, re.MULTILINE))
    assert rows["job"] == job_id
    assert rows["name"] == "one"
    assert rows["status"] == "FAILED (NonZeroExit, exit code 4)"
    assert rows["message"] == wire["message"]
    assert rows["submitted"] == wire["submissionTime"][:19].replace("T", " ")
    assert re.fullmatch(r"0:00:\d\d", rows["took"])
    assert json.loads(command("status", job_id, "--json").out) == wire


def test_the_newest_jobs(tmp_path):
    with running(tmp_path / "root") as server:
        command = Command(tmp_path, server.connection)
        none = command("status")
        assert (none.code, none.out, none.err) == (0, "", "jobapi: This client has no job on the service.\n")
        ids = [server.submit(name=f"job-{number}", command="true") for number in range(3)]
        for job_id in ids:
            server.wait_for(job_id, "SUCCESSFUL")
        title, *rows = command("status").out.splitlines()
        assert title.split() == ["JOB", "STATUS", "SUBMITTED", "TOOK", "NAME"]
        assert [row.split()[0] for row in rows] == ids[::-1]
        assert [row.split()[-1] for row in rows] == ["job-2", "job-1", "job-0"]
        two = command("status", "--limit", "2")
        assert len(two.out.splitlines()) == 3
        assert two.err == "jobapi: These are the newest 2; --limit shows more.\n"
        assert [each["job_id"] for each in json.loads(command("status", "--json").out)] == ids[::-1]


def test_the_list_shows_why_a_job_failed(command, jobapi_server):
    job_id = jobapi_server.submit("import sys\nsys.exit(4)", name="one")
    jobapi_server.wait_for(job_id)
    (row,) = [line for line in command("status").out.splitlines() if line.startswith(job_id)]
    assert "FAILED (NonZeroExit, exit code 4)" in row


def test_the_version_of_the_command(command):
    shown = command("--version")
    assert (shown.code, shown.out) == (0, f"jobapi {__version__}\n")


@pytest.mark.parametrize("jobs", [[1], [{}], {}, [{"status": "RUNNING", "startTime": "never"}]])
def test_a_list_that_is_none(work, jobs):
    with Tiny({"GET /api/v2/jobs": reply({"jobs": jobs, "next": None})}) as tiny:
        done = Command(work, {"host": tiny.url, "login": "a", "password": "b"})("status")
    assert done.code == 2
    assert "The service's list of jobs" in done.sentence


def test_a_model_is_fetched_and_its_place_printed(work, command, jobapi_server):
    job_id = jobapi_server.submit(MODEL)
    jobapi_server.wait_for(job_id, "SUCCESSFUL")
    place = work / "mo dels" / "7"
    for _ in range(2):  # the same command again finds it there
        done = command("model", "get", job_id, "mo dels", "--version", "7")
        assert (done.code, done.out) == (0, f"{place}\n")
    assert (place / "saved_model.pb").read_bytes() == b"graph"
    assert (place / "deep" / "data").stat().st_size == 3_000_000
    with command.start("model", "get", job_id, str(work / "other"), terminal="err") as fetching:
        done = fetching.wait()
    assert done.code == 0
    assert "Fetching the model" in done.err
    assert "━" in done.err
    assert re.fullmatch(rf"{work}/other/\d{{10}}\n", done.out)
    assert command("model", "get", job_id, "third", "-q").err == ""


def test_a_working_directory_is_fetched_and_a_kind_is_demanded(work, command, jobapi_server):
    job_id = jobapi_server.submit("open('clf.pkl', 'wb').write(b'x' * 9)")
    jobapi_server.wait_for(job_id, "SUCCESSFUL")
    done = command("model", "get", "--work", job_id, "here", "--version", "1")
    assert (done.code, done.out) == (0, f"{work}/here/1\n")
    assert [each.name for each in (work / "here" / "1").iterdir()] == ["clf.pkl"]
    ended = command("logs", "-f", job_id)
    assert (ended.out + ended.err).count("The job wrote no model. ") == 1, "the log says it, and its end not again"
    assert ended.err.endswith(" was successful: exit code 0.\n")
    pickled = jobapi_server.submit("import os; open(os.environ['MODEL_DIR'] + '/clf.pkl', 'wb').write(b'x' * 9)")
    jobapi_server.wait_for(pickled, "SUCCESSFUL")
    done = command("model", "get", "--kind", "onnx", pickled, "there")
    said = f"Job {pickled} left no model of the kind 'onnx'; its model is of the kind 'pickle'. "
    assert (done.code, done.sentence.partition("Fetch ")[0]) == (2, said)
    done = command("model", "get", "--kind", "pickle", pickled, "there")
    assert done.code == 0
    assert "The model is of the kind pickle: to load it can run code in its files.\n" in done.err


def test_a_model_that_cannot_be_fetched(work, command, jobapi_server):
    job_id = jobapi_server.submit(MODEL)
    bare = jobapi_server.submit()
    for each in (job_id, bare):
        jobapi_server.wait_for(each)
    (work / "taken" / "1").mkdir(parents=True)
    (work / "taken" / "1" / "mine").write_text("mine")
    (work / "file").write_text("")
    for words, said in (
        ((job_id, "taken", "--version", "1"), "holds other files; nothing was changed. Choose another version"),
        ((job_id, "file"), "cannot be written: Not a directory"),
        ((job_id, "x", "--version", "../up"), "Invalid version '../up'"),
        ((job_id, "s3://bucket/models"), "DESTINATION is a directory of this machine"),
        ((bare, "x"), f"Job {bare} wrote no model"),
        ((str(uuid.uuid4()), "x"), "The service has no job"),
    ):
        done = command("model", "get", *words)
        assert done.code == 2
        assert said in done.sentence
    assert (work / "taken" / "1" / "mine").read_text() == "mine"
    assert not (work / "x").exists()


def test_a_model_of_a_job_that_goes_on(command, jobapi_server):
    job_id = jobapi_server.submit("import time\ntime.sleep(600)")
    done = command("model", "get", job_id, "x")
    assert done.code == 2
    assert "get its model after it has ended" in done.sentence
    assert command("stop", job_id, "--quiet").err == ""
    jobapi_server.wait_for(job_id, "STOPPED")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "the following arguments are required: COMMAND"),
        (("submit",), "Name the job: by --file (a job file), by --source (a folder of code)"),
        (("status", "12"), "'12' is not a job id; expected a UUID"),
        (("logs",), "the following arguments are required: JOB_ID"),
        (("logs", "--tail", "-1", str(uuid.uuid4())), "'-1' is not a whole number from 0"),
        (("status", "--limit", "0"), "'0' is not a whole number from 1 to 1000"),
        (("status", "--patience", "soon"), "'soon' is not a duration"),
        (("submit", "-f", "x", "--new", "--id", str(uuid.uuid4())), "not allowed with argument --new"),
        (("model",), "the following arguments are required: COMMAND"),
        (
            ("model", "get", "--kind", "jpg", str(uuid.uuid4()), "x"),
            "'jpg' is no kind of model; expected one of",
        ),
        (("model", "get", "--work", "--kind", "onnx", str(uuid.uuid4()), "x"), "not allowed with argument --work"),
    ],
)
def test_a_command_line_that_is_wrong(command, words, said):
    done = command(*words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err.splitlines()[-1]
    assert "Traceback" not in done.err


BARE = """
import sys
from importlib.abc import MetaPathFinder
hidden = {hidden}
class Hide(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in hidden:
            raise ModuleNotFoundError(name, name=name.partition('.')[0])
sys.meta_path.insert(0, Hide())
from airflow_provider_jobapi.cli import main
sys.exit(main(sys.argv[1:]))
"""
SERVER = {"airflow", "alembic", "fastapi", "packaging", "sqlalchemy", "starlette", "uv", "uvicorn"}
HEAVY = {"aiohttp", "asgiref", "obstore", "rich"}


@pytest.mark.parametrize(
    ("words", "hidden"),
    [
        (("submit", "-f", "job.yaml", "files", "-w"), SERVER),
        (("status",), SERVER | HEAVY),
        (("logs", "JOB"), SERVER | HEAVY),
        (("logs", "-f", "JOB"), SERVER | HEAVY - {"aiohttp", "asgiref"}),
        (("stop", "JOB"), SERVER | HEAVY),
        (("model", "get", "JOB", "models"), SERVER),
        (("--help",), SERVER | HEAVY | {"pydantic", "requests", "yaml"}),
    ],
)
def test_neither_airflow_nor_the_server_is_needed(command, jobapi_server, words, hidden):
    job_id = jobapi_server.submit(MODEL)
    jobapi_server.wait_for(job_id)
    ran = subprocess.run(
        [sys.executable, "-c", BARE.format(hidden=hidden), *(job_id if word == "JOB" else word for word in words)],
        cwd=command.folder,
        env=command.env,
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr.decode()


def test_the_server_says_what_it_needs(command):
    ran = subprocess.run(
        [sys.executable, "-c", BARE.format(hidden=SERVER), "serve"], env=command.env, capture_output=True, check=False
    )
    assert ran.returncode == 2
    assert ran.stderr.decode() == "jobapi: sqlalchemy is missing: pip install 'airflow-provider-jobapi[server]'\n"


FAR = {"job_id": str(uuid.UUID(int=7)), "status": "RUNNING", "name": "far", "progress": 0.456, "remaining": 720}


def test_how_far_a_running_job_is(work):
    routes = {f"GET /api/v2/jobs/{FAR['job_id']}": reply(FAR), "GET /api/v2/jobs": reply({"jobs": [FAR], "next": None})}
    with Tiny(routes) as tiny:
        command = Command(work, {"host": tiny.url, "login": "a", "password": "b"})
        one, listed, wire = (
            command("status", FAR["job_id"]),
            command("status"),
            command("status", FAR["job_id"], "--json"),
        )
    for shown in (one, listed):
        assert "RUNNING (45 %, about 12 min left)" in shown.out
    assert json.loads(wire.out)["progress"] == 0.456
