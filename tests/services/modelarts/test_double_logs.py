# SPDX-License-Identifier: Apache-2.0
"""Logs of v1 by page: both orders, every meaning of a cursor, several nodes, lines that come late."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness.modelarts.caller import Caller
from tests.harness.modelarts.double import ModelArts
from tests.harness.modelarts.lines import Line, page, visible
from tests.harness.modelarts.samples import Samples
from tests.harness.server import poll

LOG: list[Line] = [(10 * number, str(number)) for number in range(1, 8)]


def texts(base: str, *, towards_end: bool, mode: str = "exclusive", count: int = 3, from_head: bool = False) -> str:
    found = page(LOG, base, towards_end=towards_end, from_head=from_head, count=count, mode=mode)
    return " ".join(text for _, text in found.lines)


def test_pages_without_a_cursor() -> None:
    assert texts("", towards_end=True) == "5 6 7"
    assert texts("", towards_end=False, from_head=True) == "1 2 3"


@pytest.mark.parametrize(
    ("mode", "after", "before"),
    [("exclusive", "4 5 6", "1 2"), ("inclusive", "3 4 5", "1 2 3"), ("half_open", "3 4 5", "1 2")],
)
def test_what_a_cursor_means(mode: str, after: str, before: str) -> None:
    assert texts("30", towards_end=True, mode=mode) == after
    assert texts("30", towards_end=False, mode=mode) == before


def test_where_a_page_begins_and_ends() -> None:
    ends = {mode: page(LOG, "", towards_end=True, from_head=False, count=2, mode=mode).end for mode in MODES}
    assert ends == {"exclusive": "70", "inclusive": "70", "half_open": "71"}
    empty = page(LOG, "70", towards_end=True, from_head=False, count=2, mode="exclusive")
    assert (empty.lines, empty.start, empty.end) == ([], "70", "70")


def test_lines_that_come_late() -> None:
    now = 75 / 10**9
    assert visible(LOG, {"seconds": 20 / 10**9, "last": None}, now) == LOG[:5]
    assert visible(LOG, {"seconds": 60 / 10**9, "last": 2}, now) == LOG[:5]
    assert visible(LOG, {"seconds": 0, "last": None}, now) == LOG
    assert visible(LOG, None, now) == LOG


MODES = ("exclusive", "inclusive", "half_open")


def walk(caller: Caller, path: str, count: int) -> list[str]:
    """All lines, page by page, by the rules of the mode: what overlaps is told by the number."""
    log = caller.ok("GET", path + "&order=asc&lines=500")
    whole = content(log)
    base, walked = "", list[str]()
    while len(walked) < len(whole):
        found = caller.ok("GET", f"{path}&lines={count}&base_line={base}&order={'desc' if base else 'asc'}")
        walked += content(found)
        base = found["end_line"]
    assert walked == whole
    return walked


def content(log: dict[str, Any]) -> list[str]:
    return log["content"].removesuffix("\n").split("\n\n") if log["content"] else []


@pytest.mark.parametrize("mode", ["exclusive", "half_open"])
def test_a_log_is_walked_page_by_page(caller: Caller, samples: Samples, modelarts: ModelArts, mode: str) -> None:
    version = samples.start_v1("for number in range(40): print(number)")
    caller.wait(version, 10)
    (name,) = caller.ok("GET", f"{version}/log/file-names")["log_file_list"]
    modelarts.misbehave("cursors", mode=mode)
    walked = walk(caller, f"{version}/aom-log?log_file={name}", 7)
    assert walked[1:41] == [str(number) for number in range(40)]


def test_an_inclusive_cursor_shows_its_line_again(caller: Caller, samples: Samples, modelarts: ModelArts) -> None:
    version = samples.start_v1()
    caller.wait(version, 10)
    (name,) = caller.ok("GET", f"{version}/log/file-names")["log_file_list"]
    log = f"{version}/aom-log?log_file={name}"
    modelarts.misbehave("cursors", mode="inclusive")
    first = caller.ok("GET", f"{log}&order=asc&lines=2")
    second = caller.ok("GET", f"{log}&order=desc&lines=2&base_line={first['end_line']}")
    assert content(first)[-1] == content(second)[0] == "hello"
    again = caller.ok("GET", f"{log}&order=desc&lines=1&base_line={first['end_line']}")
    assert again["start_line"] == again["end_line"] == first["end_line"]


def test_the_other_words_for_directions_and_for_no_cursor(
    caller: Caller, samples: Samples, modelarts: ModelArts
) -> None:
    version = samples.start_v1("print(1); print(2)")
    caller.wait(version, 10)
    (name,) = caller.ok("GET", f"{version}/log/file-names")["log_file_list"]
    log = f"{version}/aom-log?log_file={name}"
    modelarts.misbehave("directions")
    first = caller.ok("GET", f"{log}&order=asc&lines=2")
    second = caller.ok("GET", f"{log}&order=asc&lines=1&base_line={first['end_line']}")
    assert (content(first)[1], content(second)) == ("1", ["2"])
    modelarts.behave("directions")
    newest = content(caller.ok("GET", f"{log}&order=desc&lines=2"))
    modelarts.misbehave("empty_base_line")
    assert content(caller.ok("GET", f"{log}&order=asc&lines=2")) == newest


def test_what_a_page_may_be(caller: Caller, samples: Samples) -> None:
    version = samples.start_v1()
    caller.wait(version, 10)
    (name,) = caller.ok("GET", f"{version}/log/file-names")["log_file_list"]
    for wrong in ("lines=501", "lines=-1", "order=up", "base_line=x"):
        assert caller.no("GET", f"{version}/aom-log?log_file={name}&{wrong}") == (400, "0104")
    assert caller.no("GET", f"{version}/aom-log?lines=5") == (400, "0104")
    assert caller.no("GET", f"{version}/aom-log?log_file={name}.9") == (400, "0104")
    assert caller.ok("GET", f"{version}/aom-log?log_file={name}&lines=0")["content"] == ""


def test_each_node_has_its_log(caller: Caller, samples: Samples) -> None:
    code = "import os\nprint('node', os.environ['DLS_TASK_INDEX'], 'of', os.environ['DLS_TASK_NUMBER'])"
    version = samples.start_v1(code, spec_id=29, worker_server_num=3)
    details = caller.wait(version, 10)
    names = caller.ok("GET", f"{version}/log/file-names")["log_file_list"]
    assert names == [f"job-{details['job_name'].lower()}.{index}" for index in range(3)]
    logs = [content(caller.ok("GET", f"{version}/aom-log?log_file={name}")) for name in names]
    assert [log[1] for log in logs] == ["node 0 of 3", "node 1 of 3", "node 2 of 3"]


def test_no_log_before_the_first_line(caller: Caller, samples: Samples, modelarts: ModelArts) -> None:
    modelarts.misbehave("sold_out")
    version = samples.start_v1()
    caller.wait(version, 7)
    assert caller.no("GET", f"{version}/log/file-names") == (400, "2818")
    modelarts.behave()
    caller.wait(version, 10)
    caller.ok("GET", f"{version}/log/file-names")


def test_late_lines_come_after_the_end(caller: Caller, samples: Samples, modelarts: ModelArts) -> None:
    version = samples.start_v1()
    caller.wait(version, 10)
    (name,) = caller.ok("GET", f"{version}/log/file-names")["log_file_list"]
    log = f"{version}/aom-log?log_file={name}"
    whole = content(caller.ok("GET", log))
    modelarts.misbehave("late_lines", seconds=3600, last=2)
    assert content(caller.ok("GET", log)) == whole[:-2]
    modelarts.misbehave("late_lines", seconds=1, last=2)
    poll(lambda: content(caller.ok("GET", log)) == whole, 10, "the late lines")


def test_a_log_is_exported_where_it_was_asked_for(caller: Caller, samples: Samples, modelarts: ModelArts) -> None:
    folder = samples.place()
    made = caller.ok("POST", "/v1/{project_id}/training-jobs", samples.v1(folder, log_url=f"{folder}logs/"))
    version = f"/v1/{{project_id}}/training-jobs/{made['job_id']}/versions/{made['version_id']}"
    caller.wait(version, 10)
    (name,) = modelarts.objects(f"{folder}logs/")
    assert b"\nhello\n" in modelarts.get(f"{folder}logs/{name}")

    body = samples.v2(folder)
    body["spec"]["log_export_path"] = {"obs_url": f"{folder}more/"}
    job = caller.ok("POST", "/v2/{project_id}/training-jobs", body)["metadata"]["id"]
    caller.wait(f"/v2/{{project_id}}/training-jobs/{job}", "Completed")
    assert modelarts.objects(f"{folder}more/") == [f"modelarts-job-{job}-worker-0.log"]
