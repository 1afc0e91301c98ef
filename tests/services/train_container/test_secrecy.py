# SPDX-License-Identifier: Apache-2.0
"""No secret of a station is in what stays on its engine, or in an error, whatever the train says, on real engines."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import NoSavedModel
from airflow_provider_jobapi.services.train_container import housekeeping
from airflow_provider_jobapi.services.train_container.commands import Command
from airflow_provider_jobapi.services.train_container.plan import Plan
from airflow_provider_jobapi.services.train_container.responses import ResponseProblem
from airflow_provider_jobapi.services.train_container.successor import Wanted
from airflow_provider_jobapi.services.train_container.validation import validate
from tests.harness.waiting import wait_for
from tests.services.train_container.station import Station, scripted

SECRET = "s3cret-of-the-station"
SAYS = "answer(message='it is ' + os.environ['TOKEN'] + ' and ' + os.environ['OWN'] + os.environ['BIT'])"


@pytest.fixture
def telling(station: Station) -> Station:
    """A station with a secret, whose value has changed since."""
    station.environment = {"TOKEN": SECRET, "BIT": "1"}
    return station


def volumes_of(station: Station) -> str:
    return json.dumps(station.engine.client.volumes())


def test_what_a_hook_removes_is_remembered_without_secrets(telling: Station) -> None:
    """``TrainContainerHook.delete`` knows nothing of the task, nor of what the variables were."""
    service, handle, status = telling.ended(scripted(SAYS, environment={"OWN": "of the DAG"}))
    assert SECRET in status.message  # which tasks hide, and the trigger
    telling.environment = {"TOKEN": "another"}
    service.delete(handle)
    assert service.status(handle).message == "it is *** and ***1"
    assert SECRET not in volumes_of(telling)


def test_what_a_sweep_removes_is_remembered_without_secrets(telling: Station) -> None:
    name = f"sweeps {telling.job_id()}"
    service, handle, _ = telling.ended(scripted(SAYS, environment={"OWN": "of the DAG"}), station=name)
    telling.environment = {}
    remove = service.retention.remove
    wait_for("the end is past", lambda: housekeeping.sweep(service.engine, name, 1e-9, remove, service._log) == 1)
    assert service.status(handle).message == "it is *** and ***1"
    assert SECRET not in volumes_of(telling)


@pytest.mark.parametrize("what", ["model", "successor"])
def test_an_error_about_a_train_that_failed_has_no_secret(telling: Station, tmp_path: Path, what: str) -> None:
    code = "answer(state='failure', message='it is ' + os.environ['TOKEN'])"
    service, handle, _ = telling.ended(scripted(code))
    asked: Any = {
        "model": lambda: service.fetch_model(handle, tmp_path),
        "successor": lambda: service.successor(handle, Wanted()),
    }
    with pytest.raises(NoSavedModel, match=r"it is \*\*\*") as caught:
        asked[what]()
    assert SECRET not in str(caught.value)


def test_a_path_that_a_commit_finds_and_that_has_a_secret_makes_no_successor(telling: Station) -> None:
    """It is in no response: the train has only written it."""
    code = "open('/opt/' + os.environ['TOKEN'], 'w').write('w'); answer(next_train_tag='n')"
    loose = {"read_only_root": False, "writable": [], "user": "0"}
    service, handle, _ = telling.ended(scripted(code, isolation=loose))
    with pytest.raises(ResponseProblem, match="secret of the station in the path of a file") as caught:
        service.successor(handle, Wanted(mode="commit"))
    assert SECRET not in str(caught.value)
    assert not telling.engine.client.images("localhost/scripted:n")


def test_the_check_of_an_image_shows_no_secret(telling: Station) -> None:
    code = "print(json.dumps({'unmet': ['GENOMES'], 'message': 'it is ' + os.environ['TOKEN']}))"
    plan = Plan(image="localhost/scripted:1", command=Command.CHECK_REQUIREMENTS, arguments=(code,))
    (found,) = validate(telling.service(), plan, [Command.CHECK_REQUIREMENTS], timedelta(minutes=5))
    assert "it is ***" in found.message
    assert found.ok
