# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_jobapi.server.errors import OutOfSpace, ServerError
from airflow_provider_jobapi.server.http.problems import TITLES, problem_of


def error_classes(base: type[ServerError] = ServerError) -> Iterator[type[ServerError]]:
    for each in base.__subclasses__():
        yield each
        yield from error_classes(each)


@pytest.mark.parametrize("kind", [each for each in error_classes() if each is not OutOfSpace])
def test_every_error_of_the_server_has_a_status_and_a_problem_type(kind: type[ServerError]):
    error = kind.__new__(kind)
    ServerError.__init__(error, "What is wrong.", field="job.name")
    body = problem_of(error).body()
    assert 400 <= body["status"] < 600
    assert body["type"] == "about:blank" or body["type"].removeprefix("/problems/") in TITLES
    assert (body["detail"], body["field"]) == ("What is wrong.", "job.name")
