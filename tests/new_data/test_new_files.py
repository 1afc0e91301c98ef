# SPDX-License-Identifier: Apache-2.0
"""Which files are new and whole: told once, never lost, over any restarts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_jobapi.new_data import new_files
from airflow_provider_jobapi.new_data.new_files import NewFiles, SeenFile, describe


def seen(name: str, size: int = 1, changed: float = 100.0, came: float | None = None) -> SeenFile:
    return SeenFile(name, size, changed, changed if came is None else came)


def names(files: list[SeenFile]) -> list[str]:
    return [file.name for file in files]


def test_a_file_is_told_when_it_stays_as_it_is():
    new = NewFiles("rows", 10)
    assert new.update([seen("a", 1)], 0) == []
    assert new.update([seen("a", 2)], 10) == []
    assert new.update([seen("a", 2)], 19) == []
    assert names(new.update([seen("a", 2)], 20)) == ["a"]
    assert new.update([seen("a", 2)], 30) == []
    assert new.update([seen("a", 2, changed=200)], 40) == []
    assert names(new.update([seen("a", 2, changed=200)], 50)) == ["a"]


def test_without_settling_one_look_is_enough():
    assert names(NewFiles("rows", 0).update([seen("b", changed=2), seen("a", changed=1)], 0)) == ["a", "b"]


def test_a_batch_is_told_at_once():
    new = NewFiles("rows", 10)
    new.update([seen("a")], 0)
    assert new.update([seen("a"), seen("b")], 10) == []
    assert new.update([seen("a"), seen("b", 2)], 20) == []
    assert names(new.update([seen("a"), seen("b", 2)], 30)) == ["a", "b"]


def test_a_file_that_never_rests_holds_nobody_for_ever():
    new = NewFiles("rows", 10)
    told = [names(new.update([seen("a"), seen("log", size)], size * 10.0)) for size in range(20)]
    assert [each for each in told if each] == [["a"]]


def test_an_old_time_of_change_is_no_reason_to_miss_a_file():
    new = NewFiles("rows", 0)
    new.update([seen("a", changed=1_000)], 0)
    assert names(new.update([seen("a", changed=1_000), seen("b", changed=1, came=2_000)], 1)) == ["b"]


def test_a_folder_that_was_away_is_not_new():
    new = NewFiles("rows", 0)
    files = [seen(f"{number}") for number in range(50)]
    assert len(new.update(files, 0)) == 50
    assert new.update([], 1) == []
    assert new.update(files, 2) == []


def restarted(new: NewFiles, settle: float = 0) -> NewFiles:
    other = NewFiles(new.place, settle)
    assert other.restore(json.loads(json.dumps(new.state())))
    return other


def test_another_one_goes_on():
    new = NewFiles("rows", 0)
    new.update([seen("a"), seen("b")], 0)
    assert names(restarted(new).update([seen("a"), seen("b"), seen("c", changed=1)], 0)) == ["c"]


def test_a_state_of_another_place_or_none_is_no_state():
    new = NewFiles("rows", 0)
    new.update([seen("a")], 0)
    other = NewFiles("columns", 0)
    for state in (new.state(), None, {}, [], {"place": new.state()["place"]}, new.state() | {"known": "?"}):
        assert not other.restore(state)
    assert names(other.update([seen("a")], 0)) == ["a"]
    assert not NewFiles("rows", 0).restore(new.state() | {"known": "?"})


def test_thousands_of_files_cost_a_bounded_state():
    new = NewFiles("rows", 0)
    files = [seen(f"{number}.csv", changed=number * 10.0) for number in range(20_000)]
    assert len(new.update(files, 0)) == 20_000
    assert len(json.dumps(new.state())) < 50_000
    other = restarted(restarted(new))
    assert other.update(files, 0) == []
    late = seen("late.csv", changed=5, came=300_000.0)
    assert names(other.update([*files, late], 1)) == ["late.csv"]
    assert restarted(other).update([*files, late], 0) == []


@settings(max_examples=60)
@given(st.data())
def test_each_file_is_told_once_whatever_happens(data):
    """Files come, singly and in batches, some under old times; the watcher restarts at any look."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(new_files, "MEMORY", 4)
        new, files, told = NewFiles("rows", 10), [], []
        for step in range(data.draw(st.integers(1, 25))):
            for _ in range(data.draw(st.integers(0, 3))):
                old = data.draw(st.integers(0, 50))
                files.append(seen(f"{len(files)}", changed=float(old), came=1_000.0 + step * 10))
            told += names(new.update(files, step * 10.0))
            if data.draw(st.booleans()):
                new = restarted(new, 10)
                told += names(new.update(files, step * 10.0))
        for step in range(1_000, 1_003):
            told += names(new.update(files, step * 10.0))
        assert sorted(told) == sorted(names(files))


def test_an_event_is_small_and_says_what_is_there():
    files = [seen(f"{'x' * 300}{number}.csv", size=10, changed=float(number)) for number in range(3_000)]
    told = describe(files[-1_000:], files)
    assert (told["count"], told["bytes"], told["files"], told["newest"]) == (1_000, 10_000, 3_000, 2_999.0)
    assert len(told["names"]) == 5
    assert len(json.dumps(told)) < 2_000
    assert told["listing_version"] == describe(files[:1], reversed(files))["listing_version"]
    assert told["listing_version"] != describe(files[:1], files[1:])["listing_version"]


def test_names_that_are_no_text_can_be_told():
    file = seen(b"\xff\xfe.csv".decode("utf-8", "surrogateescape"))
    json.dumps(describe(NewFiles("rows", 0).update([file], 0), [file])).encode()
