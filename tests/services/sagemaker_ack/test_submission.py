# SPDX-License-Identifier: Apache-2.0
"""What is prepared for a submit: the files' places in the channels, and options in another spelling."""

from __future__ import annotations

import re
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.sagemaker_ack.submission import prepared
from tests.services.sagemaker_ack.building import IMAGE, JOB_ID, build, connection, job


def uploads(**more: Any) -> set[str]:
    with prepared(job(**more), JOB_ID, "train", connection(), frozenset) as made:
        return set(made.uploads)


def test_the_files_of_an_image() -> None:
    given = {"a.csv": "1", "training/b.csv": "2", "validation/a.csv": "3"}
    places = {"data/training/a.csv", "data/training/b.csv", "data/validation/a.csv"}
    assert uploads(script=None, image=IMAGE, data=given) == places


def test_two_files_of_one_place() -> None:
    given = {"a.csv": "1", "training/a.csv": "2"}
    with pytest.raises(
        InvalidJob, match=r"data_input has '(a|training/a)\.csv' and 'training/a\.csv', which would be one"
    ):
        uploads(script=None, image=IMAGE, data=given)
    assert {"data/a.csv", "data/training/a.csv"} < uploads(data=given)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("instanceType", "instance_type"),
        ("Instance_Type", "instance_type"),
        ("volumeSize", "volume_size"),
        ("accept-max-runtime", "accept_max_runtime"),
        ("DeleteRefused", "delete_refused"),
        ("unpackModel", "unpack_model"),
    ],
)
def test_an_option_of_this_provider_in_another_spelling(given: str, meant: str) -> None:
    with pytest.raises(InvalidJob, match=re.escape(f"service_options has {given!r}; {meant!r} may be meant.")):
        build(job(service_options={given: "x"}))
