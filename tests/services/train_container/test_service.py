# SPDX-License-Identifier: Apache-2.0
"""Trains on real engines, from the submit to their end."""

from __future__ import annotations

import hashlib
import json
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from docker.errors import NotFound

from airflow_provider_jobapi.exceptions import (
    BrokenContract,
    ConnectionProblem,
    InvalidJob,
    JobConflict,
    JobGone,
    JobNotFound,
    NoSavedModel,
    ServiceUnavailable,
)
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.services.train_container import housekeeping, names
from airflow_provider_jobapi.services.train_container.commands import Command
from airflow_provider_jobapi.services.train_container.engine import Engine as Client
from airflow_provider_jobapi.services.train_container.errors import ImageMissing, NoSuchCommand
from airflow_provider_jobapi.services.train_container.plan import Plan
from airflow_provider_jobapi.services.train_container.service import TrainContainerService
from airflow_provider_jobapi.services.train_container.vocabulary import CheckResult, Requirements, Summary
from airflow_provider_jobapi.training.job import TrainingJob
from airflow_provider_jobapi.training.status import JobState
from tests.harness.containers.registry import Registry
from tests.harness.waiting import wait_for
from tests.services.train_container.station import Station, connect, end_of, followed, scripted

COUNTING = "localhost/counting:1"


def test_the_four_commands_of_a_train(station: Station, tmp_path: Path) -> None:
    station.environment = {"PATIENTS_URL": "http://fhir.example.com", "TOKEN": "geheim"}
    (tmp_path / "rows.csv").write_text("a\nb\nc\n")
    answers = {}
    for command in Command:
        data = {"rows.csv": tmp_path / "rows.csv"} if command is Command.RUN_ALGORITHM else {}
        service, handle, status = station.ended(Plan(image=COUNTING, command=command, data=data))
        assert status.status is JobState.SUCCESSFUL, status.describe()
        answers[command] = service.verdict(handle).answer
    assert isinstance(answers[Command.LIST_REQUIREMENTS], Requirements)
    assert isinstance(answers[Command.CHECK_REQUIREMENTS], CheckResult)
    assert isinstance(summary := answers[Command.PRINT_MODEL_SUMMARY], Summary)
    assert summary.content == "0 rows of 0 stations"
    assert status.message == "counted 3"
    model = service.model(handle)
    assert model is not None
    assert [(file.path, model.root) for file in model.files] == [("count.json", "/opt/pht_train/model")]
    fetched = service.fetch_model(handle, tmp_path / "models", "1")
    assert json.loads((tmp_path / "models" / "1" / "count.json").read_text())["rows"] == 3
    assert fetched.kind == "files"
    content = (tmp_path / "models" / "1" / "count.json").read_bytes()
    assert [file.sha256 for file in fetched.files] == [hashlib.sha256(content).hexdigest()]
    assert fetched.sha256 is not None
    again = service.fetch_model(handle, tmp_path / "models", "1")  # it is there, which the hashes say
    assert again.sha256 == fetched.sha256
    (tmp_path / "models" / "1" / "count.json").write_bytes(content.replace(b"3", b"4"))
    with pytest.raises(JobConflict, match="holds other files"):
        service.fetch_model(handle, tmp_path / "models", "1")


@pytest.mark.parametrize("command", [Command.LIST_REQUIREMENTS, Command.PRINT_MODEL_SUMMARY])
def test_a_command_that_describes_gets_nothing_of_the_station(station: Station, command: Command) -> None:
    station.environment = {"PATIENTS_URL": "http://fhir.example.com", "TOKEN": "geheim"}
    code = "print(json.dumps({'requirements': [], 'content': ' '.join(os.environ)}))"
    _, handle, _ = station.ended(Plan(image="localhost/scripted:1", command=command, arguments=(code,)))
    inspected = station.engine.client.inspect_container(handle["container"])
    assert "geheim" not in json.dumps(inspected)
    assert not {"TOKEN", "PATIENTS_URL"} & {each.partition("=")[0] for each in inspected["Config"]["Env"]}


def test_a_training_job_is_the_run_of_a_train(station: Station, tmp_path: Path) -> None:
    """Data that are texts are copied, and read-only like those that are mounted."""
    code = (
        "text = pathlib.Path(os.environ['DATA_DIR'], 'deep/rows.csv').read_text()\n"
        "try: pathlib.Path(os.environ['DATA_DIR'], 'new').write_text('x')\n"
        "except OSError as error: print(error)\n"
        "answer(message=text + os.environ['FOO'])"
    )
    job = TrainingJob.of(
        name="job", image="localhost/scripted:1", arguments=[code], env={"FOO": "bar"}, data={"deep/rows.csv": "a,b\n"}
    )
    service, job_id = station.service(), station.job_id()
    with pytest.raises(JobNotFound):
        service.find(job_id)
    submitted = service.submit(job, job_id)
    status = end_of(service, submitted.handle)
    assert (status.status, status.message, status.name) == (JobState.SUCCESSFUL, "a,b\nbar", "job")
    assert "Read-only file system" in " ".join(service.last_lines(submitted.handle, 5))
    assert service.submit(job, job_id).handle == submitted.handle == service.find(job_id).handle
    with pytest.raises(JobConflict, match="another image, environment or data"):
        service.submit(job.model_copy(update={"arguments": ("answer()",)}), job_id)
    with pytest.raises(NoSavedModel, match="exported no files"):
        service.fetch_model(submitted.handle, tmp_path)
    assert service.model(submitted.handle) is None


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("script", "print()", "a train image brings its own algorithm"),
        ("requirements", "numpy", "brings its own packages"),
        ("nodes", 2, "one container"),
        ("completion_time", "1w", r"^completion_time cannot be '1w': it is a time of more than 0 and up to 3,650 days"),
        ("completion_time", 10**20, "^completion_time cannot be '100000000000000000000': "),
        ("image", "", "^image is not given, and is the train: "),
        ("image", "tensorflow/tensorflow:latest", "^image is not given, and is the train: "),
        ("resources", {"gpus": 1}, "no GPUs"),
        ("service_options", {"comand": "run"}, "'comand', which trains do not know"),
        ("service_options", {"isolation": {"root": True}}, "isolation has 'root'"),
    ],
)
def test_what_a_train_has_not_is_refused(station: Station, field: str, value: object, words: str) -> None:
    job = TrainingJob.of(**{"name": "job", "image": "localhost/scripted:1", field: value})
    with pytest.raises(InvalidJob, match=words):
        station.service().submit(job, station.job_id())
    assert not station.engine.client.containers(all=True, filters={"label": [f"{names.JOB_ID}={station.jobs[-1]}"]})


def test_a_failure_in_the_response_at_exit_code_0_is_a_failure(station: Station) -> None:
    _, _, status = station.ended(scripted("answer(state='failure', message='no patients')"))
    assert (status.status, status.reason, status.exit_code) == (JobState.FAILED, "TrainFailed", 0)
    assert "no patients" in status.message


@pytest.mark.parametrize(
    ("code", "reason", "words"),
    [
        ("print('done')", "NoResponse", "no response"),
        ("answer(); sys.exit(3)", "NonZeroExit", "exit code 3"),
        ("print('}}}')", "NoResponse", "closes no object"),
        ("print('{\"state\": NaN}')", "InvalidResponse", "NaN"),
        ('sys.stdout.buffer.write(b\'{"state": "\\xff"}\')', "InvalidResponse", "not UTF-8"),
        ("answer(message='x' * 2**21)", "InvalidResponse", "1,048,576 bytes"),
        ("answer(export_files=['/data/../etc/passwd'])", "InvalidResponse", "cannot export"),
    ],
)
def test_what_is_no_good_response_fails_with_one_sentence(station: Station, code: str, reason: str, words: str) -> None:
    _, _, status = station.ended(scripted(code))
    assert (status.status, status.reason) == (JobState.FAILED, reason)
    if words == "not UTF-8" and station.engine.name == "dockerd":  # it replaces the byte in its log
        words = "state cannot be"
    assert words in status.message


def test_an_image_and_a_command_that_do_not_exist(station: Station, registry: Registry) -> None:
    with pytest.raises(ImageMissing, match="localhost/ is no registry"):
        station.run(scripted(image="localhost/none:1"))
    with pytest.raises(ImageMissing, match=rf"^The image {registry.address}/none:1 cannot be pulled, since it is not "):
        station.run(scripted(image=f"{registry.address}/none:1"))
    with pytest.raises(ImageMissing, match="the connection's pull is never"):
        station.run(scripted(image=f"{registry.address}/none:1"), pull="never")
    with pytest.raises(NoSuchCommand, match=r"^The image has no command 'run_algorithm': "):
        station.run(Plan(image="localhost/base:1", command=Command.RUN_ALGORITHM))
    label = f"{names.JOB_ID}={station.jobs[-1]}"
    assert not station.engine.client.containers(all=True, filters={"label": [label]})
    assert not station.engine.client.volumes(filters={"label": [label]})["Volumes"]


def test_a_network_that_does_not_exist(station: Station) -> None:
    with pytest.raises(InvalidJob, match=r"has no network 'nowhere': .*isolation\.network"):
        station.run(scripted(isolation={"network": "nowhere"}))
    label = f"{names.JOB_ID}={station.jobs[-1]}"
    assert not station.engine.client.containers(all=True, filters={"label": [label]})
    assert not station.engine.client.volumes(filters={"label": [label]})["Volumes"]


def test_a_container_that_is_stopped(station: Station) -> None:
    service, handle = station.run(scripted("print('begun', flush=True); time.sleep(600)"))
    followed(service, handle, until=bool)
    assert service.status(handle).status is JobState.RUNNING
    service.stop(handle)
    status = end_of(service, handle)
    assert (status.status, status.reason, status.message) == (JobState.STOPPED, "Stopped", "It was stopped by Airflow.")
    service.stop(handle)
    assert [line.text for line in followed(service, handle)[0]] == ["begun"]


def test_a_container_that_is_paused_is_stopped_as_well(station: Station) -> None:
    service, handle = station.run(scripted("print('begun', flush=True); time.sleep(600)"))
    station.engine.client.pause(handle["container"])
    assert (status := service.status(handle)).status is JobState.RUNNING
    assert "paused" in status.message
    service.stop(handle)
    assert end_of(service, handle).status is JobState.STOPPED


def test_a_container_that_never_ends_is_stopped_after_its_time(station: Station) -> None:
    service, handle = station.run(scripted("print('begun', flush=True); time.sleep(600)", seconds=1.0))
    assert [line.text for line in followed(service, handle)[0]] == ["begun"]
    status = service.status(handle)
    assert (status.status, status.reason) == (JobState.FAILED, "CompletionTimeExceeded")


def test_too_much_memory(station: Station) -> None:
    code = "kept = []\nwhile True: kept.append(bytearray(10**7))"
    _, _, status = station.ended(scripted(code, isolation={"memory": "80m", "tmpfs": {"/tmp": "16m"}}))
    assert (status.status, status.exit_code) == (JobState.FAILED, 137)
    if station.engine.name == "dockerd":
        assert status.reason == "OutOfMemory"
    else:
        assert "It was killed (SIGKILL), most often for its use of memory" in status.message
        assert "whose limit was 80 MiB (isolation.memory)" in status.message


def test_a_container_that_was_removed_is_remembered(station: Station) -> None:
    """A retry finds how the job has ended, and does not run it again."""
    plan, job_id = scripted("answer(message='done')"), station.job_id()
    service, handle = station.run(plan, job_id)
    end_of(service, handle)
    service.release(handle, {"digest": "sha256:1"})
    assert not station.engine.client.containers(all=True, filters={"label": [f"{names.JOB_ID}={job_id}"]})
    other = station.service()
    assert other.find(job_id).handle == handle == other.launch(plan, job_id).handle
    assert (status := other.status(handle)).status is JobState.SUCCESSFUL
    assert status.message == "done"
    assert other.kept_result(handle) == {"digest": "sha256:1"}
    assert followed(other, handle)[0] == []
    other.release(handle)
    other.stop(handle)
    with pytest.raises(JobGone, match="was removed, and its files with it"):
        other.model(handle)


def test_a_container_that_somebody_has_removed_is_gone(station: Station) -> None:
    plan, job_id = scripted(), station.job_id()
    service, handle = station.run(plan, job_id)
    end_of(service, handle)
    station.engine.client.remove_container(handle["container"])
    for ask in (lambda: service.status(handle), lambda: service.find(job_id), lambda: service.launch(plan, job_id)):
        with pytest.raises(JobGone, match="nothing says how it ended"):
            ask()
    with pytest.raises(JobGone):
        followed(service, handle)


def test_containers_that_ended_long_ago_are_removed(station: Station) -> None:
    """Those of this station only, and how they ended stays known."""
    name = f"old {uuid.uuid4()}"
    _, other, _ = station.ended(scripted(), station="another one")
    service, old, _ = station.ended(scripted("answer(message='done')", data={"rows.csv": "1"}), station=name)
    running = station.service(station=name).launch(scripted("time.sleep(600)"), station.job_id()).handle
    client = station.engine.client
    client.inspect_container(old["container"])  # it ended less than 7 days ago, and nobody has looked for an hour
    young = station.service(station=name, keep_days=7)
    assert housekeeping.sweep(young.engine, name, 7, young.retention.remove, young._log) == 0
    wait_for(
        "some milliseconds",
        lambda: housekeeping.sweep(young.engine, name, 1e-9, young.retention.remove, young._log) == 1,
    )
    assert service.status(old).message == "done"
    assert service.find(old["job_id"]).handle == old
    with pytest.raises(NotFound):
        client.inspect_container(old["container"])
    assert client.inspect_container(other["container"])
    assert service.status(running).status is JobState.RUNNING
    volumes = client.volumes(filters={"label": [f"{names.JOB_ID}={old['job_id']}"]})["Volumes"]
    assert not [each["Name"] for each in volumes if "-data" in each["Name"]]


def test_a_container_of_somebody_else_with_the_labels_of_a_job_is_left_alone(station: Station) -> None:
    """As one that is run by hand of a successor image, which has its labels."""
    name = f"labelled {uuid.uuid4()}"
    service, running = station.run(scripted("time.sleep(600)"), station=name)
    client, made = station.engine.client, []
    for labels in ({names.STATION: name}, {names.STATION: name, names.JOB_ID: running["job_id"]}):
        host = client.create_host_config(network_mode="none")  # else Podman leaves a bridge on this machine
        made.append(client.create_container("localhost/base:1", ["true"], labels=labels, host_config=host)["Id"])
        client.start(made[-1])
        client.wait(made[-1])
    try:
        assert housekeeping.sweep(service.engine, name, 1e-9, service.retention.remove, service._log) == 0
        assert service.kept_result(running) is None
        assert service.status(running).status is JobState.RUNNING
    finally:
        for each in made:
            client.remove_container(each)


def test_a_submit_looks_for_old_containers_now_and_then(station: Station) -> None:
    name = f"often {uuid.uuid4()}"
    station.ended(scripted(), station=name, keep_days=1e-9)
    assert not housekeeping.is_due(station.service().engine, name)
    for key in [each for each in housekeeping._looked if each[1] == name]:
        del housekeeping._looked[key]
    station.ended(scripted(), station=name, keep_days=1e-9)
    left = station.engine.client.containers(all=True, filters={"label": [f"{names.STATION}={name}"]})
    assert [each["Labels"][names.JOB_ID] for each in left] == [station.jobs[1]]


def test_a_container_of_somebody_else_is_left_alone(station: Station) -> None:
    job_id = station.job_id()
    client = station.engine.client
    client.create_container("localhost/base:1", ["true"], name=names.container_name(job_id))
    with pytest.raises(BrokenContract, match="not of this job"):
        station.run(scripted(), job_id)
    assert client.inspect_container(names.container_name(job_id))["State"]["Status"] == "created"


def test_an_engine_that_is_away() -> None:
    from airflow_provider_jobapi.services.train_container.connection import TrainConnection

    def service(url: str) -> TrainContainerService:
        connection = TrainConnection.of(extra={"engine": url})
        return TrainContainerService(connection, Client(lambda: connect(url), url), retry=Retry(attempts=1))

    with pytest.raises(ServiceUnavailable, match=r"^The container engine at unix:///no/such.sock does not answer, "):
        service("unix:///no/such.sock").find("1")
    with pytest.raises(ServiceUnavailable, match="does not answer"):
        service("tcp://127.0.0.1:9").find("1")


def test_data_of_this_machine_that_are_not_mounted(station: Station, tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.csv").write_text("1\n")
    code = "answer(message=pathlib.Path('/data/rows/a.csv').read_text())"
    for mount in (True, False):
        plan = scripted(code, data={"rows/a.csv": tmp_path / "rows" / "a.csv"})
        _, handle, status = station.ended(plan, mount_data=mount)
        assert status.message.strip() == "1", status.describe()
        mounts = station.engine.client.inspect_container(handle["container"])["Mounts"]
        (data,) = [each for each in mounts if each["Destination"].startswith("/data")]
        assert (data["Type"], data["RW"]) == ("bind" if mount else "volume", False)


def test_data_with_a_file_system_mounted_among_them_are_read_only_as_well(station: Station, tmp_path: Path) -> None:
    """A read-only mount of a folder says nothing about what is mounted below it."""
    folder = tmp_path / "pa tients"
    inner = folder / "inner"
    inner.mkdir(parents=True)
    (folder / "a.csv").write_text("1\n")
    code = (
        "try: pathlib.Path('/data/p/inner/b.csv').write_text('changed')\n"
        "except OSError as error: answer(message=pathlib.Path('/data/p/inner/b.csv').read_text())"
    )
    with mounted(inner):
        (inner / "b.csv").write_text("2\n")
        (inner / "b.csv").chmod(0o666)
        data = {f"p/{name}": folder / name for name in ("a.csv", "inner/b.csv")}
        _, _, status = station.ended(scripted(code, data=data))
        assert (inner / "b.csv").read_text() == "2\n"
        station.clean()
    assert (status.status, status.message.strip()) == (JobState.SUCCESSFUL, "2"), status.describe()


@contextmanager
def mounted(folder: Path) -> Iterator[None]:
    """A file system in memory."""
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "none", folder], check=False, capture_output=True)
    if mount.returncode:
        pytest.skip(f"nothing can be mounted here: {mount.stderr!r}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_data_that_only_their_owner_may_read_are_copied(station: Station, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("1\n")
    path.chmod(0o600)
    plan = scripted("answer(message=pathlib.Path('/data/rows.csv').read_text())", data={"rows.csv": path})
    _, _, status = station.ended(plan)
    assert (status.status, status.message.strip()) == (JobState.SUCCESSFUL, "1"), status.describe()


def test_the_labels_of_a_container(station: Station) -> None:
    _, handle, _ = station.ended(scripted(name="bmi"))
    labels = station.engine.client.inspect_container(handle["container"])["Config"]["Labels"]
    assert labels["airflow.dag_id"] == "trains"
    assert labels["airflow.run_id"] == "r1"
    assert labels["airflow.try_number"] == "1"
    assert labels[names.JOB_ID] == handle["job_id"]
    assert labels[names.STATION] == "Leipzig"
    assert labels[names.IMAGE_DIGEST].startswith("sha256:")


def test_a_connection_that_is_refused(tmp_path: Path) -> None:
    error = Client(lambda: (_ for _ in ()).throw(PermissionError(13, "Permission denied")), "unix:///run/x.sock")
    with pytest.raises(ConnectionProblem, match="may not be used by this user"):
        error.inspect("x")
