# SPDX-License-Identifier: Apache-2.0
"""The bucket of the connection, with keys that AWS renews."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import BrokenContract, ConnectionProblem
from airflow_provider_jobapi.services.clients import AwsKeys
from airflow_provider_jobapi.services.files import stores
from airflow_provider_jobapi.services.files.sources import measure
from airflow_provider_jobapi.services.sagemaker_ack.errors import NoCredentials
from airflow_provider_jobapi.services.sagemaker_ack.storage import bucket_and_key, store_of
from tests.harness.ack.cloud import REGION, Cloud
from tests.harness.proxy import Canned, FaultProxy
from tests.harness.s3 import KEY, SECRET


class Renewed:
    """AWS whose keys are other ones each time."""

    def __init__(self, url: str, keys: bool = True) -> None:
        self.url, self.has, self.asked = url, keys, 0

    def endpoint(self, _service: str) -> str:
        return self.url

    def verify(self) -> bool:
        return True

    def keys(self) -> AwsKeys | None:
        self.asked += 1
        return AwsKeys(KEY, SECRET, f"token-{self.asked}") if self.has else None


def test_keys_that_expire_are_asked_for_again(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "REFRESH", timedelta(seconds=-1))
    aws = Renewed(cloud.url)
    store = store_of(aws, cloud.bucket, REGION)  # type: ignore[arg-type]
    cloud.put(f"s3://{cloud.bucket}/renewed/a", b"1")
    asked = []
    for _ in range(3):
        assert [each.key for each in store.list_objects("renewed/")] == ["renewed/a"]
        asked.append(aws.asked)
    assert asked[0] < asked[1] < asked[2]


@pytest.mark.parametrize(("status", "code"), [(301, "PermanentRedirect"), (400, "AuthorizationHeaderMalformed")])
def test_a_bucket_of_another_region(status: int, code: str) -> None:
    """As S3 answers; moto takes any region. It is not tried again, and says what to do."""
    with FaultProxy(9) as s3:
        store = store_of(Renewed(s3.url), "training", REGION)  # type: ignore[arg-type]
        ways: list[Callable[[], Any]] = [
            lambda: store.put("a", measure("a", "content"), lambda _: None),
            lambda: list(store.list_objects("a")),
            lambda: store.read("a", 0).__enter__(),
        ]
        for ask in ways:
            s3.next(Canned(status, body=f"<Error><Code>{code}</Code></Error>".encode()))
            with pytest.raises(ConnectionProblem, match=f"is not in region '{REGION}'.*check the connection's bucket"):
                ask()
        assert len(s3.seen) == len(ways)


def test_no_keys_at_all() -> None:
    with pytest.raises(NoCredentials, match="no credentials of AWS for the bucket training"):
        store_of(Renewed("http://localhost:1", keys=False), "training", REGION)  # type: ignore[arg-type]


def test_urls_of_s3() -> None:
    assert bucket_and_key("s3://b/a/c") == ("b", "a/c")
    assert bucket_and_key("s3://b") == ("b", "")
    with pytest.raises(BrokenContract, match="which is not in S3"):
        bucket_and_key("https://b/a")
