# SPDX-License-Identifier: Apache-2.0
"""The facts of a job stay a small XCom, whatever its requirements and data are."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from airflow_provider_jobapi.operators.placement import Placed
from airflow_provider_jobapi.operators.record import FACTS_KEY, MAX_FACTS_BYTES, record_end, record_facts
from airflow_provider_jobapi.services.base import Submission
from airflow_provider_jobapi.training.job_file import InputFile
from airflow_provider_jobapi.training.masking import Masker
from airflow_provider_jobapi.training.status import JobStatus
from tests.operators.test_parameters import parameters


def told(requirements=(), data=(), masker=None, **changes):
    """The facts as the XCom has them."""
    kept = {}
    ti = SimpleNamespace(xcom_push=lambda key, value: kept.update({key: value}))
    inputs = tuple(InputFile(path=name, size=7, sha256="0" * 64) for name in data)
    placed = Placed("j" * 36, "n", 0, Submission({}, timedelta(0), inputs), datetime.now(UTC))
    record_facts({"ti": ti}, placed, parameters(requirements=requirements, **changes), "c", masker)
    return kept[FACTS_KEY]


@pytest.mark.parametrize("wide", ["x", "\U00010400"])
@pytest.mark.parametrize("length", [1, 100])
def test_the_facts_are_small_and_say_how_much_more_there_is(wide, length):
    lines = [f"{wide * length}=={number}" for number in range(2_000)]
    facts = told(lines, [f"{wide * length}{number:04}" for number in range(3_000)], destination=wide * 9_999)
    assert len(json.dumps(facts)) <= MAX_FACTS_BYTES
    *first, more = facts["requirements"]
    assert len(first) > 2
    assert first == lines[: len(first)]
    assert more == f"… and {2_000 - len(first)} more"
    *files, rest = facts["data"]
    assert [each["name"] for each in files] == [f"{wide * length}{number:04}" for number in range(len(files))]
    assert (2 < len(files) <= 50, rest) == (True, {"more": 3_000 - len(files)})


def test_what_fits_is_complete():
    lines = [f"package-{number}==1.0" for number in range(100)]
    facts = told("\n".join(lines), [f"file-{number:02}" for number in range(50)])
    assert facts["requirements"] == lines
    assert facts["data"] == [{"name": f"file-{number:02}", "size": 7, "sha256": "0" * 64} for number in range(50)]


def test_the_nodes_are_told_where_there_are_several():
    assert "nodes" not in told()
    assert told(nodes=3)["nodes"] == 3


def test_one_long_requirement_is_more():
    assert told(["x" * 90_000, "y"])["requirements"] == ["… and 2 more"]


def test_credentials_in_requirements_are_not_among_the_facts():
    lines = ["a @ https://user:s3cr3t@host/a.whl", "b @ git+https://t0ken@host/b.git@v1", "c @ https://host/c@d.whl"]
    assert told(lines)["requirements"] == [
        "a @ https://***@host/a.whl",
        "b @ git+https://***@host/b.git@v1",
        "c @ https://host/c@d.whl",
    ]


def test_secrets_are_hidden():
    line = "six @ https://me:secret-1@host/six.whl"
    facts = told(
        [line], ["of secret-1"], Masker(["secret-1", "j" * 36]), destination="s3://secret-1/x", image="secret-1"
    )
    assert "secret-1" not in json.dumps(facts)
    assert facts["requirements"] == ["six @ https://***@host/six.whl"]
    assert facts["job_id"] == "j" * 36, "the tab finds the job by it"


@pytest.mark.parametrize(
    ("metrics", "rules"),
    [
        ({"job_id": "j", "metrics": {}, "rules": ["keras", "dict"]}, ["keras", "dict"]),
        ({"job_id": "j", "metrics": {}}, None),
        ({"job_id": "another", "metrics": {}, "rules": ["keras"]}, None),
        (None, None),
    ],
)
def test_at_the_end_the_facts_say_which_rules_have_found_metrics(metrics, rules):
    kept = {FACTS_KEY: {"job_id": "j", "name": "n"}, "training_metrics": metrics}
    ti = SimpleNamespace(
        task_id="t",
        map_index=-1,
        xcom_push=lambda key, value: kept.update({key: value}),
        xcom_pull=lambda key, **_: kept.get(key),
    )
    record_end({"ti": ti}, "j", JobStatus(job_id="j", status="SUCCESSFUL"))
    assert kept[FACTS_KEY] == {"job_id": "j", "name": "n"} | ({"metric_rules": rules} if rules else {})
    assert kept["trainingStatus"]["status"] == "SUCCESSFUL"
