# SPDX-License-Identifier: Apache-2.0
"""Models of every kind, fetched by the operators from the real server."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_jobapi._airflow import AirflowFailException
from airflow_provider_jobapi.exceptions import ServiceUnavailable
from airflow_provider_jobapi.operators.model import FetchModelOperator, FetchSavedModelOperator
from airflow_provider_jobapi.operators.result import facts_of
from tests.harness.server import Server
from tests.harness.tries import Task

TORCH = b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x0f\0\x12\0archive/data.pklFB\x0e\0"
SAFETENSORS = b'8\0\0\0\0\0\0\0{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'


class Bomb:
    """Creates a folder where it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self):
        return Path.mkdir, (self.place,)


MODELS = {
    "torch": {"net.pt": TORCH},
    "onnx": {"net.onnx": b"\x08\x0e:7", "labels/words.txt": b"a\nb"},
    "pickle": {"model.joblib": b"in its place"},
    "safetensors": {"config.json": b"{}", "model.safetensors": SAFETENSORS, ".gitattributes": b"x"},
    "mlflow": {"MLmodel": b"flavors:", "model.pkl": b"in its place", "conda.yaml": b""},
    "saved_model": {"saved_model.pb": b"graph", "variables/variables.index": b"index"},
}
UNSAFE = {"torch", "pickle", "mlflow"}


def writing(files: dict[str, bytes]) -> str:
    return (
        "import os, pathlib\n"
        f"for path, content in {files!r}.items():\n"
        "    file = pathlib.Path(os.environ['MODEL_DIR'], path)\n"
        "    file.parent.mkdir(parents=True, exist_ok=True)\n"
        "    file.write_bytes(content)\n"
    )


@pytest.fixture(scope="module")
def bomb(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("bomb") / "went off"


@pytest.fixture(scope="module")
def models(bomb: Path) -> dict[str, dict[str, bytes]]:
    content = pickle.dumps(Bomb(bomb))
    return {
        kind: {path: content if each == b"in its place" else each for path, each in files.items()}
        for kind, files in MODELS.items()
    }


@pytest.fixture(scope="module")
def trained(jobapi_server: Server, models: dict[str, dict[str, bytes]]) -> dict[str, str]:
    """The jobs that left them, by kind."""
    jobs = {kind: jobapi_server.submit(writing(files)) for kind, files in models.items()}
    for job_id in jobs.values():
        jobapi_server.wait_for(job_id)
    return jobs


def fetch(operator: type[FetchModelOperator], job: Any, place: Path, **parameters: Any) -> tuple[str, dict[str, Any]]:
    xcoms: dict[str, Any] = {}
    ti = SimpleNamespace(xcom_push=lambda key, value: xcoms.update({key: value}))
    task = operator(task_id="fetch", job=job, destination=place.as_uri(), version="7", **parameters)
    return task.execute({"ti": ti}), xcoms


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_of_any_kind_comes_back_whole(connected, trained, models, bomb, tmp_path, kind):
    location, xcoms = fetch(FetchModelOperator, {"job_id": trained[kind], "metrics": {}}, tmp_path)
    assert location == (tmp_path / "7").as_uri()
    assert content(tmp_path / "7") == models[kind]
    told = xcoms["training_result"]
    assert len(told.pop("model_sha256")) == 64
    assert told == {
        "job_id": trained[kind],
        "model": location,
        "model_kind": kind,
        "model_unsafe": kind in UNSAFE,
    }
    again, _ = fetch(FetchModelOperator, trained[kind], tmp_path, kind=kind)
    assert (again, content(tmp_path / "7")) == (location, models[kind])
    assert not bomb.exists()


def test_a_pickle_is_warned_of(connected, trained, tmp_path, capfd):
    for kind, number in (("pickle", 1), ("onnx", 0)):
        fetch(FetchModelOperator, trained[kind], tmp_path / kind)
        said = "".join(capfd.readouterr())
        assert said.count(f"Loading a model of the kind {kind} can run code that is in its files") == number


def test_another_kind_than_the_one_asked_for_is_refused(connected, trained, tmp_path):
    words = "left no model of the kind 'torch'; its model is of the kind 'onnx'"
    with pytest.raises(AirflowFailException, match=words):
        fetch(FetchModelOperator, trained["onnx"], tmp_path, kind="torch")
    with pytest.raises(
        AirflowFailException, match="no model of the kind 'saved_model'; its model is of the kind 'onnx'"
    ):
        fetch(FetchSavedModelOperator, trained["onnx"], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_saved_model_beside_other_files(connected, jobapi_server, tmp_path):
    files = {"tf/1/saved_model.pb": b"graph", "words.txt": b"a"}
    job_id = jobapi_server.submit(writing(files))
    jobapi_server.wait_for(job_id)
    for operator, folder in ((FetchSavedModelOperator, "strict"), (FetchModelOperator, "any")):
        fetch(operator, job_id, tmp_path / folder)
        assert content(tmp_path / folder / "7") == {"saved_model.pb": b"graph"}
    fetch(FetchModelOperator, job_id, tmp_path / "all", kind="files")
    assert content(tmp_path / "all" / "7") == files


def test_a_job_without_a_model_says_what_it_left(connected, jobapi_server, tmp_path):
    job_id = jobapi_server.submit("open('weights.bin', 'w').write('12345')")
    jobapi_server.wait_for(job_id)
    for operator in (FetchModelOperator, FetchSavedModelOperator):
        with pytest.raises(AirflowFailException, match=r"wrote no model: .*MODEL_DIR.* working directory has 1 file"):
            fetch(operator, job_id, tmp_path)


@pytest.mark.parametrize("destination", [True, False])
def test_a_training_tells_the_kind(connected, tmp_path, destination):
    place = tmp_path.as_uri() if destination else None
    train = Task(script=writing({"net.onnx": b"\x08\x0e:7"}), destination=place, version="7", deferrable=False)
    result = train.run()
    assert (result["model_kind"], result["model_unsafe"]) == ("onnx", False)
    if destination:
        assert (result["model"], len(result["model_sha256"])) == ((tmp_path / "7").as_uri(), 64)
        assert content(tmp_path / "7") == {"net.onnx": b"\x08\x0e:7"}
    else:
        assert (result["model"], "model_sha256" in result) == (None, False)


def test_a_training_that_left_no_model_tells_so(connected):
    result = Task(script="print('trained')", deferrable=False).run()
    assert (result["model"], result["model_kind"], result["model_unsafe"]) == (None, None, False)


@pytest.mark.parametrize("error", [ServiceUnavailable("It is away."), NotImplementedError("model")])
def test_a_service_that_does_not_say_fails_no_training(error, caplog):
    def model(_):
        raise error

    log = logging.getLogger("task")
    with caplog.at_level(logging.WARNING):
        assert facts_of(SimpleNamespace(model=model), {}, None, log) == {}
    assert "The job was successful; which model it left cannot be read: " in caplog.text
