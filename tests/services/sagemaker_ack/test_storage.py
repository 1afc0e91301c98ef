# SPDX-License-Identifier: Apache-2.0
"""The bucket of the connection, with keys that AWS renews."""

from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.clients import AwsKeys
from airflow_provider_jobapi.services.files import stores
from airflow_provider_jobapi.services.sagemaker_ack.errors import NoCredentials
from airflow_provider_jobapi.services.sagemaker_ack.storage import bucket_and_key, store_of
from tests.harness.ack.cloud import REGION, Cloud
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


def test_no_keys_at_all() -> None:
    with pytest.raises(NoCredentials, match="no credentials of AWS for the bucket training"):
        store_of(Renewed("http://localhost:1", keys=False), "training", REGION)  # type: ignore[arg-type]


def test_urls_of_s3() -> None:
    assert bucket_and_key("s3://b/a/c") == ("b", "a/c")
    assert bucket_and_key("s3://b") == ("b", "")
    with pytest.raises(BrokenContract, match="which is not in S3"):
        bucket_and_key("https://b/a")
