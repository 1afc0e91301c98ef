# SPDX-License-Identifier: Apache-2.0
"""The train that the documentation builds keeps the Train API, in real containers of both engines."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_jobapi.services.train_container.commands import RULES, Command, environment_for, read_spelling
from airflow_provider_jobapi.services.train_container.isolation import NOBODY, read_isolation
from airflow_provider_jobapi.services.train_container.judge import Verdict, judge
from airflow_provider_jobapi.services.train_container.responses import StdoutTail
from airflow_provider_jobapi.services.train_container.vocabulary import Requirements, RunResult, Summary
from tests.harness.containers.engine import BASE, Engine

EXAMPLE = Path(__file__).parents[3] / "docs" / "train_container" / "example"
STATION = {"PATIENTS_URL": "file:///data/patients.csv"}


@pytest.fixture(scope="module")
def image(engine: Engine) -> str:
    name = "localhost/bmi:base"
    lines = (EXAMPLE / "Containerfile").read_text()
    first, _, rest = lines.partition("\n")
    assert first.startswith("FROM docker.io/library/python:")
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for path in ("train.py", "model", "model/bmi.json"):
            tar.add(EXAMPLE / path, path, recursive=False)
        content = f"FROM {BASE}\n{rest}".encode()
        entry = tarfile.TarInfo("Containerfile")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    context.seek(0)
    built = list(
        engine.client.build(
            fileobj=context, custom_context=True, dockerfile="Containerfile", tag=name, rm=True, decode=True
        )
    )
    assert not [each for each in built if "error" in each], built
    assert engine.client.inspect_image(name)["Config"]["User"] == NOBODY
    return name


def run(
    engine: Engine, image: str, command: Command, environment: Mapping[str, str], data: Path
) -> tuple[Verdict, bytes | None]:
    """How a command ends, and the file that it exports."""
    mount = {"Type": "bind", "Source": str(data), "Target": "/data", "ReadOnly": True}
    kept = RULES[command].kept
    isolated = read_isolation().configuration(keeps_files=kept, mounts=[mount] if kept else [], image_user=NOBODY)
    words = read_spelling().arguments(command)
    variables = [f"{name}={value}" for name, value in environment_for(command, environment).items()]
    client = engine.client
    made = client.create_container_from_config({"Image": image, "Cmd": words, "Env": variables, **isolated})["Id"]
    try:
        client.start(made)
        code = client.wait(made)["StatusCode"]
        verdict = judge(command, code, StdoutTail(client.logs(made, stdout=True, stderr=False, stream=True)))
        return verdict, _exported(client, made) if kept and verdict.ok else None
    finally:
        client.remove_container(made, v=True, force=True)


def _exported(client: Any, container: str) -> bytes:
    stream, _ = client.get_archive(container, "/opt/pht_train/model/bmi.json")
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        content = tar.extractfile("bmi.json")
        assert content is not None
        return content.read()


def test_the_four_commands(engine: Engine, image: str, tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text("height,weight\n2,80\n1,30\n")
    tmp_path.chmod(0o755)
    listed, _ = run(engine, image, Command.LIST_REQUIREMENTS, STATION, tmp_path)
    assert isinstance(listed.answer, Requirements)
    assert [each.name for each in listed.answer.by_id().values()] == ["PATIENTS_URL"]
    assert run(engine, image, Command.CHECK_REQUIREMENTS, STATION, tmp_path)[0].ok
    unmet, _ = run(engine, image, Command.CHECK_REQUIREMENTS, {}, tmp_path)
    assert unmet.reason == "RequirementsUnmet"
    assert "PATIENTS_URL" in unmet.message
    summary, _ = run(engine, image, Command.PRINT_MODEL_SUMMARY, STATION, tmp_path)
    assert summary.answer == Summary(content={"patients": 0, "stations": 0, "mean_bmi": None})
    ran, exported = run(engine, image, Command.RUN_ALGORITHM, STATION, tmp_path)
    assert ran.ok, ran.message
    assert isinstance(ran.answer, RunResult)
    assert (ran.message, ran.answer.next_train_tag) == ("2 patients so far.", ("station.1",))
    assert json.loads(exported or b"") == {"patients": 2, "stations": 1, "sum": 50.0}
    failed, _ = run(engine, image, Command.RUN_ALGORITHM, {}, tmp_path)
    assert failed.reason == "NonZeroExit"
    assert failed.message == "run_algorithm ended with the exit code 1. It printed no response."
