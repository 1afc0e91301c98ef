# SPDX-License-Identifier: Apache-2.0
"""A cluster whose definition of training jobs is older or newer than ours, or not there."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from tests.harness.ack import CRD, SAMPLE
from tests.harness.kubernetes.client import collection
from tests.harness.kubernetes.cluster import Kubernetes
from tests.harness.server import poll

TIMEOUT = 60.0
Definition = dict[str, Any]
Change = Callable[[Definition], None]


@contextmanager
def redefined(kubernetes: Kubernetes, change: Change) -> Iterator[None]:
    """Change the definition, and restore it at the end; other tests of this process see it, too.

    :param change: Changes the definition, such as :func:`without` or :func:`knowing`.
    """
    marker = f"test{uuid.uuid4().hex[:8]}"

    def with_marker(definition: Definition) -> None:
        change(definition)
        knowing("spec", marker)(definition)

    try:
        _replace(kubernetes, with_marker)
        poll(lambda: _knows(kubernetes, marker), TIMEOUT, "the changed definition to be in force")
        yield
    finally:
        _replace(kubernetes, lambda _: None)
        poll(lambda: not _knows(kubernetes, marker), TIMEOUT, "the definition to be restored")


@contextmanager
def undefined(kubernetes: Kubernetes) -> Iterator[None]:
    """Remove the definition, with all objects of all namespaces, and restore it at the end."""
    definition = yaml.safe_load(CRD.read_text())
    path = f"{collection(definition)}/{definition['metadata']['name']}"
    kubernetes.apply(CRD)
    kubernetes.admin.delete(path)
    try:
        poll(lambda: kubernetes.admin.find(path) is None, TIMEOUT, "the definition to be gone")
        poll(lambda: not _served(kubernetes), TIMEOUT, "training jobs to be gone")
        yield
    finally:
        kubernetes.apply(CRD)


def without(*path: str) -> Change:
    """An older definition, which does not know a field such as ``("spec", "infraCheckConfig")``."""

    def change(definition: Definition) -> None:
        del _fields(definition, path[:-1])[path[-1]]

    return change


def knowing(*path: str, kind: str = "string") -> Change:
    """A newer definition, which knows a field more."""

    def change(definition: Definition) -> None:
        _fields(definition, path[:-1])[path[-1]] = {"type": kind}

    return change


def _fields(definition: Definition, path: tuple[str, ...]) -> Any:
    found = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    for name in path:
        found = found[name]["properties"]
    return found


def _replace(kubernetes: Kubernetes, change: Change) -> None:
    definition = yaml.safe_load(CRD.read_text())
    change(definition)
    kubernetes.apply(CRD)
    path = f"{collection(definition)}/{definition['metadata']['name']}"
    kubernetes.admin.json("PUT", path, {**kubernetes.admin.get(path), "spec": definition["spec"]})


def _knows(kubernetes: Kubernetes, field: str) -> bool:
    document = yaml.safe_load(SAMPLE.read_text())
    document["metadata"]["name"] = "probe"
    document["spec"] |= {field: "", "roleARN": "r", "outputDataConfig": {"s3OutputPath": "s3://b"}}
    created = kubernetes.admin.json("POST", collection(document, "default"), document, params={"dryRun": "All"})
    return field in created["spec"]


def _served(kubernetes: Kubernetes) -> bool:
    sample = yaml.safe_load(SAMPLE.read_text())
    return kubernetes.admin.call("GET", collection(sample, "default")).ok
