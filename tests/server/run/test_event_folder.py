# SPDX-License-Identifier: Apache-2.0
"""Event files that grow, are moved, damaged, hostile or very many, and what becomes of their points."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_jobapi.server.run.supervisor import event_folder, scalars
from airflow_provider_jobapi.server.run.supervisor.event_folder import EventFiles
from airflow_provider_jobapi.server.run.supervisor.event_reader import EventFile
from airflow_provider_jobapi.server.run.supervisor.scalars import Curve, Curves, Scalars
from airflow_provider_jobapi.training.logs import parse_records
from airflow_provider_jobapi.training.metrics.helper import read_helper
from tests.harness.event_writer import Writer, event, field, masked, record, simple


class Reading:
    """Reads the event files of a folder, as the supervisor of a job does."""

    def __init__(self, home: Path, *folders: Path, bound: int = 10**7) -> None:
        self.home = home
        self.work = home / "work"
        self.work.mkdir(exist_ok=True)
        self.said: list[str] = []
        self.curves = Curves(home, [str(folder) for folder in folders or (self.work,)], bound, self.said.append)

    def look(self) -> None:
        """Look as if the time for it had come."""
        self.curves._files._next = self.curves._files._next_search = 0.0
        self.curves.look()
        while self.curves._files._pass is not None:
            self.curves._files._next = 0.0
            self.curves.look()

    def points(self) -> list[tuple[str, float | None, float]]:
        path = self.home / "scalars"
        lines = parse_records(path.read_bytes()) if path.exists() else ()
        measured = [each for line in lines for each, _, _ in read_helper(line.text)]
        assert len(measured) == len(lines)
        return [(name, each.step, value) for each in measured for name, value in each.values.items()]

    def curve(self, name: str) -> list[tuple[float | None, float]]:
        return [(step, value) for each, step, value in self.points() if each == name]


@pytest.fixture
def reading(tmp_path):
    return Reading(tmp_path)


def test_a_point_is_read_once_it_is_whole(reading):
    with Writer(reading.work / "logs") as writer:
        writer.scalar("loss", 1.0, step=1, wall_time=1796028356.123456)
        reading.look()
        whole = record(event(simple("loss", 0.5), step=2))
        for byte in whole[:-1]:
            writer.write(bytes([byte]))
            reading.look()
            assert reading.points() == [("loss", 1, 1.0)]
        writer.write(whole[-1:])
        reading.look()
    assert reading.points() == [("loss", 1, 1.0), ("loss", 2, 0.5)]
    (line, _) = parse_records((reading.home / "scalars").read_bytes())
    assert line.time.isoformat() == "2026-11-30T08:45:56.123456+00:00"
    assert reading.said == []
    assert (reading.home / "scalars").stat().st_mode & 0o777 == 0o600


def test_without_event_files_there_is_no_file(reading):
    (reading.work / "tfevents").write_text("none of them")
    reading.look()
    reading.curves.finish()
    assert not (reading.home / "scalars").exists()
    assert reading.said == []


def test_files_that_were_there_before_the_command_are_not_the_jobs(tmp_path):
    work = tmp_path / "work"
    with Writer(work / "inputs") as writer:
        writer.scalar("old", 1.0, step=1)
    running = tmp_path / "running"
    running.touch()
    while running.stat().st_ctime_ns <= writer.path.stat().st_ctime_ns:  # the clock of a file system is a coarse one
        running.touch()
    reading = Reading(tmp_path)
    with Writer(work / "logs") as writer:
        writer.scalar("new", 1.0, step=1)
    reading.look()
    assert reading.points() == [("new", 1, 1.0)]


@pytest.mark.parametrize(
    ("first", "others", "names"),
    [
        ("runs/Nov30_host", {}, ["loss"]),
        ("", {}, ["loss"]),
        ("logs/fit/1/train", {"logs/fit/1/validation": "validation"}, ["train/loss", "validation/loss"]),
        ("model", {"model/eval": "eval", "model/eval_big": "eval_big"}, ["loss", "eval/loss", "eval_big/loss"]),
        ("runs/a", {"runs/b": "b", "runs/c/d": "c/d"}, ["loss", "b/loss", "c/d/loss"]),
        ("logs/version_0", {"logs/version_1": "version_1"}, ["loss", "version_1/loss"]),
        ("a b/run 1", {"a b/run 2": "run 2"}, ["loss", "run_2/loss"]),
        ("a/b", {"a": "a", "a/c": "c"}, ["loss", "a/loss", "c/loss"]),
    ],
)
def test_runs_are_named_from_where_their_folders_differ(reading, first, others, names):
    for number, folder in enumerate((first, *others)):
        with Writer(reading.work / folder, number) as writer:
            writer.scalar("loss", 1.0, step=1)
        reading.look()
    assert sorted({name for name, _, _ in reading.points()}) == sorted(names)


def test_two_folders_have_names_of_their_own(tmp_path):
    for folder in ("work/logs", "checkpoints/logs"):
        with Writer(tmp_path / folder) as writer:
            writer.scalar("loss", 1.0, step=1)
    reading = Reading(tmp_path, tmp_path / "work", tmp_path / "checkpoints", tmp_path / "work" / "model")
    reading.look()
    assert reading.points() == [("loss", 1, 1.0), ("logs/loss", 1, 1.0)]


def test_blanks_and_controls_of_names_are_replaced_and_long_names_keep_their_end(reading):
    with Writer(reading.work) as writer:
        writer.scalar("val loss\n\x1b[0m", 1.0, step=1)
        writer.scalar("x" * 200 + "/the_end", 2.0, step=1)
        writer.scalar("a b", 3.0, step=1)
        writer.scalar("a_b", 4.0, step=1)
    reading.look()
    names = [name for name, _, _ in reading.points()]
    assert names == ["val_loss_\ufffd[0m", "…" + "x" * 91 + "/the_end", "a_b"]
    assert len(names[1]) == scalars.NAME_LIMIT


def test_a_damaged_file_is_given_up_with_one_notice(reading):
    with Writer(reading.work / "a") as bad, Writer(reading.work / "b", 1) as good:
        bad.scalar("loss", 1.0, step=1)
        damaged = bytearray(record(event(simple("loss", 0.5), step=2)))
        damaged[20] ^= 1
        bad.write(bytes(damaged))
        for step in (3, 4):
            bad.scalar("loss", 0.0, step=step)
            good.scalar("loss", 5.0, step=step)
            reading.look()
    assert reading.points() == [("loss", 1, 1.0), ("b/loss", 3, 5.0), ("b/loss", 4, 5.0)]
    (said,) = reading.said
    assert said.startswith(f"The event file a/{bad.path.name} is not read any further: a record is damaged at byte ")


def test_of_many_damaged_files_a_few_are_named(reading):
    for number in range(9):
        with Writer(reading.work, number) as writer:
            writer.write(b"not a record at all")
    reading.look()
    assert len(reading.said) == 4
    assert reading.said[-1] == "More is wrong with event files of TensorBoard, which is not said here."


def test_no_link_is_followed_and_only_plain_files_are_read(tmp_path, reading):
    with Writer(tmp_path / "outside") as writer:
        writer.scalar("secret", 1.0, step=1)
    (reading.work / "events.out.tfevents.1.link").symlink_to(writer.path)
    (reading.work / "linked").symlink_to(writer.path.parent)
    os.mkfifo(reading.work / "events.out.tfevents.2.fifo")
    (reading.work / "events.out.tfevents.3.directory").mkdir()
    (reading.work / "events.out.tfevents.4.device").symlink_to("/dev/zero")
    begin = time.monotonic()
    reading.look()
    assert time.monotonic() - begin < 5
    assert reading.points() == []
    assert reading.said == []


def test_a_file_that_becomes_a_link_is_not_read(tmp_path, reading):
    with Writer(tmp_path / "outside") as secret, Writer(reading.work / "logs") as writer:
        writer.scalar("loss", 1.0, step=1)
        reading.look()
        for step in range(9):
            secret.scalar("secret", 1.0, step=step)
        writer.path.unlink()
        writer.path.symlink_to(secret.path)
        reading.look()
        writer.path.parent.rename(reading.work / "moved")
        writer.path.parent.symlink_to(secret.path.parent)
        reading.look()
    assert reading.points() == [("loss", 1, 1.0)]


def test_a_file_is_read_on_where_it_was_moved_to(reading):
    with Writer(reading.work / "logs") as writer:
        writer.scalar("loss", 1.0, step=1)
        reading.look()
        (reading.work / "logs").rename(reading.work / "kept")
        writer.scalar("loss", 0.5, step=2)
        reading.look()
        moved = (reading.work / "kept" / writer.path.name).rename(reading.work / "kept" / "b.tfevents.c")
        writer.scalar("loss", 0.25, step=3)
        reading.look()
        moved.unlink()
        for _ in range(5):
            reading.look()
    assert [point[2] for point in reading.points()] == [1.0, 0.5, 0.25]
    assert reading.said == []


def test_huge_records_are_skipped_without_being_read(reading):
    with Writer(reading.work) as writer:
        length = struct.pack("<Q", 2**33)
        writer.write(length + masked(length))
        with writer.path.open("r+b") as file:
            file.truncate(writer.path.stat().st_size + 2**33 + 4)
        writer.scalar("loss", 0.5, step=2)
        begin = time.monotonic()
        reading.look()
        assert time.monotonic() - begin < 5
        length = struct.pack("<Q", 2**63)
        writer.write(length + masked(length))
        reading.look()
    assert reading.points() == [("loss", 2, 0.5)]
    assert reading.said == []


def test_a_record_with_a_picture_has_its_scalars_read(reading):
    picture = field(1, b"picture") + field(4, os.urandom(500_000))
    with Writer(reading.work) as writer:
        writer.write(record(field(1, 1.0) + field(5, field(1, picture) + field(1, simple("loss", 0.5)))))
    reading.look()
    assert [point[2] for point in reading.points()] == [0.5]


def test_only_so_many_files_and_curves_are_read(reading, monkeypatch):
    monkeypatch.setattr(event_folder, "MOST_FILES", 3)
    monkeypatch.setattr(scalars, "MOST_CURVES", 5)
    for number in range(6):
        with Writer(reading.work / f"run{number}", number) as writer:
            for curve in range(3):
                writer.scalar(f"c{curve}", 1.0, step=1)
    reading.look()
    reading.look()
    assert len(reading.points()) == 5
    assert reading.said == [
        "The job writes more than 3 event files of TensorBoard; the others are not read.",
        "The event files of TensorBoard have more than 5 curves; the others are left out.",
    ]


def test_a_search_looks_at_the_upper_directories_first_and_ends(reading, monkeypatch):
    monkeypatch.setattr(event_folder, "MOST_ENTRIES_OF_ONE", 50)
    monkeypatch.setattr(event_folder, "MOST_ENTRIES", 120)
    for folder in ("data/images", "data/more", "data/even_more"):
        (reading.work / folder).mkdir(parents=True)
        for number in range(300):
            (reading.work / folder / f"{number}.png").touch()
    with Writer(reading.work / "zzz" / "logs") as writer:
        writer.scalar("loss", 1.0, step=1)
    deep = reading.work.joinpath(*"abcdefghijklmnop")
    with Writer(deep, 1) as writer:
        writer.scalar("deep", 1.0, step=1)
    for _ in range(5):
        reading.look()
    assert reading.points() == [("loss", 1, 1.0)]


def test_a_rest_follows_every_piece_of_work(tmp_path, monkeypatch):
    """However much there is to read, a tenth of the time is spent on it, and no piece of it takes long."""
    now = [100.0]
    monkeypatch.setattr(event_folder, "time", SimpleNamespace(monotonic=lambda: now[0]))
    read = EventFile._read_records

    def slow(*arguments):
        now[0] += 0.02
        read(*arguments)

    monkeypatch.setattr(EventFile, "_read_records", slow)
    with Writer(tmp_path) as writer:
        writer.write(record(event(simple("loss", 0.5), step=1)) * 100_000)
    taken: list[object] = []
    files = EventFiles([str(tmp_path)], lambda *each: taken.append(each), pytest.fail)
    worked = 0.0
    while len(taken) < 100_000:
        before = now[0]
        files.look()
        assert now[0] - before < 0.1
        worked += now[0] - before
        now[0] += 0.01
    assert worked > 0.5
    assert worked <= (now[0] - 100.0) / 9


def test_what_is_left_is_read_at_the_end(tmp_path):
    with Writer(tmp_path) as writer:
        writer.write(record(event(simple("loss", 0.5), step=1)) * 3_000)
    taken: list[object] = []
    EventFiles([str(tmp_path)], lambda *each: taken.append(each), pytest.fail).finish(lambda: None)
    assert len(taken) == 3_000


def test_where_the_time_is_over_the_last_values_are_read_nevertheless(tmp_path):
    for number in range(3):
        with Writer(tmp_path, number) as writer:
            writer.write(record(event(simple("loss", 0.5), step=1)) * 10_000)
            writer.write(record(event(simple("loss", number), step=2)))
    length = struct.pack("<Q", 2**60)
    with Writer(tmp_path, 4) as writer:  # one that leads nowhere
        writer.write(length + masked(length) + bytes(300_000))
    taken, said = [], []
    files = EventFiles([str(tmp_path)], lambda _, event: taken.append(event), said.append)
    files.look()
    read = len(taken)
    files.finish(lambda: None, seconds=0.0)
    assert read < len(taken) < 25_000
    assert {each.values[0][1] for each in taken if each.step == 2} == {0, 1, 2}
    (sentence,) = said
    assert sentence.endswith("not read to their end within 0 seconds: points before the last ones are missing.")


def test_a_defect_ends_the_reading_and_nothing_else(tmp_path):
    with Writer(tmp_path) as writer:
        writer.scalar("loss", 0.5, step=1)

    def take(*_):
        raise ZeroDivisionError("a defect")

    said: list[str] = []
    files = EventFiles([str(tmp_path)], take, said.append)
    files.look()
    files.finish(lambda: None)
    assert said == ["Event files of TensorBoard are not read any further: a defect."]


def test_a_full_disk_loses_points_and_says_so(reading, monkeypatch):
    def full(handle: int, data: bytes) -> int:
        if handle == reading.curves._scalars._handle:
            return os.pwrite(handle, data[:30], os.fstat(handle).st_size) if len(data) > 300 else broken()
        raise AssertionError

    def broken() -> int:
        raise OSError(28, "No space left on device")

    writer = Writer(reading.work)
    writer.scalar("loss", 1.0, step=1)
    reading.look()
    before = (reading.home / "scalars").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(scalars.os, "write", full)
        for step in range(2, 7):
            writer.scalar("loss", 1.0, step=step)
        reading.look()
    assert (reading.home / "scalars").read_bytes().startswith(before)
    writer.close()
    reading.curves.finish()
    assert reading.points()[-1] == ("loss", 6, 1.0)
    assert len(reading.said) == 1
    assert reading.said[0].endswith("points of the event files of TensorBoard are lost: the disk was full.")


def test_the_bound_leaves_room_for_the_last_points(tmp_path, monkeypatch):
    monkeypatch.setattr(scalars, "_LEAST_BOUND_BYTES", 10_000)
    monkeypatch.setattr(scalars, "_LAST_BYTES", 1_000)
    reading = Reading(tmp_path, bound=10_000)
    with Writer(reading.work) as writer:
        points = [record(event(simple(tag, step), step=step)) for step in range(1, 101) for tag in "ab"]
        writer.write(b"".join(points))
    reading.look()
    size = (tmp_path / "scalars").stat().st_size
    assert 9_000 - 200 < size <= 9_000
    reading.curves.finish()
    assert (tmp_path / "scalars").stat().st_size < size + 1_000
    assert reading.points()[-2:] == [("a", 100, 100.0), ("b", 100, 100.0)]
    (said,) = reading.said
    assert said.startswith(
        "The curves of the event files of TensorBoard have reached their bound of 10,000 bytes; only "
    )


def added(curve: Curve, *points: tuple[int, int | None, float]) -> list[tuple[int, float]]:
    """What is written of points of a file, a step and a value."""
    written = [each for file, step, value in points for each in curve.add(file, step or None, value, 1.0, 1.0)]
    return [(each.step, each.value) for each in written]


def test_steps_never_go_back():
    assert added(Curve("loss"), *((1, step, step) for step in (1, 2, 2, 5, 1, 2))) == [
        (1, 1), (2, 2), (2, 2), (5, 5), (6, 1), (7, 2),
    ]  # fmt: skip


def test_a_later_file_goes_on_after_the_one_before():
    """As with several calls of ``fit``, and with a training that was continued."""
    points = [(file, step, 1.0) for file in (1, 2) for step in range(3)] + [(3, 0, 3.0), (4, 0, 4.0)]
    assert [step for step, _ in added(Curve("loss"), *points)] == list(range(8))
    assert added(Curve("loss"), (1, 1, 1), (1, 100, 1), (2, 100, 2), (2, 200, 2)) == [
        (1, 1),
        (100, 1),
        (100, 2),
        (200, 2),
    ]


def test_points_of_an_earlier_file_that_come_late_are_left_out():
    points = [(1, 1, 1.0), (2, 1, 2.0), (1, 2, 1.0), (2, 2, 2.0), (1, 3, 1.0)]
    assert [value for _, value in added(Curve("loss"), *points)] == [1.0, 2.0, 2.0]


def test_points_without_steps_are_counted():
    assert [step for step, _ in added(Curve("loss"), *[(1, None, 0.5)] * 4, (1, 9, 1.0))] == [0, 1, 2, 3, 9]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(width=32), min_size=1, max_size=300), st.integers(2, 20), st.randoms(use_true_random=False))
def test_a_long_curve_keeps_its_peaks_and_its_ends(values, dense, random):
    before, scalars.DENSE_POINTS = scalars.DENSE_POINTS, dense
    try:
        curve, written = Curve("loss"), []
        for step, value in enumerate(values):
            written += curve.add(1, step, value, 1.0, 1.0)
            if random.random() < 0.03:
                written += curve.release()
        written += curve.release()
    finally:
        scalars.DENSE_POINTS = before
    assert [point.number for point in written] == sorted({point.number for point in written})
    assert curve.last.number == len(values) - 1
    finite = [value for value in values if value - value == 0]
    kept = [point.value for point in written if point.value - point.value == 0]
    assert (min(finite, default=0), max(finite, default=0)) == (min(kept, default=0), max(kept, default=0))
    assert {repr(value) for value in values} - set(map(repr, finite)) <= {repr(point.value) for point in written}


def test_a_curve_of_a_hundred_thousand_points_is_some_thousand():
    curve = Curve("loss")
    written = sum(len(curve.add(1, step, step * 7919 % 101, 1.0, 1.0)) for step in range(100_000))
    assert 3_000 < written < 5_000


def test_a_group_does_not_wait_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(scalars, "DENSE_POINTS", 1)
    said: list[str] = []
    kept = Scalars(str(tmp_path / "scalars"), 10**7, said.append)
    reading = EventFiles([str(tmp_path)], kept.take, said.append)
    with Writer(tmp_path / "logs") as writer:
        for step in range(3):
            writer.scalar("loss", 1.0, step=step)
    reading.look()
    kept.write()
    assert (tmp_path / "scalars").read_bytes().count(b"\n") == 1
    monkeypatch.setattr(scalars, "HOLD_SECONDS", -1.0)
    kept.write()
    assert (tmp_path / "scalars").read_bytes().count(b"\n") > 1
