# SPDX-License-Identifier: Apache-2.0
"""The operators of train containers, on real engines, deferred and inline."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, Asset

from airflow_provider_jobapi.exceptions import InvalidJob, JobFailed
from airflow_provider_jobapi.operators.train_container import RunTrainOperator, TrainCommandOperator
from airflow_provider_jobapi.operators.train_validation import ValidateTrainOperator
from tests.harness.containers.engine import Engine
from tests.harness.containers.fixtures import dockerd, engine, image_tree, podman, registry
from tests.harness.containers.trains import make_trains
from tests.harness.tries import AirflowFailException, Task

__all__ = ["dockerd", "engine", "image_tree", "podman", "registry"]

SECRET = "s3cret-of-the-station"
COUNTING, SCRIPTED = "localhost/counting:1", "localhost/scripted:1"


class TrainTask(Task):
    """A task of one of the operators.

    :param kind: Its class.
    """

    def __init__(self, kind: type[TrainCommandOperator], **parameters: Any) -> None:
        super().__init__(**parameters)
        del self.parameters["script"]
        self.kind = kind

    def operator(self) -> TrainCommandOperator:
        with DAG("tries", schedule=None):
            return self.kind(**self.parameters)

    def context(self, operator: Any, try_number: int = 1) -> Any:
        self.events = {outlet: SimpleNamespace(extra={}) for outlet in operator.outlets}
        return super().context(operator, try_number) | {"outlet_events": self.events}


@pytest.fixture(scope="module")
def trains(engine: Engine) -> Engine:
    make_trains(engine)
    return engine


@pytest.fixture
def station(trains: Engine, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An engine with a connection to it; what tasks leave there is removed."""
    extra = {
        "engine": trains.url,
        "poll_interval": 0.1,
        "grace": 1,
        "environment": {"PATIENTS_URL": "http://fhir.example.com"},
        "environment_from": {"TOKEN": "variable:token"},
    }
    connection = {"conn_type": "train_container", "extra": extra}
    monkeypatch.setenv("AIRFLOW_VAR_TOKEN", SECRET)
    monkeypatch.setenv("AIRFLOW_CONN_TRAIN_CONTAINER_DEFAULT", json.dumps(connection))
    yield trains
    client = trains.client
    for each in client.containers(all=True):
        client.remove_container(each["Id"], force=True, v=True)
    for volume in client.volumes()["Volumes"] or []:
        client.remove_volume(volume["Name"])


def names(station: Engine) -> list[str]:
    return [name for each in station.client.containers(all=True) for name in each["Names"]]


def test_the_commands_that_describe(station: Engine) -> None:
    answers = {}
    for command, deferrable in (
        ("list_requirements", True),
        ("check_requirements", False),
        ("print_model_summary", False),
    ):
        task = TrainTask(TrainCommandOperator, command=command, image=COUNTING, deferrable=deferrable)
        answers[command] = task.run()
        assert answers[command]["job_id"] == task.job_id
        assert answers[command]["command"] == command
        if command == "print_model_summary":
            assert task.run() == answers[command]  # a try that finds the container removed
    needed = answers["list_requirements"]["response"]["requirements"]
    assert [each["requirement"]["name"] for each in needed] == ["PATIENTS_URL"]
    assert answers["check_requirements"]["response"]["unmet"] == []
    assert answers["print_model_summary"]["response"] == {"content": "0 rows of 0 stations"}
    assert names(station) == []


def test_what_a_station_would_have_to_offer(station: Engine) -> None:
    code = "print(json.dumps({'unmet': ['GENOMES']}))"
    task = TrainTask(TrainCommandOperator, command="check_requirements", image=SCRIPTED, command_args=[code])
    with pytest.raises(JobFailed, match="The train needs GENOMES: it is unmet") as caught:
        task.run()
    assert caught.value.reason == "RequirementsUnmet"
    assert names(station) == []
    first = task.job_id
    with pytest.raises(JobFailed, match="The train needs GENOMES"):  # the next try asks again
        task.run()
    assert task.job_id != first


@pytest.mark.parametrize(
    "given",
    [
        {"deferrable": True, "env": {"DEPTH": 3}, "env_vars": {"MODE": "fast"}},
        {"deferrable": False, "config": {"env": {"DEPTH": 3}, "env_vars": {"MODE": "fast"}}},
    ],
    ids=["deferred", "inline, by config"],
)
def test_a_whole_run(station: Engine, tmp_path: Path, given: dict[str, Any]) -> None:
    (tmp_path / "rows.csv").write_text("1\n2\n3\n")
    tmp_path.chmod(0o755)
    task = TrainTask(
        RunTrainOperator, image=COUNTING, isolation={"user": "0"},
        data_input={"rows.csv": tmp_path / "rows.csv"}, destination=str(tmp_path / "models"),
        repository="localhost/next", outlets=[Asset("trains://bmi")], **given,
    )  # fmt: skip
    result = task.run()
    assert result["response"]["state"] == "success"
    assert (result["successor"]["image"], result["successor"]["mode"]) == ("localhost/next:station.1", "rebase")
    assert result["successor"]["digest"] is None
    (event,) = task.events.values()
    assert event.extra["location"] == result["model"]
    assert (event.extra["image"], event.extra["parent"]) == ("localhost/next:station.1", COUNTING)
    assert event.extra["job_id"] == task.job_id
    assert json.loads((Path(result["model"].removeprefix("file://")) / "count.json").read_text())["rows"] == 3
    assert names(station) == []
    again = task.run()
    assert again["successor"] == result["successor"]
    summary = TrainTask(TrainCommandOperator, command="print_model_summary", image="localhost/next:station.1").run()
    assert summary["response"]["content"] == "3 rows of 1 stations"
    station.client.remove_image("localhost/next:station.1", force=True)


def test_the_algorithm_is_not_run_where_the_check_fails(station: Engine) -> None:
    code = "print(json.dumps({'unmet': ['GENOMES']}))"
    task = TrainTask(RunTrainOperator, image=SCRIPTED, check_args=[code], command_args=["answer()"])
    with pytest.raises(JobFailed, match="The train needs GENOMES"):
        task.run()
    assert names(station) == []
    assert not {"training_job_id", "trainingStatus", "training_metrics"} & task.xcoms.keys()


def test_an_image_that_keeps_the_api_and_one_that_does_not(station: Engine) -> None:
    result = TrainTask(ValidateTrainOperator, image=COUNTING).run()
    assert result["responses"].keys() == {"list_requirements", "check_requirements", "print_model_summary"}
    assert result["unmet"] is None
    assert names(station) == []
    with pytest.raises(AirflowFailException) as caught:
        TrainTask(ValidateTrainOperator, image=SCRIPTED).run()
    assert f"The image {SCRIPTED} does not keep the Train API:\n" in str(caught.value)
    assert "list_requirements: " in str(caught.value)
    assert "requirements is missing" in str(caught.value)
    assert "print_model_summary: " in str(caught.value)
    assert "run_algorithm" not in str(caught.value)


def test_all_that_is_wrong_with_an_image_is_said_at_once(station: Engine) -> None:
    """Also where the image does not have a command at all, which an engine says when it starts the container."""
    image = "localhost/one:1"
    names_and_targets = [{"type": "environmentVariable", "target": each, "name": f"A{each}"} for each in ("1", "2")]
    answer = {"requirements": [{"id": 0, "requirement": each} for each in names_and_targets]}
    script = f"#!/bin/sh\necho '{json.dumps(answer)}'\n".encode()
    station.make_image(image, {"/usr/local/bin/check_requirements": script}, "USER 1000")
    with pytest.raises(AirflowFailException) as caught:
        TrainTask(ValidateTrainOperator, image=image, run=True).run()
    said = str(caught.value).splitlines()
    for command in ("list_requirements", "print_model_summary", "run_algorithm"):
        assert any(line.startswith(f"  {command}: The image has no command {command!r}") for line in said), said
    (checked,) = [line for line in said if line.startswith("  check_requirements: ")]
    assert "requirements[0].requirement.name cannot be 'A1'" in checked
    assert "requirements[1].requirement.name cannot be 'A2'" in checked
    assert "unmet is missing" in checked
    assert names(station) == []
    with pytest.raises(AirflowFailException, match=r"^The engine .* has no image localhost/none:1"):
        TrainTask(ValidateTrainOperator, image="localhost/none:1").run()


def test_a_connection_that_runs_no_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_JOBS",
        json.dumps({"conn_type": "jobapi", "host": "http://127.0.0.1", "login": "a", "password": "b"}),
    )
    with pytest.raises(AirflowFailException, match="conn_id is jobs, which runs no trains"):
        TrainTask(TrainCommandOperator, command="list_requirements", image=COUNTING, conn_id="jobs").run()


def test_a_successor_that_cannot_be() -> None:
    with pytest.raises(InvalidJob, match="successor cannot be 'merge'"):
        TrainTask(RunTrainOperator, image=COUNTING, successor="merge").operator()


def test_a_target_that_the_connection_or_the_task_adds(station: Engine) -> None:
    needed = {"type": "environmentVariable", "target": "FHIR", "name": "A"}
    code = f"print(json.dumps({{'requirements': [{{'id': 0, 'requirement': {needed}}}]}}))"
    task = TrainTask(TrainCommandOperator, command="list_requirements", image=SCRIPTED, command_args=[code])
    with pytest.raises(JobFailed, match="target 'FHIR'"):
        task.run()
    task = TrainTask(
        TrainCommandOperator, command="list_requirements", image=SCRIPTED, command_args=[code], targets={"FHIR": ""}
    )
    assert task.run()["response"]["requirements"][0]["requirement"] == {**needed, "choices": []}


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "inline"])
def test_a_secret_that_a_train_says_is_in_no_result(station: Engine, deferrable: bool) -> None:
    code = "print(os.environ['TOKEN']); answer(message='the token is ' + os.environ['TOKEN'], next_train_tag='next')"
    task = TrainTask(
        TrainCommandOperator, command="run_algorithm", image=SCRIPTED, command_args=[code], deferrable=deferrable
    )
    result = task.run()
    assert result["response"]["message"] == "the token is ***"
    assert SECRET not in json.dumps([result, task.xcoms])


WRITE = "open(path := '/opt/pht_train/model/w', 'w').write('w'); secret = os.environ['TOKEN']\n"


@pytest.mark.parametrize(
    ("code", "field"),
    [
        ("answer(next_train_tag=secret, export_files=[path])", "next_train_tag"),
        ("answer(next_train_tag='n', export_files=[path], rebase={'type': 'docker', 'from': secret})", "rebase"),
        ("answer(next_train_tag='n', export_files=['/opt/' + secret])", "export_files"),
    ],
)
def test_a_secret_in_a_name_makes_no_successor(station: Engine, code: str, field: str) -> None:
    task = TrainTask(RunTrainOperator, image=SCRIPTED, command_args=[WRITE + code], check=False, deferrable=False)
    with pytest.raises(AirflowFailException, match=f"a secret of the station in {field}") as raised:
        task.run()
    assert SECRET not in json.dumps([str(raised.value), task.xcoms])
    assert not station.client.images(f"localhost/scripted:{SECRET}")


def test_no_record_on_the_engine_has_a_secret_that_the_train_says(station: Engine) -> None:
    code = WRITE + "answer(next_train_tag='n', export_files=[path], message='it is ' + secret)"
    task = TrainTask(
        RunTrainOperator, image=SCRIPTED, command_args=[code], base="localhost/base:1", check=False, deferrable=False
    )
    result = task.run()
    volumes = json.dumps(station.client.volumes())
    assert "it is ***" in volumes
    assert SECRET not in volumes
    station.client.remove_image(result["successor"]["image"])


@pytest.mark.parametrize(
    ("name", "value"), [("tags", ["A_B"]), ("tags", "A_B"), ("base", "UP PER"), ("repository", "UPPER")]
)
def test_a_name_that_no_successor_can_have_is_refused_before_the_run(station: Engine, name: str, value: Any) -> None:
    task = TrainTask(RunTrainOperator, image=SCRIPTED, deferrable=False, **{name: value})
    with pytest.raises(AirflowFailException, match=rf"^(A tag of )?{name} cannot be '(A_B|UP ?PER)'"):
        task.run()
    assert names(station) == []


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"base": "localhost/none:1"}, "has no image localhost/none:1, and localhost/ is no registry"),
        ({"push": True}, "cannot be pushed, since localhost/ is no registry: give its repository"),
        ({"tags": [True]}, r"^(A tag of )?tags cannot be 'True'"),
        ({"tags": [["a"]]}, r"^tags cannot be .*: it is a text"),
        ({"tags": "n", "base": 5}, "^base cannot be '5': it is a text"),
    ],
)
def test_a_successor_that_cannot_be_made_is_refused_before_the_run(
    station: Engine, parameters: dict[str, Any], words: str
) -> None:
    task = TrainTask(RunTrainOperator, image=SCRIPTED, deferrable=False, **parameters)
    with pytest.raises(AirflowFailException, match=words):
        task.run()
    assert names(station) == []


WRITES = "open(path := '/opt/pht_train/model/w', 'w').write(str(time.time())); "


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "inline"])
def test_a_clear_after_a_refused_successor_does_not_run_the_algorithm_again(station: Engine, deferrable: bool) -> None:
    task = TrainTask(
        RunTrainOperator, image=SCRIPTED, base="localhost/base:1", deferrable=deferrable, check_args=[UNMET_NOTHING],
        command_args=[WRITES + "answer(export_files=[path])"],
    )  # fmt: skip
    with pytest.raises(AirflowFailException, match=r"names no next tag.* clear it, which makes the successor"):
        task.run()
    (container,) = names(station)
    first = task.job_id
    task.parameters["tags"] = ["next"]  # as the error says; a clear reads the DAG again
    task.max_tries = 1
    result = task.run()
    assert result["successor"]["image"] == "localhost/scripted:next"
    assert task.job_id != first
    assert container == f"/jobapi-{first}"
    assert names(station) == []
    assert task.run() == result  # a retry in the same cycle, after its worker was killed
    task.max_tries = 2  # a clear after the success trains again
    task.parameters["tags"] = ["again"]
    again = task.run()
    assert again["successor"]["image_id"] != result["successor"]["image_id"]
    assert station.client.inspect_image("localhost/scripted:again")["Id"] != result["successor"]["image_id"]
    for tag in ("next", "again"):
        station.client.remove_image(f"localhost/scripted:{tag}", force=True)


UNMET_NOTHING = "print(json.dumps({'unmet': []}))"


@pytest.mark.parametrize("changed", ["command_args", "env", "token", "removed"])
def test_a_clear_runs_the_algorithm_again_where_it_is_another_run(
    station: Engine, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    code = WRITES + "answer(export_files=[path])"
    task = TrainTask(
        RunTrainOperator, image=SCRIPTED, base="localhost/base:1", check=False, deferrable=False, command_args=[code]
    )
    with pytest.raises(AirflowFailException, match="names no next tag"):
        task.run()
    first = names(station)
    task.max_tries = 1
    task.parameters["tags"] = ["next"]
    if changed == "command_args":
        task.parameters["command_args"] = [f"{code}  # mended"]
    elif changed == "env":
        task.parameters["env"] = {"EPOCHS": "2"}
    elif changed == "token":
        monkeypatch.setenv("AIRFLOW_VAR_TOKEN", "another-secret")
    else:
        station.client.remove_container(first[0], v=True)
    task.run()
    assert names(station) == (
        [] if changed == "removed" else first
    )  # that of the run before stays, and its own is gone
    station.client.remove_image("localhost/scripted:next", force=True)


def test_one_task_for_several_commands_and_templates() -> None:
    with DAG("tries", schedule=None):
        mapped = TrainCommandOperator.partial(task_id="ask", image=COUNTING).expand(
            command=["list_requirements", "print_model_summary"]
        )
        task = RunTrainOperator(
            task_id="run",
            image="{{ image }}",
            repository="{{ image }}-next",
            tags=["{{ ds_nodash }}"],
            isolation={"cpus": 2},
        )
    assert mapped.partial_kwargs["image"] == COUNTING
    task.render_template_fields({"image": "localhost/bmi", "ds_nodash": "20261130"})
    assert (task.image, task.repository, task.tags) == ("localhost/bmi", "localhost/bmi-next", ["20261130"])
    given = task._new_parameters().job
    assert given.service_options == {"isolation": {"cpus": 2}, "command": "run_algorithm"}


IDS_ALONE = b"""
import json, sys

VARIABLES = [{"type": "environmentVariable", "target": "URL", "name": name} for name in ("FHIR", "OMOP")]
RESPONSES = {
    "list_requirements": {
        "requirements": [{"id": number, "requirement": each} for number, each in enumerate(VARIABLES)],
        "relations": [{"type": sys.argv[2] if len(sys.argv) > 2 else "any", "requirements": [0, 1]}],
    },
    "check_requirements": {"unmet": [0]},
    "run_algorithm": {"state": "success", "next_train_tag": "next", "export_files": ["/train.py"]},
}
print(json.dumps(RESPONSES[sys.argv[1]]))
"""


def test_a_check_that_says_ids_alone(station: Engine) -> None:
    image = "localhost/ids:1"
    station.make_image(image, {"/train.py": IDS_ALONE}, 'ENTRYPOINT ["python", "/train.py"]')
    result = TrainTask(RunTrainOperator, image=image, base=image, push=False).run()  # OMOP is met, which is enough
    assert result["response"]["state"] == "success"
    assert names(station) == []
    needs = TrainTask(TrainCommandOperator, command="list_requirements", image=image, command_args=["all"]).run()
    task = TrainTask(TrainCommandOperator, command="check_requirements", image=image, listed=needs)
    with pytest.raises(JobFailed, match=r"The train needs FHIR \(a URL such as .*\): it is unmet"):
        task.run()
    station.client.remove_image("localhost/ids:next", force=True)


def test_a_train_that_exports_nothing(station: Engine) -> None:
    task = TrainTask(
        RunTrainOperator, image=SCRIPTED, command_args=["answer()"], base=SCRIPTED, tags=["next"], check=False
    )
    with pytest.raises(
        AirflowFailException, match=r"The train was run, and has no successor image. .* exports no files"
    ):
        task.run()
