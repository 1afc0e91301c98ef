# SPDX-License-Identifier: Apache-2.0
"""Take up a training job that SageMaker has and whose object is not there, or is not the one that made it.

A cluster may be restored, or an object deleted and created again, while its job goes on: SageMaker has the name for
ever. ACK then shows the job's status once, beside ``ACK.Terminal`` "Resource already exists", and looks at it no more;
and a deletion of the object does not stop the job. An object is its job's own only with ACK's finalizer
(``failOnResourceUnmanaged``, reconciler.go of the ACK runtime).

First a second object looks at the job, adopted with ``deletion-policy: retain``, so that nothing comes of its deletion.
ACK writes the job's real spec into it ("Resource Adoption" in ACK's documentation), which shows whose job it is. If it
is ours, its object is created again with that spec and the finalizer, and is as every other one from then on.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from airflow_provider_jobapi.exceptions import JobConflict, ServiceUnavailable
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.services.sagemaker_ack import names
from airflow_provider_jobapi.services.sagemaker_ack.errors import ObjectExists, ObjectMissing
from airflow_provider_jobapi.services.sagemaker_ack.handles import JobHandle
from airflow_provider_jobapi.services.sagemaker_ack.objects import Seen, TrainingJobs
from airflow_provider_jobapi.services.sagemaker_ack.records import Records, stopped
from airflow_provider_jobapi.services.sagemaker_ack.status import REFUSED, Reading, is_managed, read_job
from airflow_provider_jobapi.training.status import JobState, JobStatus

LOOK_SECONDS = 20.0
"""Seconds within which ACK adopts a job; its watch brings an object at once."""

_PAUSE = 0.25
_GO_SECONDS = 10.0


class Adoption:
    """Takes up jobs.

    :param seconds: Within which ACK must adopt a job.
    """

    def __init__(
        self, jobs: TrainingJobs, records: Records, retry: Retry, log: logging.Logger, *, seconds: float = LOOK_SECONDS
    ) -> None:
        self._jobs, self._records = jobs, records
        self._retry, self._log = retry, log
        self._seconds = seconds
        self._lock = threading.RLock()  # a signal handler may stop the job that is being taken up

    def take_up(self, handle: JobHandle, digest: str = "") -> JobStatus | None:
        """Give a job an object of its own; None when it has one, else the status of a job that is not ours.

        :param digest: That of the job's content, where there is no object that has it.
        :raises ObjectMissing: when there is no object, and SageMaker has no such job.
        :raises ServiceUnavailable: when ACK does not answer.
        """
        with self._lock:  # the trigger may ask again while a thread is at it
            own = self._find(handle, names.object_name(handle.job_id))
            if own is not None and is_managed(own.object):
                return None
            annotations = _annotations(own.object) if own is not None else _made_of(handle, digest)
            look = self._look(handle, annotations)
            try:
                why = _foreign(handle, look, annotations.get(names.DIGEST_ANNOTATION, ""))
                if why:
                    return self._refuse(handle, own, why)
                self._replace(handle, own, look, annotations)
            finally:
                self._delete(handle, _look_name(handle))
            return None

    def find(self, handle: JobHandle, digest: str) -> Seen | None:
        """Return the object of a job that has lost its own; None where SageMaker has no such job, or nobody knows."""
        try:
            self.take_up(handle, digest)
            return self._find(handle, names.object_name(handle.job_id))
        except (ObjectMissing, ServiceUnavailable):
            return None

    def stop(self, handle: JobHandle) -> None:
        """Stop a job that has no object of its own, unless it is known to have ended, or not to be there.

        :raises JobConflict: when it is not known to be ours, and so was not stopped.
        """
        known = self._records.read(handle.job_id)
        if known is not None and known.status is not None:
            return
        try:
            refused = self.take_up(handle, "" if known is None else known.digest)
        except ObjectMissing:
            return
        if refused is None:
            own = self._find(handle, names.object_name(handle.job_id))
            if own is not None:
                self._records.ended(handle.to_json(), stopped(_reading(handle, own).status))
                self._delete(handle, names.object_name(handle.job_id))
        elif refused.reason == REFUSED:
            raise JobConflict(f"Job {handle.job_id} was not stopped: {refused.message}")

    def _look(self, handle: JobHandle, annotations: Mapping[str, str]) -> Seen:
        """Return an object that shows the job, or that ACK refuses to adopt it."""
        body = _body(handle, _look_name(handle), _looking(handle, annotations), _bare_spec(handle))
        with suppress(ObjectExists):  # somebody looks at the job already
            self._retry.call(lambda: self._jobs.create(handle.namespace, body), self._log)
        deadline = time.monotonic() + self._seconds
        while time.monotonic() < deadline:
            seen = self._find(handle, _look_name(handle))
            if seen is not None and (_adopted(seen) or _reading(handle, seen).refused):
                return seen
            time.sleep(_PAUSE)
        self._delete(handle, _look_name(handle))
        raise ServiceUnavailable(
            f"The ACK controller has not adopted the training job {handle.name} within {self._seconds:g} seconds, so "
            "nobody knows whose it is."
        )

    def _refuse(self, handle: JobHandle, own: Seen | None, why: str) -> JobStatus:
        """Record that a job is not ours, and let its object go, which does nothing to the job."""
        if own is None:
            raise ObjectMissing(f"SageMaker has no training job {handle.name} of this provider: {why}")
        shown = _reading(handle, own).status
        if shown.status.ended and why is _NOT_ADOPTED:
            return shown
        message = (
            f"SageMaker has a training job {handle.name} already, and {why}. It is left alone: look at it in "
            "SageMaker, and stop it there if it should not run."
        )
        status = shown.model_copy(update={"status": JobState.FAILED, "reason": REFUSED, "message": message})
        self._records.ended(handle.to_json(), status)
        self._delete(handle, names.object_name(handle.job_id))
        return status

    def _replace(self, handle: JobHandle, own: Seen | None, look: Seen, annotations: Mapping[str, str]) -> None:
        name = names.object_name(handle.job_id)
        body = _body(handle, name, annotations, look.object["spec"])
        body["metadata"]["finalizers"] = [names.FINALIZER]
        if own is not None:
            self._delete(handle, name)
            self._wait_until_gone(handle, name)
        with suppress(ObjectExists):
            self._retry.call(lambda: self._jobs.create(handle.namespace, body), self._log)
        self._log.info(f"Job {handle.job_id} runs as {handle.name} in SageMaker already, and is taken up.")

    def _wait_until_gone(self, handle: JobHandle, name: str) -> None:
        deadline = time.monotonic() + _GO_SECONDS
        while self._find(handle, name) is not None and time.monotonic() < deadline:
            time.sleep(_PAUSE)

    def _find(self, handle: JobHandle, name: str) -> Seen | None:
        try:
            return self._retry.call(lambda: self._jobs.get(handle.namespace, name), self._log)
        except ObjectMissing:
            return None

    def _delete(self, handle: JobHandle, name: str) -> None:
        with suppress(ObjectMissing):
            self._retry.call(lambda: self._jobs.delete(handle.namespace, name), self._log)


_NOT_ADOPTED = "the ACK controller does not adopt it, so nobody knows whose it is (feature gate ResourceAdoption)"


def _look_name(handle: JobHandle) -> str:
    return f"{names.object_name(handle.job_id)}-adopt"


def _foreign(handle: JobHandle, look: Seen, digest: str) -> str:
    """Return why a job is not the one of a handle; empty where it is."""
    if not _adopted(look):
        return _NOT_ADOPTED
    spec = look.object["spec"]
    if (spec.get("environment") or {}).get("JOB_ID") != handle.job_id:
        return "this provider did not make it"
    archive = (spec.get("hyperParameters") or {}).get("sagemaker_submit_directory", "")
    if digest and archive and f"/{digest[:12]}/" not in archive:
        return "it has another script, data or options"
    return ""


def _adopted(seen: Seen) -> bool:
    return is_managed(seen.object) and bool((seen.object.get("status") or {}).get("trainingJobStatus"))


def _reading(handle: JobHandle, seen: Seen) -> Reading:
    return read_job(handle, seen.object, now=seen.now, accept_timeout=float("inf"))


def _looking(handle: JobHandle, annotations: Mapping[str, str]) -> dict[str, str]:
    return {
        names.REGION_ANNOTATION: annotations.get(names.REGION_ANNOTATION, handle.region),
        names.ADOPTION_POLICY: "adopt",
        names.ADOPTION_FIELDS: json.dumps({"trainingJobName": handle.name}),
        names.DELETION_POLICY: "retain",
    }


def _bare_spec(handle: JobHandle) -> dict[str, Any]:
    """Return what the schema requires; ACK replaces it by the job's own."""
    return {
        "trainingJobName": handle.name,
        "roleARN": "",
        "algorithmSpecification": {},
        "outputDataConfig": {"s3OutputPath": handle.output},
        "resourceConfig": {},
        "stoppingCondition": {},
    }


def _body(handle: JobHandle, name: str, annotations: Mapping[str, str], spec: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {
        "name": name,
        "namespace": handle.namespace,
        "labels": names.MANAGED_BY | {names.JOB_ID_LABEL: handle.job_id},
        "annotations": dict(annotations),
    }
    return {"apiVersion": f"{names.GROUP}/{names.VERSION}", "kind": names.KIND, "metadata": metadata, "spec": spec}


def _made_of(handle: JobHandle, digest: str) -> dict[str, str]:
    """Return the annotations of an object that is gone, as far as they are known."""
    known = {names.REGION_ANNOTATION: handle.region, names.DIGEST_ANNOTATION: digest}
    known |= {names.PACKED_ANNOTATION: str(handle.packed).lower()} if handle.packed is not None else {}
    known |= {names.PASSING_ANNOTATION: "true"} if handle.passing else {}
    return {name: value for name, value in known.items() if value}


def _annotations(object_: Mapping[str, Any]) -> dict[str, str]:
    """Return the annotations of an object, without those by which ACK would do something else with it."""
    found = (object_.get("metadata") or {}).get("annotations") or {}
    left_out = {names.ADOPTION_POLICY, names.ADOPTION_FIELDS, names.DELETION_POLICY, names.ADOPTED}
    return {name: value for name, value in found.items() if name not in left_out}
