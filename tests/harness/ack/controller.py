# SPDX-License-Identifier: Apache-2.0
"""ACK's controller for SageMaker: a loop that brings training jobs to SageMaker, and their status back."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection
from typing import Any

import requests

from tests.harness.ack import rules
from tests.harness.ack.rules import AwsError
from tests.harness.ack.sagemaker import ACCOUNT, NOT_FOUND, SageMaker
from tests.harness.kubernetes.client import Client, Refused

PAUSE = 0.05
"""Seconds between two looks at the objects, in place of the watch of the real one."""
PASSING = frozenset({404, 409, 429, 500, 503, 504})
"""What the API answers while it starts, or while somebody else changes the same object."""


class Controller:
    """One run of the controller; a new one knows nothing but what the objects say.

    :param client: The Kubernetes API.
    :param path: The collection of all training jobs, ``/apis/<group>/<version>/<plural>``.
    :param before: Called before each call to AWS with ``create``, ``describe`` or ``stop`` and the job's name; raises
        AwsError to refuse it.
    :param namespaces: Those that it watches; None for all.
    :param region: Where jobs run whose object names no region.
    :param speed: How many times as fast as the real one it looks again; its 30 seconds are 0.3 by default.
    :param adopts: Whether it knows adoption policies (feature gate ``ResourceAdoption``).
    """

    def __init__(
        self,
        client: Client,
        path: str,
        sagemaker: SageMaker,
        before: Callable[[str, str], None],
        *,
        namespaces: Collection[str] | None,
        region: str,
        speed: float,
        adopts: bool,
    ) -> None:
        self._client, self._path, self._aws, self._before = client, path, sagemaker, before
        self._namespaces, self._region, self._speed = namespaces, region, speed
        self._adopts = adopts
        self._due: dict[str, tuple[Any, float]] = {}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="ACK")
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, between two objects."""
        self._ending.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._ending.wait(PAUSE):
            try:
                self._look_at_all()
            except requests.RequestException:  # the API is away
                continue
            except Exception as error:
                if isinstance(error, Refused) and error.code in PASSING:
                    continue
                self.failure = error
                raise

    def _look_at_all(self) -> None:
        for found in self._client.get(self._path)["items"]:
            if self._ending.is_set():
                return
            metadata = found["metadata"]
            if self._namespaces is not None and metadata["namespace"] not in self._namespaces:
                continue
            # It is woken by a changed spec or a deletion, not by a changed status (GenerationChangedPredicate).
            seen = (metadata["generation"], metadata.get("deletionTimestamp"))
            known, due = self._due.get(metadata["uid"], (None, 0.0))
            if seen == known and time.monotonic() < due:
                continue
            wait = self._reconcile(found)
            self._due[metadata["uid"]] = (seen, float("inf") if wait is None else time.monotonic() + wait / self._speed)

    def _reconcile(self, found: dict[str, Any]) -> float | None:
        """Look at one object; answers the seconds until it is to be looked at again."""
        status = (found.get("status") or {}) | {"conditions": []}
        status.setdefault("ackResourceMetadata", {"ownerAccountID": ACCOUNT, "region": self._region_of(found)})
        deleted = "deletionTimestamp" in found["metadata"]
        try:
            made = self._delete(found) if deleted else self._synced(found)
        except AwsError as error:
            made = rules.ensured(rules.with_error(status, error), str(error))
        if made is None:
            return None
        self._write_status(found, made)
        return rules.look_again(made)

    def _synced(self, found: dict[str, Any]) -> dict[str, Any]:
        metadata, spec = found["metadata"], found["spec"]
        managed = rules.FINALIZER in metadata.get("finalizers", [])
        policy = (metadata.get("annotations") or {}).get(rules.ADOPTION_POLICY) if self._adopts else None
        if policy == rules.ADOPT and not managed:
            return self._adopt(found)
        job = self._describe(found)
        if job is None:
            if managed and (metadata.get("annotations") or {}).get(rules.ADOPTED) == "true":
                raise AwsError("ResourceNotFound", "the resource to adopt was not found", 404)
            self._manage(found)
            self._call("create", found, spec)
            self._write(found, {"spec": rules.initialized(spec)})
            job = self._describe(found)
            assert job is not None
        elif not managed and policy != rules.ADOPT_OR_CREATE:
            return rules.ensured(rules.not_managed(self._observed(found, job)))
        elif not managed:
            self._manage(found, {rules.ADOPTED: "true"})
        status = self._observed(found, job)
        if rules.initialized(spec) != rules.initialized(job["spec"]):
            status = rules.refused_update(status)
        return rules.ensured(status)

    def _adopt(self, found: dict[str, Any]) -> dict[str, Any]:
        """Take a job as it is: it is found by the adoption fields, and its spec is written into the object."""
        fields = json.loads(found["metadata"]["annotations"].get(rules.ADOPTION_FIELDS, "{}"))
        if "trainingJobName" not in fields:
            raise AwsError("TerminalError", "required field missing: trainingJobName")
        spec = {"trainingJobName": fields["trainingJobName"]}
        job = self._describe(found | {"spec": spec})
        if job is None:
            raise AwsError("ResourceNotFound", "the resource to adopt was not found", 404)
        gone = {name: None for name in found["spec"] if name not in job["spec"]}
        finalizers = [*found["metadata"].get("finalizers", []), rules.FINALIZER]
        metadata = {"finalizers": finalizers, "annotations": {rules.ADOPTED: "true"}}
        self._write(found, {"metadata": metadata, "spec": rules.initialized(job["spec"]) | gone})
        return rules.ensured(self._observed(found, job))

    def _delete(self, found: dict[str, Any]) -> dict[str, Any] | None:
        """Bring an object that is being deleted nearer to its end; None when it has been let go."""
        metadata = found["metadata"]
        if rules.FINALIZER not in metadata.get("finalizers", []):
            return None
        job = self._describe(found)
        retain = (metadata.get("annotations") or {}).get(rules.DELETION_POLICY) == "retain"
        step = rules.on_delete(job["trainingJobStatus"]) if job and not retain else rules.Step(release=True)
        if step.stop:
            self._call("stop", found)
            job = self._describe(found)
        if step.release or job is None:
            if job is not None:
                self._write_status(found, rules.ensured(self._observed(found, job)))
            others = [each for each in metadata["finalizers"] if each != rules.FINALIZER]
            self._write(found, {"metadata": {"finalizers": others or None}})
            return None
        return rules.ensured(self._observed(found, job))

    def _describe(self, found: dict[str, Any]) -> dict[str, Any] | None:
        try:
            return self._call("describe", found)
        except AwsError as error:
            if error.code == "ValidationException" and NOT_FOUND in str(error):
                return None
            raise

    def _call(self, call: str, found: dict[str, Any], *arguments: Any) -> Any:
        name = found["spec"]["trainingJobName"]
        self._before(call, name)
        return getattr(self._aws, call)(self._region_of(found), *(arguments or (name,)))

    def _observed(self, found: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
        return rules.observed(job, {"ownerAccountID": ACCOUNT, "region": self._region_of(found)})

    def _region_of(self, found: dict[str, Any]) -> str:
        """Where the job is: as its status says, else its annotation, else the controller (``getRegion``)."""
        known = ((found.get("status") or {}).get("ackResourceMetadata") or {}).get("region")
        return known or (found["metadata"].get("annotations") or {}).get(rules.REGION) or self._region

    def _manage(self, found: dict[str, Any], annotations: dict[str, str] | None = None) -> None:
        finalizers = found["metadata"].get("finalizers", [])
        if rules.FINALIZER in finalizers and not annotations:
            return
        changed = {"finalizers": [*finalizers, rules.FINALIZER], "annotations": annotations or {}}
        self._write(found, {"metadata": changed})

    def _write_status(self, found: dict[str, Any], status: dict[str, Any]) -> None:
        gone = {name: None for name in (found.get("status") or {}) if name not in status}
        self._write(found, {"status": status | gone}, "/status")

    def _write(self, found: dict[str, Any], change: dict[str, Any], subresource: str = "") -> None:
        metadata = found["metadata"]
        base, _, plural = self._path.rpartition("/")
        path = f"{base}/namespaces/{metadata['namespace']}/{plural}/{metadata['name']}{subresource}"
        try:
            self._client.patch(path, change)
        except Refused as refused:
            if refused.code != 404:  # it has just gone
                raise
