# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import ConnectionProblem, InvalidJob
from airflow_provider_jobapi.services.train_container.connection import TrainConnection
from airflow_provider_jobapi.services.train_container.plan import plan_of
from airflow_provider_jobapi.training.job import TrainingJob


def test_targets() -> None:
    assert TrainConnection.of(extra={}).targets == {}
    assert TrainConnection.of(extra={"targets": '{"FHIR": ".+"}'}).targets == {"FHIR": ".+"}


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ("FHIR", "The connection's extra targets is no JSON object"),
        ({"FHIR": "("}, "The connection's extra targets['FHIR'] is no regular expression"),
        ({"URL": ""}, "The connection's extra targets cannot have 'URL'"),
    ],
)
def test_targets_that_are_refused(targets: Any, words: str) -> None:
    with pytest.raises(ConnectionProblem) as caught:
        TrainConnection.of(extra={"targets": targets})
    assert words in str(caught.value)


def test_targets_of_a_job() -> None:
    def job(targets: Any) -> TrainingJob:
        return TrainingJob.of(name="t", image="localhost/t:1", service_options={"targets": targets})

    assert plan_of(job({"FHIR": ""})).targets == {"FHIR": ""}
    with pytest.raises(InvalidJob, match="targets is a list"):
        plan_of(job(["FHIR"]))


def test_the_largest_export() -> None:
    assert TrainConnection.of(extra={}).largest_export == 10 * 1024**3
    for given, size in (("512m", 512 * 1024**2), (512, 512 * 1024**2), ("2 GiB", 2 * 1024**3)):
        assert TrainConnection.of(extra={"largest_export": given}).largest_export == size
    for given in ("-1", 0, "0g", "much", True, "9999999t"):
        with pytest.raises(ConnectionProblem, match=r"extra largest_export cannot be '.*': it is a size such as 512m"):
            TrainConnection.of(extra={"largest_export": given})
