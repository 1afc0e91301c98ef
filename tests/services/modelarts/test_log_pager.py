# SPDX-License-Identifier: Apache-2.0
"""Every line is read once and with the same time, whatever the service's cursors mean."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.modelarts.log_pages import SPAN, LogPager, StampedLine, block_end
from airflow_provider_jobapi.services.modelarts.page_format import PAGE_LINES, Page, PageRequest, read_page
from tests.harness.modelarts import lines

MODES = ("exclusive", "inclusive", "half_open")
WITHOUT_POSITIONS = ("ignored", "constant")


@dataclass(frozen=True)
class Service:
    """A service with one log and one interpretation of the documents.

    :ivar asked: The requests.
    :ivar ends: Whether the content of a page ends with a newline.
    :ivar grows: Whether the last line was not ended yet.
    """

    log: tuple[lines.Line, ...]
    mode: str = "exclusive"
    down: str = "desc"
    asc_is_head: bool = True
    ends: bool = True
    grows: bool = False
    separator: str = "\n"
    asked: list[PageRequest] = field(default_factory=list, compare=False)

    def answer(self, ask: PageRequest) -> Page:
        self.asked.append(ask)
        base = "" if ask.base is None else str(ask.base)
        found = lines.page(
            self.log,
            base,
            towards_end=ask.order == self.down,
            from_head=ask.order == "asc" and self.asc_is_head,
            count=ask.lines,
            mode=self.mode,
        )
        whole = self.ends and not (self.grows and found.lines and found.lines[-1] == self.log[-1])
        said = self.separator.join(text for _, text in found.lines) + ("\n" if whole and found.lines else "")
        body = {"content": said, "lines": len(found.lines), "start_line": found.start, "end_line": found.end}
        return read_page(Answer(200, {}, json.dumps(body).encode(), datetime.now(UTC)))

    @property
    def texts(self) -> list[str]:
        return [each for _, text in self.log for each in text.split(self.separator)]

    def upto(self, count: int, *, grows: bool = False) -> Service:
        shown = self.log[:count]
        if grows and shown:
            shown = (*shown[:-1], (shown[-1][0], shown[-1][1][:1]))
        return replace(self, log=shown, grows=grows)


def poll(service: Service, state: Any, *, final: bool = False, most: int = 10**6) -> tuple[list[StampedLine], Any]:
    """Read until nothing is new, or a few pages; the state travels as JSON."""
    pager = LogPager("desc", json.loads(json.dumps(state)))
    found = list[StampedLine]()
    for _ in range(most):
        found += pager.feed(service.answer(pager.request()), final=final)
        assert pager.request().lines <= PAGE_LINES
        if pager.idle:
            break
    return found, pager.state()


def whole(service: Service) -> list[StampedLine]:
    return poll(service, None, final=True)[0]


@st.composite
def services(draw: st.DrawFn) -> Service:
    steps = draw(st.lists(st.sampled_from([1, 1, 2, 10**9, SPAN // 3, SPAN, SPAN + 1]), max_size=60))
    separator = draw(st.sampled_from(["\n", "\n\n"]))
    # A line may contain the separator. The service then gives no page that shows how long the first line is, or whether
    # an empty line follows.
    plain, framed = ["same", "a", "b", ""], ["same", "a", "b", "x\n\ny", "a\n\na\n\nb"]
    some = st.sampled_from(framed if separator == "\n\n" and draw(st.booleans()) else plain)
    texts = draw(st.lists(some, min_size=len(steps), max_size=len(steps)))
    texts[:1] = ["first"][: len(steps)]
    stamps, now = list[int](), 1609121886518240330
    for step in steps:
        now += step
        stamps.append(now)
    return Service(
        tuple(zip(stamps, texts, strict=True)),
        draw(st.sampled_from(MODES + WITHOUT_POSITIONS)),
        draw(st.sampled_from(["asc", "desc"])),
        draw(st.booleans()),
        draw(st.booleans()),
        separator=separator,
    )


@settings(max_examples=300)
@given(services(), st.lists(st.tuples(st.integers(0, 20), st.booleans(), st.sampled_from([1, 2, 3, 99])), max_size=12))
def test_every_line_once_and_under_the_same_time(service: Service, cuts: list[tuple[int, bool, int]]) -> None:
    expected = whole(service)
    assert [line.text for line in expected] == service.texts
    assert all(one.stamp <= two.stamp for one, two in pairwise(expected))
    found, state, shown = list[StampedLine](), None, 0
    for more, grows, most in cuts:
        shown = min(len(service.log), shown + more)
        new, state = poll(service.upto(shown, grows=grows), state, most=most)
        found += new
        if most == 99:
            # One look is as far as the log goes, but for a line that may grow.
            assert len(found) >= len(service.upto(max(0, shown - (not service.ends or grows))).texts)
    rest, state = poll(service, state, final=True)
    assert found + rest == expected
    assert poll(service, state, final=True)[0] == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("down", ["asc", "desc"])
@pytest.mark.parametrize("asc_is_head", [True, False])
@pytest.mark.parametrize("length", [1, 2, PAGE_LINES - 1, PAGE_LINES, PAGE_LINES + 1, 3 * PAGE_LINES + 7])
def test_long_logs(mode: str, down: str, asc_is_head: bool, length: int) -> None:
    service = Service(tuple((7 * 10**17 + number, str(number)) for number in range(length)), mode, down, asc_is_head)
    found = whole(service)
    assert [line.text for line in found] == [str(number) for number in range(length)]
    live, state = poll(service.upto(length // 2), None)
    assert live + poll(service, state, final=True)[0] == found


def test_a_last_line_without_a_line_end() -> None:
    service = Service(((10, "one"), (20, "two"), (30, "3 of 9")), grows=True)
    found, state = poll(service, None)
    assert [line.text for line in found] == ["one", "two"]
    grown = Service(((10, "one"), (20, "two"), (30, "9 of 9")))
    assert poll(grown, state)[0] == [StampedLine(10, "9 of 9")]


def test_one_request_for_each_poll_without_news() -> None:
    service = Service(tuple((number, "x") for number in range(1, 30)), "inclusive", "asc")
    _, state = poll(service, None)
    _, state = poll(service, state)  # the first poll without news shows what the pages mean
    pager = LogPager("desc", state)
    assert pager.feed(service.answer(pager.request())) == []
    assert pager.idle


def test_blocks_grow_with_the_log() -> None:
    ends, end = list[int](), 0
    while end < 20_000:
        end = block_end(end)
        ends.append(end)
    assert ends[:15] == [*range(1, 9), 10, 12, 15, 18, 22, 27, 33]
    assert max(two - one for one, two in pairwise(ends)) == PAGE_LINES - 2
    assert len([one for one in ends if one < 1000]) == 30


@pytest.mark.parametrize(
    ("length", "step", "most"),
    [
        (8, 10**9, 1),  # the documents' procedure shows eight lines of 13.5 seconds
        (8, 10**10, 16),
        (10_000, 10**5, 25),  # written fast: 21 full pages, and what the first of them mean
        (10_000, 10**9, 60),
        (10_000, 10**11, 60),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_number_of_requests(length: int, step: int, most: int, mode: str) -> None:
    service = Service(tuple((10**18 + step * number, str(number)) for number in range(length)), mode)
    found = whole(service)
    assert [line.text for line in found] == [str(number) for number in range(length)]
    assert len(service.asked) <= most
    late = [number * step - (line.stamp - 10**18) for number, line in enumerate(found)]
    assert all(lag <= SPAN + (number // 4 + 1) * step for number, lag in enumerate(late))


@pytest.mark.parametrize("mode", WITHOUT_POSITIONS)
@pytest.mark.parametrize("asc_is_head", [True, False])
@pytest.mark.parametrize("step", [10**9, 10**11])
def test_a_service_without_positions(mode: str, asc_is_head: bool, step: int) -> None:
    """The request of the documents' procedure has no ``base_line``: the latest lines are all that can be had."""
    log = tuple((10**18 + step * number, f"line {number}") for number in range(2000))
    service = Service(log, mode, asc_is_head=asc_is_head)
    state, live = None, list[StampedLine]()
    for count in (1, 3, 8, 8, 200, 450, 700, 1100):
        new, state = poll(service.upto(count), state)
        live += new
    assert live == [StampedLine(10**18, text) for _, text in log[:1100]]
    found, _ = poll(service.upto(450), None)
    assert found == live[:450]


@pytest.mark.parametrize("asc_is_head", [True, False])
def test_lost_lines_of_a_service_without_positions_are_noticed(asc_is_head: bool) -> None:
    log = tuple((10**18 + number, f"line {number}") for number in range(2000))
    service = Service(log, "ignored", asc_is_head=asc_is_head)
    _, state = poll(service.upto(700), None)
    pager = LogPager("desc", state)
    while not pager.idle:
        pager.feed(service.answer(pager.request()))
    assert pager.gap


def test_a_service_that_refuses_positions() -> None:
    service = Service(((10, "one"), (20, "two")), "ignored")
    pager = LogPager("desc")
    assert not pager.refuse_position()
    assert len(pager.feed(service.answer(pager.request()))) == 2
    assert pager.refuse_position()
    assert pager.request().base is None
    grown = Service((*service.log, (30, "three")), "ignored")
    assert pager.feed(grown.answer(pager.request())) == [StampedLine(10, "three")]
    assert not pager.refuse_position()


def test_both_directions_return_the_same_part() -> None:
    pager = LogPager("desc", {"cursor": "50", "count": 2, "block": 2, "sure": True, "word": "desc"})
    with pytest.raises(BrokenContract, match="both directions"):
        pager.feed(Page(10, 20, ("a", "b")))


@pytest.mark.parametrize("size", [2, 3, 40])
@pytest.mark.parametrize("same", [False, True])
def test_lines_that_share_a_number(size: int, same: bool) -> None:
    """Lines with the same number are read as far as the service distinguishes them."""
    log = tuple((10**18 + number // size, f"{0 if same else number}") for number in range(120))
    service = Service(log, "inclusive")
    found = [line.text for line in poll(service, None, most=400)[0]]
    assert len(found) >= 120
    assert same or found == service.texts
    state, live = None, list[StampedLine]()
    for count in (*range(0, 120, 7), 120, 120):
        new, state = poll(service.upto(count), state, most=400)
        live += new
    assert poll(service, state, final=True, most=400)[0] == []
    assert same or [line.text for line in live] == service.texts


@pytest.mark.parametrize("mode", MODES)
def test_pages_without_a_final_line_end(mode: str) -> None:
    service = Service(tuple((10**18 + number, str(number)) for number in range(4000)), mode, ends=False)
    found, _ = poll(service, None)
    assert len(found) == 3999
