# SPDX-License-Identifier: Apache-2.0
"""The double as fixtures: ``modelarts_shared`` for a whole test run, ``modelarts`` without any fault left on."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from airflow_provider_jobapi.services.modelarts import api_session
from airflow_provider_jobapi.services.modelarts.service import ModelArtsService
from tests.harness.modelarts.caller import Caller
from tests.harness.modelarts.double import ModelArts
from tests.harness.modelarts.samples import Samples
from tests.harness.modelarts.service import service
from tests.harness.s3 import S3


@pytest.fixture(scope="session")
def modelarts_shared(tmp_path_factory: pytest.TempPathFactory, s3: S3) -> Iterator[ModelArts]:
    """One double for the whole test run; its jobs pass quickly through the states."""
    with ModelArts(tmp_path_factory.mktemp("modelarts"), pace=0.05, grace=1, store=s3) as started:
        yield started


@pytest.fixture
def modelarts(modelarts_shared: ModelArts) -> Iterator[ModelArts]:
    """The shared double; the faults that a test switches on end with it."""
    yield modelarts_shared
    modelarts_shared.clear_faults()


@pytest.fixture
def caller(modelarts: ModelArts) -> Caller:
    """A client with a token."""
    return Caller(modelarts)


@pytest.fixture
def samples(caller: Caller) -> Samples:
    """Sample jobs."""
    return Samples(caller)


@pytest.fixture(params=["v1", "v2"])
def dialect(request: pytest.FixtureRequest) -> str:
    """Each of the two dialects."""
    return str(request.param)


@pytest.fixture
def modelarts_service(modelarts: ModelArts, dialect: str) -> ModelArtsService:
    """The service for the double, in this dialect."""
    return service(modelarts, dialect)


@pytest.fixture
def job_id() -> str:
    """An id that no job has."""
    return str(uuid.uuid4())


@pytest.fixture
def no_cached_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without cached sessions."""
    monkeypatch.setattr(api_session, "_sessions", {})
