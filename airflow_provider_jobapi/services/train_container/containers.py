# SPDX-License-Identifier: Apache-2.0
"""The container of a job: claimed by its name, started once, and remembered when it is removed.

The claim. An engine has each name once, and a container's name is derived from its job's id: to create it is the claim,
and whoever comes second is told so (409). Both engines run a container *again* that has ended where they are told to
start it, so only the worker that created a container starts it, once, by the engine's own id of it. A container whose
worker was killed before it started it is removed by the next worker, which claims the job again: the start of a worker
that was only slow then finds no container. Where it was the engine that was killed, and may have started it without
knowing so, somebody has to look: it is neither removed nor run again.

The records. An engine has no store, so a record is a volume with labels and no content. It needs no image, and neither
``docker container prune`` nor ``docker image prune`` removes it; ``docker system prune`` of Docker 23 and later leaves
volumes with a name as well. A container as a record would keep its image, and would be pruned. There are four: that
the job may have begun (made before the start), that it was to be stopped and why, how it ended (made before the
container is removed), and that it is an earlier job which has ended, and does not run by itself. A label
cannot be changed, so the first word stands.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from airflow_provider_jobapi.exceptions import BrokenContract, JobConflict, JobGone, ServiceUnavailable, TrainingError
from airflow_provider_jobapi.services.retry import Retry, sleep
from airflow_provider_jobapi.services.train_container import names
from airflow_provider_jobapi.services.train_container.engine import Engine
from airflow_provider_jobapi.services.train_container.errors import Conflict, Missing
from airflow_provider_jobapi.services.train_container.states import ContainerState, moment, read_container
from airflow_provider_jobapi.training.status import JobStatus, Reason

CLAIMS = 5
"""Attempts to claim a job, each after another worker was seen to do the same."""

CLAIM_PAUSE = 0.2
"""Seconds before the second of them; before each other one as much more."""

LOOKS, LOOK_PAUSE = 3, 0.5
"""Looks at a container that somebody may be starting, and the seconds between them."""

LARGEST_RESULT = 256 * 1024
"""Bytes of a result in a record."""

_BEGINNINGS = frozenset({"init", "start"})
"""What an engine does with a container when it begins to start it, and when it has."""

_HOLDER = re.compile(r'in use by (?:container )?"?([0-9a-f]{64})')
"""The id of what has a name, in an engine's words."""


class Containers:
    """The containers of jobs on one engine.

    :param retry: How each request is repeated while the engine does not answer.
    """

    def __init__(self, engine: Engine, retry: Retry, log: logging.Logger) -> None:
        self.engine = engine
        self._retry = retry
        self._log = log

    def find(self, name: str) -> ContainerState | None:
        """Return a container; None where there is none."""
        found = self._retry.call(lambda: self.engine.inspect(name), self._log)
        return None if found is None else read_container(found)

    def claim(
        self, job_id: str, config: Mapping[str, Any], fill: Callable[[], None], volume: str = ""
    ) -> ContainerState:
        """Create and start the container of a job, or return the one that is there.

        :param config: The body of the request; its labels have the job's id and its digest.
        :param fill: Brings the job's data to the engine, between the claim and the start.
        :param volume: What it fills, which is removed where another worker has the claim.
        :raises JobConflict: when the job is there with other content, or was stopped.
        :raises BrokenContract: when the name belongs to something else.
        :raises JobGone: when the job was there, and nothing says how it ended.
        """
        name, taken_over = names.container_name(job_id), False
        for attempt in range(CLAIMS):
            sleep(attempt * CLAIM_PAUSE)
            seen = self.find(name)
            if seen is not None:
                check_own(seen, config["Labels"])
                if seen.was_started:
                    return seen
                if not self.give_up(seen, job_id):
                    continue
                taken_over = True
            elif not taken_over:
                self._check_unused(job_id)
            try:
                container = self._retry.call(lambda: self.engine.create(name, config), self._log)
            except Conflict as taken:
                self._remove_remains(taken, attempt)
                continue
            if not taken_over and self.record(names.started_record(job_id)) is not None:
                self._retry.call(lambda made=container: self.engine.remove(made), self._log)  # type: ignore[misc]
                continue  # it began, and was removed, since
            fill()
            if (started := self._start(job_id, container, config["Labels"])) is not None:
                return started
            if volume:
                self._remove_volume(volume)
        raise ServiceUnavailable(f"Other workers create and remove the container {name} all the time.")

    def give_up(self, seen: ContainerState, job_id: str) -> bool:
        """Remove a container that was never started, and its data; whether that was so.

        :raises JobConflict: when its engine was killed, and may have started it.
        """
        if not self._is_unused(seen, job_id):
            return False
        self._log.info(f"The container {seen.name} was created and never started; it is removed.")
        try:
            self._retry.call(lambda: self.engine.remove(seen.id), self._log)
        except Conflict:
            return False  # it is started at this moment
        self._remove_data(job_id)
        return True

    def _is_unused(self, seen: ContainerState, job_id: str) -> bool:
        """Whether nobody has begun to start a container; False where it was started meanwhile."""
        if (created := seen.created) is None or self.record(names.started_record(job_id)) is None:
            return True
        for _ in range(LOOKS):
            if not self._retry.call(lambda: self._may_have_started(seen.id, created), self._log):
                return True
            sleep(LOOK_PAUSE)  # another worker may start it at this moment
            if (now := self.find(seen.id)) is None or now.was_started:
                return False
        raise JobConflict(
            f"The engine {self.engine.where} was ended while it started the container {seen.name}, and does not know "
            "whether the train runs or has run: end its processes on the engine's machine, remove the container, and "
            "run the task again."
        )

    def _may_have_started(self, container: str, created: datetime) -> bool:
        """Whether an engine that was killed may have started a container of which it says that it never did."""
        now = moment(self.engine.now()) or datetime.now(UTC)
        seen = self.engine.actions(container, int(created.timestamp()) - 1, int(now.timestamp()) + 1)
        return "create" not in seen or not seen.isdisjoint(_BEGINNINGS)

    def _remove_remains(self, taken: Conflict, attempt: int) -> None:
        """Remove what has a name and is no container: Podman leaves it where it is killed while it creates one."""
        holder = _HOLDER.search(str(taken))
        if attempt < CLAIMS - 2:  # another worker may create it at this moment, which takes less than the pauses
            return
        if holder is not None and self.find(holder[1]) is None:
            self._log.info(f"The engine has an unfinished container {holder[1]}, which is removed.")
            self._retry.call(lambda: self.engine.remove(holder[1]), self._log)

    def forget_start(self, job_id: str) -> None:
        """Remove the record that a job may have begun, after its container was given up."""
        self._remove_volume(names.started_record(job_id))

    def _remove_data(self, job_id: str) -> None:
        """Remove the job's data, but volumes that are in use, and the containers through which they were filled."""
        label, data = f"{names.JOB_ID}={job_id}", names.data_volume(job_id)
        for container in self._retry.call(lambda: self.engine.containers(label), self._log):
            if any(str(name).lstrip("/").startswith(data) for name in container.get("Names") or []):
                self._retry.call(lambda it=container["Id"]: self.engine.remove(it), self._log)  # type: ignore[misc]
        for volume in self._retry.call(lambda: self.engine.volumes(label), self._log):
            if volume.startswith(data):
                self._remove_volume(volume)

    def _remove_volume(self, volume: str) -> None:
        with suppress(Conflict):
            self._retry.call(lambda: self.engine.remove_volume(volume), self._log)

    def _check_unused(self, job_id: str) -> None:
        if self.record(names.started_record(job_id)) is not None:
            raise JobGone(
                f"The container of job {job_id} was removed from the engine {self.engine.where} by somebody, and "
                "nothing says how it ended."
            )

    def _start(self, job_id: str, container: str, labels: Mapping[str, str]) -> ContainerState | None:
        """Start a container that was just created; None where another worker has removed it meanwhile."""
        own = {name: labels[name] for name in (names.JOB_ID, names.DIGEST, names.COMMAND)}
        self._retry.call(lambda: self.engine.create_volume(names.started_record(job_id), own), self._log)
        if self.stop_reason(job_id) is not None:
            self._retry.call(lambda: self.engine.remove(container), self._log)
            self._remove_data(job_id)
            raise JobConflict(f"Job {job_id} was stopped before it was started.")
        try:
            self.engine.start(container)
        except Missing:
            seen = self.find(container)
            if seen is None or seen.ended:  # another worker removes it
                return None
            self.forget(job_id, container)  # it is there, and what it needs is not
            raise
        except ServiceUnavailable:
            # It may be starting. It must not be told so twice, since it may have ended by then.
            seen = self.find(container)
            return seen if seen is not None and seen.was_started else None
        except TrainingError:
            self.forget(job_id, container)
            raise
        return self.find(container)

    def forget(self, job_id: str, container: str) -> None:
        """Remove a job that never began, with all of its records."""
        self._retry.call(lambda: self.engine.remove(container), self._log)
        self._remove_data(job_id)
        for volume in (names.started_record(job_id), names.stop_record(job_id)):
            self._remove_volume(volume)

    def remove(self, job_id: str, status: JobStatus, result: Mapping[str, Any] | None = None) -> None:
        """Remove the container and the data of a job that has ended. A record of how it ended stays.

        :param result: What is worth keeping, such as the digest of the successor; left out where it is too large.
        """
        self.keep_end(job_id, status, result)
        for name in (names.container_name(job_id), names.successor_builder(job_id)):
            self._retry.call(lambda it=name: self.engine.remove(it), self._log)  # type: ignore[misc]
        self._remove_data(job_id)

    def keep_end(self, job_id: str, status: JobStatus, result: Mapping[str, Any] | None = None) -> None:
        """Record how a job ended. The first record stands."""
        text = json.dumps(result or {}, sort_keys=True)
        labels = {
            names.JOB_ID: job_id,
            names.STATUS: json.dumps(status.to_wire(), sort_keys=True),
            names.RESULT: text if len(text) <= LARGEST_RESULT else "{}",
        }
        self._retry.call(lambda: self.engine.create_volume(names.end_record(job_id), labels), self._log)

    def end_of(self, job_id: str) -> tuple[JobStatus, dict[str, Any]] | None:
        """Return how a job ended whose container was removed, and what was kept of it; None where nothing says it."""
        labels = self.record(names.end_record(job_id))
        if labels is None:
            return None
        status = JobStatus.model_validate(json.loads(labels[names.STATUS]))
        return status, dict(json.loads(labels.get(names.RESULT) or "{}"))

    def record(self, name: str) -> dict[str, str] | None:
        """Return the labels of a record; None where there is none."""
        found = self._retry.call(lambda: self.engine.volume(name), self._log)
        return None if found is None else {str(key): str(value) for key, value in (found.get("Labels") or {}).items()}

    def note_adoption(self, job_id: str, earlier: str) -> None:
        """Record that a job is an earlier one, which has ended. The first record stands."""
        labels = {names.JOB_ID: job_id, names.ADOPTED: earlier}
        self._retry.call(lambda: self.engine.create_volume(names.adoption_record(job_id), labels), self._log)

    def adopted_by(self, job_id: str) -> str | None:
        """Return the id of the earlier job that a job is; None where it is one of its own."""
        return (self.record(names.adoption_record(job_id)) or {}).get(names.ADOPTED)

    def note_stop(self, job_id: str, reason: str, message: str) -> None:
        """Record that a job is to be stopped. The first reason stands."""
        labels = {names.JOB_ID: job_id, names.BY: json.dumps([reason, message, datetime.now(UTC).isoformat()])}
        self.engine.create_volume(names.stop_record(job_id), labels)

    def stop_reason(self, job_id: str) -> tuple[str, str] | None:
        """Return why a job was to be stopped, as a reason and a sentence; None where it was not."""
        labels = self.record(names.stop_record(job_id))
        if labels is None:
            return None
        try:
            reason, message, _ = json.loads(labels[names.BY])
        except (KeyError, ValueError, TypeError):
            return Reason.STOPPED, ""
        return str(reason), str(message)


def check_own(seen: ContainerState, labels: Mapping[str, str]) -> None:
    """Refuse a container of our name that is not this job's.

    :raises BrokenContract: when it is somebody else's.
    :raises JobConflict: when it is the job's, with other content.
    """
    if seen.labels.get(names.JOB_ID) != labels[names.JOB_ID]:
        raise BrokenContract(
            f"The engine has a container {seen.name} that is not of this job (its label {names.JOB_ID} says "
            f"{seen.labels.get(names.JOB_ID)!r}): remove it."
        )
    if seen.labels.get(names.DIGEST) != labels[names.DIGEST]:
        raise JobConflict(
            f"The engine already has a container {seen.name} of this job, with another image, environment or data."
        )
