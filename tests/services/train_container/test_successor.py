# SPDX-License-Identifier: Apache-2.0
"""Successor images on real engines, pushed to a real registry."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import ConnectionProblem, NoSavedModel, ServiceUnavailable, TrainingError
from airflow_provider_jobapi.services.train_container import names
from airflow_provider_jobapi.services.train_container.commands import Command
from airflow_provider_jobapi.services.train_container.plan import Plan
from airflow_provider_jobapi.services.train_container.responses import ResponseProblem
from airflow_provider_jobapi.services.train_container.successor import Wanted
from tests.harness.containers.registry import Registry
from tests.services.train_container.station import Station, scripted

LOOSE = {"read_only_root": False, "writable": [], "user": "0"}


def config_of(station: Station, image: str) -> dict[str, Any]:
    return dict(station.engine.client.inspect_image(image)["Config"])


def test_a_train_travels_over_two_stations(station: Station, registry: Registry, tmp_path: Path) -> None:
    """The successor of the first station's run is pulled and run at the second one."""
    (tmp_path / "rows.csv").write_text("a\nb\n")
    repository = f"{registry.address}/{station.engine.name}/counting"
    image = "localhost/counting:1"
    for count in (1, 2):
        station.environment = {"PATIENTS_URL": f"http://station{count}.example.com", "TOKEN": "geheim"}
        service, handle, status = station.ended(
            Plan(image=image, command=Command.RUN_ALGORITHM, data={"rows.csv": tmp_path / "rows.csv"})
        )
        made = service.successor(handle, Wanted(repository=repository, push=True))
        assert (made.mode, made.tags, made.parent) == ("rebase", (f"station.{count}",), image), status
        assert made.files == ("/opt/pht_train/model/count.json",)
        assert made.digest == registry.digest(f"{station.engine.name}/counting", f"station.{count}")
        labels = registry.labels(f"{station.engine.name}/counting", f"station.{count}")
        assert labels[names.PARENT] == image
        assert labels[names.PARENT_DIGEST].startswith("sha256:")
        assert labels[names.STATION] == "Leipzig"
        assert labels["airflow.run_id"] == "r1"
        assert labels[names.JOB_ID] == handle["job_id"]
        config = config_of(station, made.image)
        assert config["Entrypoint"] == ["python", "-u", "/train.py"]
        assert "geheim" not in json.dumps(station.engine.client.inspect_image(made.image))
        image = made.image
        if count == 1:
            station.engine.client.remove_image(image, force=True)
    _, handle, _ = station.ended(Plan(image=image, command=Command.PRINT_MODEL_SUMMARY))
    answer: Any = station.service().verdict(handle).answer
    assert answer.content == "4 rows of 2 stations"
    station.engine.client.remove_image(image, force=True)


def test_a_commit_keeps_all_that_was_changed_but_data_and_environment(station: Station) -> None:
    station.environment = {"TOKEN": "geheim"}
    code = (
        "pathlib.Path('/opt/new').mkdir(); pathlib.Path('/opt/new/a').write_text('A')\n"
        "os.symlink('/etc/passwd', '/opt/link'); os.remove('/etc/group')\n"
        "answer(next_train_tag='2', export_files=[])"
    )
    plan = scripted(code, isolation=LOOSE, data={"rows.csv": "patients"})
    service, handle, status = station.ended(plan)
    made = service.successor(handle, Wanted(mode="commit"))
    assert made.image == "localhost/scripted:2", status.describe()
    assert "/opt/new/a" in made.files
    assert not [path for path in made.files if path.startswith("/data")]
    assert any("/etc/group was deleted" in note for note in made.notes)
    assert any("/opt/link" in note for note in made.notes)
    described = json.dumps(station.engine.client.inspect_image(made.image))
    assert "geheim" not in described
    assert "exec" not in " ".join(config_of(station, made.image).get("Cmd") or [])
    look = "answer(message=pathlib.Path('/opt/new/a').read_text() + str(pathlib.Path('/data').exists()))"
    _, _, status = station.ended(scripted(look, image=made.image))
    assert status.message.startswith("A"), status.describe()
    station.engine.client.remove_image(made.image, force=True)


def test_a_commit_keeps_export_files_of_volumes_and_needs_something_to_keep(station: Station) -> None:
    code = (
        "pathlib.Path('/opt/pht_train/model/a').write_text('A')\n"
        "answer(next_train_tag='4', export_files=['/opt/pht_train/model/a'])"
    )
    service, handle, _ = station.ended(scripted(code))
    made = service.successor(handle, Wanted(mode="commit"))
    assert made.files == ("/opt/pht_train/model/a",)
    station.engine.client.remove_image(made.image, force=True)
    service, handle, _ = station.ended(scripted("answer(next_train_tag='4')"))
    with pytest.raises(ResponseProblem, match="nothing to commit"):
        service.successor(handle, Wanted())


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "os.symlink('/etc/passwd', MODEL + '/a')",
            "it is a link|there is no such file",
        ),  # Podman looks inside of the volume only
        ("os.mkdir(MODEL + '/a')", "it is a folder"),
        ("os.mkfifo(MODEL + '/a')", "it is a pipe"),
        ("pass", "there is no such file"),
        ("open(MODEL + '/a', 'wb').truncate(2**20)", "are allowed"),
        ("os.symlink('/etc', MODEL + '/d'); path = MODEL + '/d/passwd'", "the folders above|there is no such file"),
        ("open('/tmp/a', 'w').write('x'); path = '/tmp/a'", "tmpfs, is gone"),
    ],
)
def test_files_that_may_not_be_exported(station: Station, code: str, words: str) -> None:
    script = (
        f"MODEL = '/opt/pht_train/model'; path = MODEL + '/a'\n{code}\n"
        "answer(next_train_tag='2', rebase={'type': 'docker', 'from': 'localhost/base:1'}, export_files=[path])"
    )
    service, handle, _ = station.ended(scripted(script))
    with pytest.raises(ResponseProblem, match=words):
        service.successor(handle, Wanted(largest=2**19))


def test_the_bound_of_the_connection_is_checked_before_anything_is_copied(station: Station, tmp_path: Path) -> None:
    """Also of a file with a hole, which takes no room in the container and all of its size where it is copied."""
    code = (
        "path = '/opt/pht_train/model/w'; os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 2**41)\n"
        "answer(next_train_tag='n', export_files=[path])"
    )
    service, handle, _ = station.ended(scripted(code), largest_export="1m")
    words = r"2\.2 TB, and 1\.0 MB are allowed \(largest_export of the connection\)"
    with pytest.raises(ResponseProblem, match=words):
        service.successor(handle, Wanted(base="localhost/base:1"))
    with pytest.raises(ResponseProblem, match=words):
        service.fetch_model(handle, tmp_path, "1")
    service = station.service(largest_export="4t")
    with pytest.raises(TrainingError, match=r"temporary folder .* free: make room there, or set TMPDIR"):
        service.successor(handle, Wanted(base="localhost/base:1"))
    assert not list(tmp_path.iterdir())


def test_no_successor_of_a_run_that_failed_or_names_too_little(station: Station) -> None:
    service, handle, _ = station.ended(scripted("answer(state='failure')"))
    with pytest.raises(NoSavedModel, match="no successor image"):
        service.successor(handle, Wanted())
    service, handle, _ = station.ended(scripted())
    for wanted, words in (
        (Wanted(), "names no next tag"),
        (Wanted(tags=["2"], mode="rebase"), "names no image to rebase onto"),
        (Wanted(tags=["2"], base="localhost/base:1"), "exports no files"),
        (Wanted(tags=["A_B"]), "next tag cannot be 'A_B'"),
    ):
        with pytest.raises(ResponseProblem, match=words):
            service.successor(handle, wanted)


def test_a_registry_that_refuses(station: Station, registry: Registry) -> None:
    service, handle, _ = station.ended(scripted("answer(next_train_tag='3')", isolation=LOOSE))
    service._images = replace(service._images, auth=lambda _: None)
    wanted = Wanted(mode="commit", repository=f"{registry.address}/{station.engine.name}/refused", push=True)
    with pytest.raises(ConnectionProblem, match=rf"^The registry {registry.address} refuses that "):
        service.successor(handle, wanted)
    with pytest.raises(ServiceUnavailable, match=r"^The registry 127.0.0.1:9 cannot be reached, so "):
        service.successor(handle, Wanted(mode="commit", repository="127.0.0.1:9/refused", push=True))
    leftover = [each for each in station.engine.containers() if "-successor" in str(each["Names"])]
    assert not leftover
    for name in (f"{registry.address}/{station.engine.name}/refused:3", "127.0.0.1:9/refused:3"):
        station.engine.client.remove_image(name)


def test_a_base_is_not_pulled_from_a_registry_that_only_the_train_names(station: Station) -> None:
    """Else a train without a network could send what it has seen, as the name of an image."""
    code = (
        "open(path := '/opt/pht_train/model/w', 'w').write('w')\n"
        "base = {'type': 'docker', 'from': '127.0.0.1:9/what-it-has-seen:1'}\n"
        "answer(next_train_tag='n.1', export_files=[path], rebase=base)"
    )
    service, handle, _ = station.ended(scripted(code))
    with pytest.raises(ResponseProblem, match=r"^The engine does not have the base 127.0.0.1:9/what-it-has-seen:1 "):
        service.successor(handle, Wanted())
    with pytest.raises(ServiceUnavailable, match=r"127\.0\.0\.1:9 cannot be reached"):
        service.successor(handle, Wanted(base="127.0.0.1:9/what-it-has-seen:1"))
    client = station.engine.client
    client.tag("localhost/base:1", "127.0.0.1:9/what-it-has-seen", "1")
    made = service.successor(handle, Wanted())
    assert made.mode == "rebase"
    for name in ("127.0.0.1:9/what-it-has-seen:1", made.image):
        client.remove_image(name)


def test_a_successor_does_not_replace_its_train_or_base(station: Station) -> None:
    code = (
        "open(path := '/opt/pht_train/model/w', 'w').write('w')\n"
        "answer(next_train_tag='1', export_files=[path], rebase={'type': 'docker', 'from': 'localhost/base:1'})"
    )
    before = station.engine.client.inspect_image("localhost/scripted:1")["Id"]
    service, handle, _ = station.ended(scripted(code))
    for repository in (None, "localhost/base"):
        with pytest.raises(ResponseProblem, match="next tag '1' is that of the train or of its base"):
            service.successor(handle, Wanted(repository=repository))
    assert station.engine.client.inspect_image("localhost/scripted:1")["Id"] == before
    made = service.successor(handle, Wanted(repository="localhost/other"))
    assert made.image == "localhost/other:1"
    station.engine.client.remove_image(made.image)


def test_any_name_of_an_export_file(station: Station, tmp_path: Path) -> None:
    """What Podman says of a path is in the base64 of URLs."""
    code = (
        "paths = ['/opt/pht_train/model/' + each for each in ('w\u00e9 \u00fc%2f?x#y', '~~~', '???', '>>>>')]\n"
        "for path in paths: open(path, 'w').write(path)\n"
        "answer(export_files=paths)"
    )
    service, handle, status = station.ended(scripted(code))
    service.fetch_model(handle, tmp_path, "1")
    assert len(list((tmp_path / "1").iterdir())) == 4, status.describe()
