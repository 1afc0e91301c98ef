# SPDX-License-Identifier: Apache-2.0
"""Record the fixtures of ``data/`` by running the code of commit 83f1d40.

The fixtures are what that version left in databases and on disks. Do not record them again with later code: that would
only prove that the code can read what it writes itself. To add a fixture of the same version::

    git worktree add /tmp/recording 83f1d40
    cp -r tests/compat /tmp/recording/tests/
    cd /tmp/recording
    uv venv --python 3.11 .venv
    uv pip install --python .venv/bin/python -e '.[server,modelarts]' apache-airflow==3.3.2 --group test
    JOBAPI_TEST_RCLONE=/path/to/rclone .venv/bin/python -m tests.compat.record

and copy ``tests/compat/data`` back. It takes about two minutes. rclone serves the S3 of the ModelArts jobs.

The recorded root belongs to a throwaway server: its client secret and its signing key protect nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import tests.conftest  # noqa: F401 -- sets Airflow's environment before Airflow is imported
from airflow_provider_jobapi.operators.training import first_event
from airflow_provider_jobapi.training.job import TrainingJob
from airflow_provider_jobapi.training.job_file import JobFile
from airflow_provider_jobapi.triggers.new_data import NewDataTrigger
from airflow_provider_jobapi.triggers.training import TrainingTrigger
from tests.compat.fixtures import DATA, SERVER_OPTIONS, load, pack, paths, serve_recorded, unpack
from tests.harness.airflow import Airflow
from tests.harness.modelarts.double import ModelArts
from tests.harness.modelarts.service import job as modelarts_job
from tests.harness.modelarts.service import service as modelarts_service
from tests.harness.s3 import serve
from tests.harness.scripted import Recorder
from tests.harness.server import Server, poll, stop_jobs
from tests.harness.tries import Task
from tests.harness.waiting import wait_for

DAGS = Path(__file__).parent / "dags"
SCRIPT = DAGS / "scripts" / "recorded.py"
KEYS = ("training_job_id", "training_facts", "trainingStatus", "training_metrics", "training_log", "return_value")
TASKS = (("train", -1), ("fetch", -1), ("watch", -1), ("inline", -1), ("mapped", 0), ("mapped", 1))
DEFINITIONS = [{"name": "measured", "regex": "loss is ([0-9.]+)"}]
PAST = "2026-01-05T12:00:00.000+00:00"
RESOURCES = {"cpus": 1, "memory": 256}

JOB_FILES = {
    "smallest": "job: {name: a, execution: {command: python3 train.py}}\n",
    "all fields": """\
job:
  name: train-digits.v2
  env:
    - {name: EPOCHS, value: 5}
    - {name: SIZE_2, value: x}
    - {name: RATE, value: 0.001}
  execution:
    image: tensorflow/tensorflow:2.21.0
    command: pip3 install -r requirements.txt && python3 train.py --epochs=5
    completionTime: 20h
    resources: {cpus: 2, gpus: 1, memory: 4096}
    resourcePlanId: basic
    retries: 0
  inputs:
    - {path: train.py, size: 1200, sha256: "0000000000000000000000000000000000000000000000000000000000000000"}
    - {path: data/ü.csv, size: 0, sha256: "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"}
""",
    "completion time as a number": "job: {name: a, execution: {command: 'true', completionTime: 3600}}\n",
    "JSON": json.dumps({"job": {"name": "j", "env": [], "execution": {"command": "echo 'ü \\\"q\\\" \u2028'"}}}),
    "no inputs": "job: {name: a, execution: {command: 'true'}, inputs: []}\n",
}

JOBS = {
    "of a DAG": {
        "name": "dag-train",
        "script": "print('hello')\n",
        "env": [{"name": "TEST_DATA", "value": "a b's"}, {"name": "Epochs", "value": 5}],
        "requirements": ["tensorflow==2.21.0", "pandas>=2"],
        "completion_time": "20h",
        "resources": {"cpus": 2, "gpus": 0, "memory": 4096},
        "image": "tensorflow/tensorflow:2.21.0",
        "data": {"rows.csv": "a,b\n1,2\n"},
    },
    "smallest": {"name": "a", "script": "pass\n"},
    "Python 2": {"name": "old", "script": "pass\n", "python_major_version": 2, "requirements": "six"},
}


class Store(dict[str, Any]):
    """A state store of Airflow 3.3, of a task or of an asset."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value

    async def aget(self, key: str) -> Any:
        return self.get(key)

    async def aset(self, key: str, value: Any) -> None:
        self[key] = value


def save(name: str, content: Any) -> None:
    """Write a JSON file of ``data/``."""
    text = json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True)
    (DATA / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def row(trigger: Any) -> dict[str, Any]:
    """A trigger as Airflow stores it."""
    classpath, kwargs = trigger.serialize()
    return {"classpath": classpath, "kwargs": json.loads(json.dumps(kwargs))}


def job_files() -> dict[str, Any]:
    """Job files, and jobs that become job files, with their canonical forms and digests."""
    from airflow_provider_jobapi.services.source import measure_all

    files = {name: (text, JobFile.parse(text)) for name, text in JOB_FILES.items()}
    jobs = {}
    for name, fields in JOBS.items():
        job = TrainingJob.of(**fields)
        inputs = [each.as_input() for each in measure_all(job.files()).values()]
        jobs[name] = fields, [each.model_dump() for each in inputs], job.job_file(inputs)
    return {
        "files": {
            name: {"text": text, "canonical": file.canonical().decode(), "digest": file.digest()}
            for name, (text, file) in files.items()
        },
        "jobs": {
            name: {"fields": fields, "inputs": inputs, "canonical": file.canonical().decode(), "digest": file.digest()}
            for name, (fields, inputs, file) in jobs.items()
        },
    }


def constructed() -> dict[str, Any]:
    """Trigger rows with every value of its own."""
    handle = {"job_id": "0b5f2c1e-7a55-5bb6-9f0e-8e2a2f5d1c01", "name": "name"}
    common = {"conn_id": "team_jobs", "job_id": handle["job_id"], "handle": handle, "floor": PAST}
    full = {"skew": -1.25, "deadline": "2026-01-06T12:00:00+00:00", "limit": "timeout of 1 day, 0:00:00"}
    return {
        "required only": row(TrainingTrigger(**common)),
        "all, owned": row(TrainingTrigger(**common, **full, patience=5.0, owned=True, metric_definitions=DEFINITIONS)),
        "all, not owned": row(TrainingTrigger(**common, **full, patience=7.5, owned=False, metric_definitions=[])),
        "new data, defaults": row(NewDataTrigger("/srv/incoming")),
        "new data, URI": row(NewDataTrigger("file:///srv/in%20coming", "**/*.csv", 30.0, 60.0)),
        "new data, bucket": row(NewDataTrigger("s3://aws_data@bucket/incoming", "*.parquet", 0.5, 2.0)),
        "new data, runs": row(NewDataTrigger("/proc/self/cwd/incoming", "*.csv", 0.0, 0.1)),
    }


def modelarts(folder: Path) -> dict[str, Any]:
    """Trigger rows of jobs on ModelArts, in both dialects."""
    rows = {}
    with serve(folder / "s3") as s3, ModelArts(folder / "modelarts", pace=0.05, grace=1, store=s3) as double:
        for dialect in ("v1", "v2"):
            service = modelarts_service(double, dialect)
            job_id = str(uuid.uuid5(uuid.NAMESPACE_URL, dialect))
            handle = service.submit(modelarts_job(), job_id).handle
            given = {"conn_id": "modelarts_default", "job_id": job_id, "handle": handle, "floor": PAST}
            rows[f"modelarts {dialect}"] = row(TrainingTrigger(**given, deadline="2026-01-06T12:00:00+00:00"))
            poll(lambda s=service, h=handle: s.status(h).status.ended, 60, "the job to end")
    return rows


def new_data_state(folder: Path) -> dict[str, Any]:
    """What the watcher of a folder has kept after it told of one file."""
    (folder / "incoming").mkdir()
    (folder / "incoming" / "a.csv").write_text("a,b\n1,2\n")
    os.utime(folder / "incoming" / "a.csv", (1_700_000_000, 1_700_000_000))
    store = Store()

    async def watch() -> Any:
        trigger = NewDataTrigger("/proc/self/cwd/incoming", "*.csv", 0.0, 0.1)
        trigger.asset_state_store = store
        events = trigger.run()
        event = await anext(events)
        waiting = asyncio.ensure_future(anext(events))
        while not store:  # noqa: ASYNC110 -- the trigger does not say that it has written
            await asyncio.sleep(0.1)
        waiting.cancel()
        return event.payload

    before = Path.cwd()
    os.chdir(folder)
    try:
        return {"event": asyncio.run(watch()), "store": dict(store)}
    finally:
        os.chdir(before)


def follow(trigger: TrainingTrigger) -> tuple[Any, list[dict[str, Any]]]:
    """Run a trigger; answers its event's payload and the log records that it wrote."""
    trigger._log = Recorder()
    return asyncio.run(first_event(trigger)), trigger._log.records


@contextmanager
def connected(server: Server) -> Iterator[None]:
    """Let this process find the server as ``jobapi_default``."""
    os.environ["AIRFLOW_CONN_JOBAPI_DEFAULT"] = json.dumps(server.connection)
    yield
    del os.environ["AIRFLOW_CONN_JOBAPI_DEFAULT"]


def real_airflow(server: Server, folder: Path) -> dict[str, Any]:
    """Run the DAG on a real Airflow; answers its XComs, trigger rows and log records."""
    environment = {"AIRFLOW__CORE__FERNET_KEY": "", "AIRFLOW__JOBAPI__LOG_RESUME": "cursor"}
    rows: dict[str, Any] = {}
    with Airflow(folder / "airflow", DAGS, environment=environment) as airflow:
        airflow.connect("jobapi_default", server.connection)
        run_id = airflow.run("recorded", {"models": f"file://{folder}/models"})

        def ended() -> bool:
            rows.update(stored_rows(folder / "airflow" / "airflow.db"))
            state = airflow.api("GET", f"dags/recorded/dagRuns/{run_id}")["state"]
            assert state != "failed", airflow.lines("recorded", run_id, "train")
            return bool(state == "success")

        wait_for("the run ends", ended, 240, 0.3)
        run = airflow.api("GET", f"dags/recorded/dagRuns/{run_id}")
        tasks = []
        for task_id, map_index in TASKS:
            place = f"dags/recorded/dagRuns/{run_id}/taskInstances/{task_id}"
            ti = airflow.api("GET", place if map_index < 0 else f"{place}/{map_index}")
            listed = airflow.api("GET", f"{place}/xcomEntries", map_index=map_index)["xcom_entries"]
            xcoms = {
                entry["key"]: airflow.api(
                    "GET", f"{place}/xcomEntries/{entry['key']}", map_index=map_index, deserialize="true"
                )["value"]
                for entry in listed
                if entry["key"] in KEYS
            }
            tasks.append(
                {
                    "task_id": task_id,
                    "map_index": map_index,
                    "max_tries": ti["max_tries"],
                    "ti": {key: ti[key] for key in ("state", "try_number", "start_date", "end_date")},
                    "xcoms": xcoms,
                }
            )
        lines = {line.partition(" ")[2] for line in server.job_log(tasks[0]["xcoms"]["training_job_id"]).splitlines()}
        log = [record for record in airflow.log("recorded", run_id, "train") if record["event"] in lines]
    return {
        "run": {"dag_id": "recorded", "run_id": run_id, "start_date": run["start_date"]},
        "tasks": tasks,
        "rows": rows,
        "log": [{key: record.get(key) for key in ("timestamp", "event", "level")} for record in log],
    }


def stored_rows(database: Path) -> dict[str, Any]:
    """The rows of Airflow's table of triggers, by the id of the job and whether it is the task's own."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as connection:
        found = connection.execute("SELECT classpath, kwargs FROM trigger").fetchall()
    rows = {}
    for classpath, text in found:
        kwargs = plain(json.loads(text))
        rows[f"airflow {kwargs['job_id']} {kwargs['owned']}"] = {"classpath": classpath, "kwargs": kwargs}
    return rows


def plain(value: Any) -> Any:
    """A value without the marks of Airflow's serialization."""
    if isinstance(value, dict):
        if "__var" in value:
            return plain(value["__var"])
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else value


def task(**parameters: Any) -> Task:
    """A task of the recorded script; its parameters are the operator's."""
    given = {"script": SCRIPT, "deferrable": True, "image": "", "job_resources": RESOURCES}
    return Task(**given | parameters)


def ends(server: Server) -> dict[str, Any]:
    """Jobs that have ended, in each way, with their rows, their events and what the triggers wrote into the log."""
    jobs: dict[str, Any] = {}

    def keep(name: str, trigger: TrainingTrigger) -> None:
        event, records = follow(trigger)
        jobs[name] = {"job_id": trigger.job_id, "row": row(trigger), "event": event, "records": records}

    keep("ended", task(job_name="ended", data_input={"rows.csv": "a,b\n1,2\n"}).submit())
    keep("failed", task(job_name="failed", env={"EXIT": 3, "STEPS": 1}).submit())
    kwargs = task(job_name="overdue", env={"GATE": "/never"}).submit().serialize()[1]
    server.wait_for(kwargs["job_id"], "RUNNING")
    keep("overdue", TrainingTrigger(**kwargs | {"deadline": PAST, "limit": "timeout of 0:00:01"}))
    inline = task(job_name="inline", deferrable=False, metric_definitions=DEFINITIONS)
    inline.store = Store()
    inline.run()
    jobs["inline"] = {"job_id": inline.job_id, "xcoms": inline.xcoms, "store": dict(inline.store)}
    return jobs


def document(name: str, execution: dict[str, Any]) -> str:
    return json.dumps({"job": {"name": name, "execution": execution}})


def under_way(server: Server, folder: Path) -> dict[str, Any]:
    """Jobs that have not ended when the server ends.

    ``running`` runs, ``finished`` ends while no server runs, ``prepared`` is prepared and its supervisor has not
    started, ``waiting`` waits for a free CPU.
    """
    source = SCRIPT.read_text()
    jobs: dict[str, Any] = {}
    commands = {
        "running": "python3 train.py --gate=/never",
        "finished": f"python3 train.py --gate={folder / 'gate'}",
        "prepared": "python3 train.py --steps=3 --pause=2",
    }
    for name, command in commands.items():
        job_id = server.submit(source, name=name, command=command, resources=RESOURCES)
        server.wait_for(job_id, "RUNNING")
        if name != "prepared":
            poll(lambda job_id=job_id: "loss is" in server.job_log(job_id), 30, "the job's lines")
        else:
            poll(lambda job_id=job_id: server.job_log(job_id), 30, "the job's lines")
        text = document(name, {"command": command, "resources": RESOURCES})
        jobs[name] = {"job_id": job_id, "document": text}
    trigger = task(job_name="waiting", metric_definitions=DEFINITIONS).submit()
    poll(lambda: server.status(trigger.job_id)["message"], 10, "the reason to wait")
    jobs["waiting"] = {"job_id": trigger.job_id, "row": row(trigger)}
    kwargs = {"conn_id": "nowhere", "job_id": jobs["running"]["job_id"], "floor": PAST, "patience": 0.5}
    os.environ["AIRFLOW_CONN_NOWHERE"] = json.dumps(server.connection | {"host": "http://127.0.0.1:9"})
    unreachable = TrainingTrigger(**kwargs, handle={"job_id": kwargs["job_id"], "name": "running"})
    jobs["running"] |= {"row": row(unreachable), "event": follow(unreachable)[0]}
    return jobs


def snapshot(server: Server, jobs: dict[str, Any], folder: Path) -> None:
    """Keep the root as the server leaves it at its end, while its jobs run on."""
    for job in jobs.values():
        job["before"] = server.status(job["job_id"])
        job["log"] = server.job_log(job["job_id"])
        answer = server.request("GET", f"/api/v2/jobs/{job['job_id']}/model")
        job["model"] = answer.json() if answer.ok else None
    server.stop()
    (folder / "gate").touch()
    (home,) = (server.root / "clients").glob("*/jobs")
    ended = home / jobs["finished"]["job_id"] / "exit.json"
    poll(ended.exists, 30, "the job to end")
    copied = folder / "copied"
    shutil.copytree(server.root, copied, symlinks=True)
    prepared = copied / home.relative_to(server.root) / jobs["prepared"]["job_id"]
    assert not (prepared / "exit.json").exists()
    for name in ("started", "lock", "log", "exit.json.new"):
        (prepared / name).unlink()
    (copied / "lock").write_text("")
    pack(copied, {place: mark for mark, place in paths(server.root).items()})
    server.restart()
    stop_jobs(server)
    server.stop()


def after_restart(jobs: dict[str, Any], folder: Path) -> None:
    """What this version says after a start on the recorded root."""
    server = serve_recorded(unpack(folder / "unpacked"))
    with connected(server):
        for name, job in jobs.items():
            job["after"] = server.wait_for(job["job_id"], "SUCCESSFUL", "FAILED", "STOPPED")
            job["log after"] = server.job_log(job["job_id"])
            job["model after"] = server.request("GET", f"/api/v2/jobs/{job['job_id']}/model").json()
            if "event" in job:
                try:
                    job["completed"] = {"result": task(job_name=name).complete(job["event"])}
                except Exception as error:  # noqa: BLE001 -- how it ends is what is recorded
                    job["completed"] = {"error": type(error).__name__}
    server.stop()


def main() -> None:
    DATA.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="recording-") as name:
        folder = Path(name)
        save("job_files", job_files())
        save("new_data", new_data_state(folder))
        rows = constructed() | modelarts(folder)
        server = Server.start(folder / "root", *SERVER_OPTIONS)
        try:
            with connected(server):
                recorded = real_airflow(server, folder)
                rows |= recorded.pop("rows")
                jobs = ends(server)
                jobs |= {
                    f"{each['task_id']} {each['map_index']}": {"job_id": each["xcoms"]["training_job_id"]}
                    for each in recorded["tasks"]
                    if each["task_id"] in {"train", "inline", "mapped"}
                }
                jobs |= under_way(server, folder)
                snapshot(server, jobs, folder)
        except BaseException:
            if server.process.poll() is not None:
                server.restart()
            stop_jobs(server)
            server.stop()
            raise
        rows |= {name: job["row"] for name, job in jobs.items() if "row" in job}
        save("server", {"connection": server.connection})
        after_restart(jobs, folder)
        save("triggers", rows)
        save("airflow", recorded)
        save("server", {"connection": load("server")["connection"], "jobs": jobs})


if __name__ == "__main__":
    main()
