# SPDX-License-Identifier: Apache-2.0
"""The watcher of a folder, run as a triggerer runs it, on real files and a real bucket."""

from __future__ import annotations

import asyncio
import json
import os
from urllib.parse import quote

import obstore
import pytest
from asgiref.sync import async_to_sync

from airflow_provider_jobapi.new_data import folders
from airflow_provider_jobapi.new_data.trigger import STATE_KEY, NewDataTrigger
from airflow_provider_jobapi.services.files.stores import S3Access, obstore_of
from tests.harness.moto_s3 import moto_s3
from tests.harness.s3 import BUCKET, KEY, SECRET, s3
from tests.harness.scripted import Recorder
from tests.harness.virtual_time import run

try:
    from airflow.sdk.serde import deserialize, serialize
except ImportError:  # before 3.2
    from airflow.serialization.serde import deserialize, serialize

__all__ = ["moto_s3", "s3"]


class Store:
    """As Airflow's accessor of an asset's state store: JSON goes in and out."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    async def aget(self, key):
        return json.loads(self.kept[key]) if key in self.kept else None

    async def aset(self, key, value):
        self.kept[key] = json.dumps(value)


def trigger(path, store: Store | None = None, **options) -> NewDataTrigger:
    made = NewDataTrigger(str(path), **{"settle": 0.1, "poll_interval": 0.05, "pattern": "*.csv"} | options)
    made.event_stored_after = 0.01
    made.asset_state_store = store
    made._log = Recorder()
    return made


def said(made: NewDataTrigger) -> list[str]:
    return [str(record["event"]) for record in made._log.records]


class Watch:
    """A trigger that runs, as in a triggerer: to wait for an event in vain does not end it."""

    def __init__(self, made: NewDataTrigger) -> None:
        self._events = made.run()
        self._next: asyncio.Future | None = None

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_) -> None:
        if self._next is not None:
            self._next.cancel()
            await asyncio.wait({self._next})
        await self._events.aclose()

    async def wait(self, seconds: float) -> dict | None:
        self._next = self._next or asyncio.ensure_future(anext(self._events))
        done, _ = await asyncio.wait({self._next}, timeout=seconds)
        if not done:
            return None
        (event,), self._next = done, None
        return event.result().payload


async def next_event(events: Watch) -> dict:
    payload = await events.wait(20)
    assert payload is not None, "no event"
    return payload


async def nothing(events: Watch, seconds: float = 0.7) -> None:
    assert await events.wait(seconds) is None


def test_it_can_be_made_again_from_what_airflow_stores():
    made = NewDataTrigger("s3://aws@data/rows", "**/*.csv", 5, 7)
    path, kwargs = made.serialize()
    assert path == "airflow_provider_jobapi.triggers.new_data.NewDataTrigger"
    assert NewDataTrigger(**deserialize(serialize(kwargs))).serialize() == made.serialize()
    assert NewDataTrigger.hash(*made.serialize()) == NewDataTrigger.hash(path, dict(kwargs))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"path": "rows"}, "path cannot be 'rows': it must be an absolute path"),
        ({"path": "file://host/rows"}, "path cannot be"),
        ({"path": "gs://bucket/rows"}, "path cannot be"),
        ({"path": "s3:///rows"}, "path cannot be"),
        ({"path": ""}, "path cannot be"),
        ({"pattern": ""}, "pattern cannot be"),
        ({"pattern": "/x"}, "pattern cannot be"),
        ({"settle": -1}, "settle=-1 and"),
        ({"poll_interval": 0}, "poll_interval=0 must be seconds"),
        ({"poll_interval": float("nan")}, "poll_interval=nan must be seconds"),
    ],
)
def test_what_cannot_be_watched_is_said_when_the_dag_is_parsed(wrong, said):
    with pytest.raises(ValueError, match=said):
        NewDataTrigger(**{"path": "/rows", **wrong})


def test_a_half_written_file_waits_and_each_batch_is_one_event(tmp_path):
    async def watch() -> None:
        (tmp_path / "a.csv").write_text("1\n")
        (tmp_path / "notes.txt").write_text("no rows")
        (tmp_path / ".b.csv").write_text("hidden")
        async with Watch(trigger(tmp_path, settle=1.5)) as events:
            first = await next_event(events)
            assert (first["path"], first["count"], first["names"], first["files"]) == (str(tmp_path), 1, ["a.csv"], 1)
            with (tmp_path / "b.csv").open("w") as file:
                for _ in range(10):
                    file.write("row\n")
                    file.flush()
                    await nothing(events, 0.25)
                (tmp_path / "c.csv").write_text("2\n")
            second = await next_event(events)
            assert (second["count"], sorted(second["names"]), second["bytes"]) == (2, ["b.csv", "c.csv"], 42)
            assert second["listing_version"] != first["listing_version"]

    asyncio.run(watch())


def test_another_triggerer_tells_nothing_twice_and_misses_nothing(tmp_path):
    async def watch() -> None:
        store = Store()
        (tmp_path / "a.csv").write_text("1\n")
        async with Watch(trigger(tmp_path, store)) as events:
            await next_event(events)
            await nothing(events)
        (tmp_path / "b.csv").write_text("1\n")
        os.utime(tmp_path / "b.csv", (1, 1))
        async with Watch(trigger(tmp_path, store)) as events:
            assert (await next_event(events))["names"] == ["b.csv"]
            await nothing(events)
        async with Watch(trigger(tmp_path, store)) as events:
            await nothing(events)
        async with Watch(trigger(tmp_path, None)) as events:
            assert (await next_event(events))["count"] == 2

    asyncio.run(watch())


def test_one_that_dies_before_the_event_is_safe_tells_it_again(tmp_path):
    async def watch() -> None:
        store = Store()
        (tmp_path / "a.csv").write_text("1\n")
        async with Watch(trigger(tmp_path, store)) as events:
            await next_event(events)
        assert store.kept == {}
        async with Watch(trigger(tmp_path, store)) as events:
            assert (await next_event(events))["names"] == ["a.csv"]

    asyncio.run(watch())


def test_a_folder_that_cannot_be_read_is_waited_for_and_told_of_once(tmp_path):
    rows = tmp_path / "rows"
    made = trigger(rows)

    async def watch() -> None:
        async with Watch(made) as events:
            await nothing(events)
            rows.mkdir()
            (rows / "a.csv").write_text("1\n")
            assert (await next_event(events))["count"] == 1

    asyncio.run(watch())
    told = said(made)
    assert told[0] == (
        f"New data cannot be watched in {rows}: The folder {rows} cannot be read: No such file or directory. It is "
        "tried again."
    )
    assert told[1] == f"New data is watched in {rows} again."
    assert told[2].startswith("1 new files in")
    assert len(told) == 3


def test_folders_within_and_thousands_of_files(tmp_path):
    async def watch() -> None:
        for number in range(3_000):
            folder = tmp_path / "days" / f"{number % 30}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number}.csv").touch()
        (tmp_path / ".tmp").mkdir()
        (tmp_path / ".tmp" / "x.csv").touch()
        (tmp_path / "days" / "loop").symlink_to(tmp_path)
        store = Store()
        async with Watch(trigger(tmp_path.as_uri(), store, pattern="**/*.csv")) as events:
            told = await next_event(events)
            assert (told["count"], told["files"], len(told["names"])) == (3_000, 3_000, 5)
            await nothing(events)
        assert len(store.kept[STATE_KEY]) < 50_000
        async with Watch(trigger(tmp_path, pattern="*.csv")) as events:
            await nothing(events)

    asyncio.run(watch())


class Shared:
    """As Airflow's accessor, when a watcher belongs to two assets."""

    async def aget(self, _):
        raise ValueError("Task has 2 concrete inlets and outlets")


class Weak(Store):
    """A state store whose API does not answer at first."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def aget(self, key):
        self.asked += 1
        if self.asked < 3:
            raise RuntimeError("502")
        return await super().aget(key)

    async def aset(self, _, __):
        raise RuntimeError("502")


@pytest.mark.parametrize(("store", "words"), [(Shared(), "Several assets share one"), (Weak(), "cannot be kept")])
def test_trouble_with_the_store_is_told_and_loses_nothing(tmp_path, store, words):
    made = trigger(tmp_path, store)

    async def watch() -> None:
        async with Watch(made) as events:
            for name in ("a.csv", "b.csv"):
                (tmp_path / name).write_text("1\n")
                assert (await next_event(events))["names"] == [name]

    asyncio.run(watch())
    assert any(words in text for text in said(made))


def test_a_bucket_through_a_connection(s3, monkeypatch):
    extra = {"endpoint_url": s3.url, "region_name": "us-east-1"}
    aws = {"conn_type": "aws", "login": KEY, "password": SECRET, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_ROWS_BUCKET", json.dumps(aws))

    bucket = obstore_of(S3Access(s3.url, BUCKET, KEY, SECRET))

    def put(name: str, content: str) -> None:
        obstore.put(bucket, f"watched/{name}", content.encode())

    async def watch() -> None:
        store = Store()
        place = f"s3://rows_bucket@{BUCKET}/watched/"
        put("a.csv", "1\n")
        put("deep/b.csv", "1\n")
        put("c.txt", "1\n")
        async with Watch(trigger(place, store)) as events:
            assert (await next_event(events))["names"] == ["a.csv"]
            await nothing(events, 2)
            put("d.csv", "22\n")
            told = await next_event(events)
            assert (told["names"], told["bytes"], told["files"]) == (["d.csv"], 3, 2)
            await nothing(events, 1)
        async with Watch(trigger(place, store, pattern="**/*.csv")) as events:
            assert (await next_event(events))["count"] == 3

    asyncio.run(watch())


def test_a_connection_is_read_over_the_triggerers_own_loop(monkeypatch):
    """Airflow masks its secrets meanwhile; over another loop that kills the triggerer of Airflow 3.1."""
    monkeypatch.setenv("AIRFLOW_CONN_ROWS_BUCKET", json.dumps({"conn_type": "aws"}))
    loops = []
    read = folders.s3_access

    async def note() -> None:
        loops.append(asyncio.get_running_loop())

    def noting(*given):
        async_to_sync(note)()
        return read(*given)

    monkeypatch.setattr(folders, "s3_access", noting)

    async def open_folder() -> None:
        await trigger(f"s3://rows_bucket@{BUCKET}/watched")._folder()
        assert loops == [asyncio.get_running_loop()]

    asyncio.run(open_folder())


@pytest.mark.parametrize("extra", [{}, {"endpoint_url": "http://127.0.0.1:9"}])
def test_a_bucket_that_cannot_be_listed_is_waited_for(s3, monkeypatch, extra):
    aws = {"conn_type": "aws", "login": KEY, "password": "wrong", "extra": {"endpoint_url": s3.url} | extra}
    monkeypatch.setenv("AIRFLOW_CONN_ROWS_BUCKET", json.dumps(aws))
    made = trigger(f"s3://rows_bucket@{BUCKET}/watched")

    async def watch() -> None:
        for _ in range(2):
            assert await made._look() is None

    asyncio.run(watch())
    (told,) = said(made)
    assert told.endswith("It is tried again.")
    assert "wrong" not in told


def test_a_connection_that_is_not_there_is_waited_for():
    made = trigger(f"s3://no_such_connection@{BUCKET}/rows")

    async def watch() -> None:
        async with Watch(made) as events:
            await nothing(events)

    asyncio.run(watch())
    (told,) = said(made)
    assert "no_such_connection" in told


@pytest.mark.parametrize("name", ["[br]", "what?", "a*b", "a#b"])
def test_no_letter_of_the_path_is_a_pattern(tmp_path, moto_s3, monkeypatch, name):
    aws = {"conn_type": "aws", "login": KEY, "password": SECRET, "extra": {"endpoint_url": moto_s3.url}}
    monkeypatch.setenv("AIRFLOW_CONN_ROWS_BUCKET", json.dumps(aws))
    folder = tmp_path / name
    folder.mkdir()
    (folder / "new.csv").write_text("1")
    for other in ("what", "a", "aXb", "b"):
        (tmp_path / other).mkdir()
        (tmp_path / other / "not-asked-for.csv").write_text("1")
        moto_s3.put(f"rows/{other}/not-asked-for.csv", b"1")
    moto_s3.put(f"rows/{quote(name)}/new.csv", b"1")
    moto_s3.put(f"rows/{quote(name)}/a-folder.csv/")  # as a console makes a folder

    @async_to_sync
    async def listed(path: str) -> list[str]:
        return [file.name for file in (await trigger(path)._folder()).list_files()]

    for path in (str(folder), f"file://{tmp_path}/{name}", f"s3://rows_bucket@{BUCKET}/rows/{name}"):
        assert listed(path) == ["new.csv"]


class _Times:
    """The times on the loop's clock at which something is asked for; the last one ends the watch."""

    def __init__(self, most: int) -> None:
        self.all: list[float] = []
        self._most = most

    def note(self) -> None:
        self.all.append(asyncio.get_running_loop().time())
        if len(self.all) == self._most:
            raise asyncio.CancelledError


def watched(made: NewDataTrigger) -> None:
    """Run a trigger on a virtual clock until it is cancelled."""

    async def first() -> None:
        await anext(made.run())

    with pytest.raises(asyncio.CancelledError):
        run(first())


def test_a_folder_is_listed_once_in_each_interval(tmp_path, monkeypatch):
    """A bucket's listings cost money, and those without a pause a whole core."""
    made, times = trigger(tmp_path, poll_interval=30.0), _Times(4)
    listed = made._folder

    async def folder():
        times.note()
        return await listed()

    monkeypatch.setattr(made, "_folder", folder)
    watched(made)
    assert times.all == [0, 30, 60, 90]


def test_a_state_that_cannot_be_read_is_asked_for_once_in_each_interval(tmp_path):
    times = _Times(4)

    class Broken(Store):
        async def aget(self, _key):
            times.note()
            raise OSError("it is away")

    watched(trigger(tmp_path, Broken(), poll_interval=30.0))
    assert times.all == [0, 30, 60, 90]
