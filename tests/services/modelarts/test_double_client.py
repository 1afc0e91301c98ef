# SPDX-License-Identifier: Apache-2.0
"""A client that is not ours, OpenStack's keystoneauth, gets along with the double's IAM."""

from __future__ import annotations

import pytest

from tests.harness.modelarts.double import ModelArts

pytest.importorskip("keystoneauth1")

from keystoneauth1.exceptions import Unauthorized
from keystoneauth1.identity.v3 import Password
from keystoneauth1.session import Session


def session(double: ModelArts, **changes: str) -> Session:
    account = double.account | changes
    auth = Password(
        auth_url=double.iam_url,
        username=account["user"],
        password=account["password"],
        user_domain_name=account["domain"],
        project_name=account["project"],
        project_domain_name=account["domain"],
    )
    return Session(auth=auth)


@pytest.fixture
def logged_in(modelarts: ModelArts) -> Session:
    return session(modelarts)


def logins(double: ModelArts) -> int:
    return sum(row["path"] == "/v3/auth/tokens" for row in double.requests())


def test_login_and_call(logged_in: Session, modelarts: ModelArts) -> None:
    before = logins(modelarts)
    url = f"{modelarts.url}/v1/{logged_in.get_project_id()}/job/ai-engines?job_type=train"
    assert logged_in.get(url).json()["is_success"] is True
    assert logged_in.get(url).status_code == 200
    assert logins(modelarts) == before + 1


def test_a_second_login_after_the_first_expired(logged_in: Session, modelarts: ModelArts) -> None:
    url = f"{modelarts.url}/v2/{logged_in.get_project_id()}/training-job-flavors"
    logged_in.get(url)
    before = logins(modelarts)
    modelarts.misbehave("expired_token")
    assert logged_in.get(url).status_code == 200
    assert logins(modelarts) == before + 1


def test_too_many_requests_are_repeated(logged_in: Session, modelarts: ModelArts) -> None:
    url = f"{modelarts.url}/v2/{logged_in.get_project_id()}/training-job-flavors"
    modelarts.misbehave("too_many_requests", every=1, times=2, retry_after=0)
    found = logged_in.get(url, status_code_retries=3, retriable_status_codes=[429])
    assert [row["status"] for row in modelarts.requests()[-3:]] == [429, 429, 200]
    assert found.json()["total_count"] == 4


@pytest.mark.parametrize("wrong", ["user", "password", "domain", "project"])
def test_wrong_words(modelarts: ModelArts, wrong: str) -> None:
    with pytest.raises(Unauthorized):
        session(modelarts, **{wrong: "another"}).get_token()
