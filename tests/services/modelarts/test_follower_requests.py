# SPDX-License-Identifier: Apache-2.0
"""How many requests the log of a job needs, and a service that answers them as the documents' procedure shows."""

from __future__ import annotations

import re

import pytest

from tests.harness.modelarts.caller import Caller
from tests.harness.modelarts.double import ModelArts
from tests.harness.modelarts.samples import Samples
from tests.services.modelarts.follow import DIALECTS, follow, own

ENDED = (10, 11, 12, "Completed", "Failed", "Terminated")
PAGES = r"/(aom-log|logs/worker-\d+)$"

pytestmark = pytest.mark.parametrize("dialect", DIALECTS)


def ended(samples: Samples, caller: Caller, dialect: str, code: str) -> str:
    path = samples.start_v1(code) if dialect == "v1" else samples.start_v2(code)
    caller.wait(path, *ENDED)
    return path


def pages(double: ModelArts, since: int) -> set[str]:
    """Return the different requests for pages of a log; how often the last one is repeated is a matter of time."""
    return {str(each["query"]) for each in double.requests()[since:] if re.search(PAGES, each["path"])}


@pytest.mark.parametrize(("lines", "most"), [(8, 3), (10_000, 60)])
def test_number_of_requests(
    samples: Samples, caller: Caller, modelarts: ModelArts, dialect: str, lines: int, most: int
) -> None:
    """They were 17 and 79; it is 23 for 10,000 lines that were written within 30 seconds."""
    path = ended(samples, caller, dialect, f"for number in range({lines}): print(number)")
    since = len(modelarts.requests())
    assert own(follow(modelarts, path)) == [str(number) for number in range(lines)]
    assert len(pages(modelarts, since)) <= most


@pytest.mark.parametrize("mode", ["ignored", "constant", "refused"])
@pytest.mark.parametrize("asc", ["head", "latest"])
def test_a_service_without_base_line(
    samples: Samples,
    caller: Caller,
    modelarts: ModelArts,
    caplog: pytest.LogCaptureFixture,
    dialect: str,
    mode: str,
    asc: str,
) -> None:
    """The request of the procedure has no ``base_line``; what the other fields mean follows from the pages as ever."""
    modelarts.inject_fault("cursors", mode=mode)
    modelarts.inject_fault("empty_base_line", asc=asc)
    path = ended(samples, caller, dialect, "for number in range(8): print('line', number)")
    lines = follow(modelarts, path)
    assert own(lines) == [f"line {number}" for number in range(8)]
    assert caplog.text == ""
    assert lines == follow(modelarts, path)


def test_a_log_that_grows_without_base_line(
    samples: Samples, modelarts: ModelArts, caplog: pytest.LogCaptureFixture, dialect: str
) -> None:
    modelarts.inject_fault("cursors", mode="ignored")
    code = "import time\nfor number in range(8):\n    print('line', number, flush=True)\n    time.sleep(0.2)\n"
    path = samples.start_v1(code) if dialect == "v1" else samples.start_v2(code)
    lines = follow(modelarts, path)
    assert own(lines) == [f"line {number}" for number in range(8)]
    assert caplog.text == ""
    assert lines == follow(modelarts, path)


def test_lines_that_cannot_be_had_are_named(
    samples: Samples, caller: Caller, modelarts: ModelArts, caplog: pytest.LogCaptureFixture, dialect: str
) -> None:
    modelarts.inject_fault("cursors", mode="ignored")
    modelarts.inject_fault("empty_base_line", asc="latest")
    path = ended(samples, caller, dialect, "for number in range(900): print(number)")
    found = own(follow(modelarts, path))
    assert found == [str(number) for number in range(900 - len(found), 900)]
    assert len(found) > 480
    assert "lines may be missing here" in caplog.text
    assert "shows only the latest 500 lines of this log" in caplog.text
