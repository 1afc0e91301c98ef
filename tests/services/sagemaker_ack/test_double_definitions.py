# SPDX-License-Identifier: Apache-2.0
"""The definition of training jobs can be another one for a while."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.harness.ack import CRD, SAMPLE
from tests.harness.ack.definitions import knowing, redefined, undefined, without
from tests.harness.kubernetes.client import Refused, collection
from tests.harness.kubernetes.cluster import Kubernetes


def created(kubernetes: Kubernetes, namespace: str, **spec: Any) -> dict[str, Any]:
    document = yaml.safe_load(SAMPLE.read_text())
    document["metadata"]["name"] = "digits"
    document["spec"] |= {"roleARN": "r", "outputDataConfig": {"s3OutputPath": "s3://b"}, **spec}
    answer = kubernetes.admin.json("POST", collection(document, namespace), document, params={"dryRun": "All"})
    return dict(answer["spec"])


def test_an_older_and_a_newer_definition(kubernetes: Kubernetes, namespace: str) -> None:
    kubernetes.apply(CRD)
    given = {"infraCheckConfig": {"enableInfraCheck": True}, "serverless": "yes"}
    assert given.keys() & created(kubernetes, namespace, **given) == {"infraCheckConfig"}
    with redefined(kubernetes, without("spec", "infraCheckConfig")):
        assert given.keys() & created(kubernetes, namespace, **given) == set()
    with redefined(kubernetes, knowing("spec", "serverless")):
        assert given.keys() & created(kubernetes, namespace, **given) == given.keys()
    assert given.keys() & created(kubernetes, namespace, **given) == {"infraCheckConfig"}


def test_no_definition_at_all(kubernetes: Kubernetes, namespace: str) -> None:
    with undefined(kubernetes), pytest.raises(Refused) as refused:
        created(kubernetes, namespace)
    assert refused.value.code == 404
    assert created(kubernetes, namespace)
