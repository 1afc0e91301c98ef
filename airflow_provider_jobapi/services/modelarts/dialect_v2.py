# SPDX-License-Identifier: Apache-2.0
"""Version 2 of the API: a job has a UUID, a phase, and tasks with exit codes.

The requests are those of the reference "Training Management".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.answer import Answer, sentence
from airflow_provider_jobapi.services.modelarts.calls import (
    Call,
    as_object,
    content,
    maybe_number,
    merged,
    objects,
    text,
    timestamp,
)
from airflow_provider_jobapi.services.modelarts.catalogue import (
    CustomImage,
    Flavor,
    ModelArtsEngine,
    read_engines,
    read_v2_flavors,
)
from airflow_provider_jobapi.services.modelarts.dialect_base import (
    SEARCH_PAGE,
    FoundJob,
    JobDetails,
    ModelArtsKey,
    Overrides,
    finish_time,
    nested,
    refuse_reserved,
    without_nulls,
)
from airflow_provider_jobapi.services.modelarts.plan import Plan
from airflow_provider_jobapi.training.status import JobState, JobStatus, Reason

STATES: dict[str, JobState] = {
    "creating": JobState.PENDING,
    "pending": JobState.PENDING,
    "running": JobState.RUNNING,
    "failed": JobState.FAILED,
    "completed": JobState.SUCCESSFUL,
    "terminating": JobState.RUNNING,
    "terminated": JobState.STOPPED,
    "abnormal": JobState.FAILED,
}
"""Meaning of each phase, by its name in lower case."""

_SIGKILL_EXIT_CODE = 137

_CAUSE_RANK: dict[int | None, int] = {_SIGKILL_EXIT_CODE: 1, 143: 2, 0: 3, None: 3}
"""Rank of a task's exit code as the cause of a failure; every other code has rank 0 and comes first. When one task
fails, the platform ends the other tasks with SIGTERM and then SIGKILL."""

_ALGORITHM_FIELDS = ("id", "subscription_id", "engine")


def job_state(phase: str) -> JobState:
    """Return the meaning of a phase. A phase that is not documented does not end a job."""
    return STATES.get(phase.strip().lower(), JobState.UNKNOWN)


class V2:
    """Version 2 of the API; see :class:`~airflow_provider_jobapi.services.modelarts.dialect_base.Dialect`."""

    version = "v2"

    def flavors(self) -> Call:
        """Build the request for the flavours."""
        return Call("GET", "v2", "/training-job-flavors", "the list of its flavours")

    def read_flavors(self, answer: Answer) -> list[Flavor]:
        """Parse the flavours."""
        return read_v2_flavors(objects(content(answer).get("flavors"), "flavours"))

    def engines(self) -> Call:
        """Build the request for the engines."""
        return Call("GET", "v2", "/training-job-engines", "the list of its engines")

    def read_engines(self, answer: Answer) -> list[ModelArtsEngine]:
        """Parse the engines."""
        body = content(answer)
        return read_engines(objects(body.get("items", body.get("engines")), "engines"))

    def overrides(self, more: Mapping[str, Any]) -> Overrides:
        """Return which choices the DAG's own request fields replace."""
        algorithm, resource = nested(more, "algorithm"), nested(nested(more, "spec"), "resource")
        refuse_reserved(nested(more, "metadata"), ("name", "description", "id", "workspace_id"), "metadata.")
        refuse_reserved(algorithm, ("outputs",), "algorithm.")
        return Overrides(
            flavor=any(name in resource for name in ("flavor_id", "pool_id")),
            engine=any(name in algorithm for name in _ALGORITHM_FIELDS),
            nodes=maybe_number(resource.get("node_count")),
        )

    def create(self, plan: Plan) -> Sequence[Call]:
        """Build the request that creates a job."""
        given = nested(plan.more, "algorithm")
        algorithm: dict[str, Any] = {
            "parameters": [{"name": name, "value": value} for name, value in plan.parameters],
            "inputs": [_channel("data_url", plan.data)],
            "outputs": [_channel("train_url", plan.output)],
        }
        if not any(name in given for name in ("id", "subscription_id")):
            algorithm |= _code(plan)
        if isinstance(given.get("parameters"), list):
            algorithm["parameters"] += given["parameters"]
            given = {name: value for name, value in given.items() if name != "parameters"}
        resource = {"node_count": plan.nodes} | ({} if plan.flavor is None else {"flavor_id": plan.flavor})
        body = {
            "kind": "job",
            "metadata": {
                "name": plan.name,
                "description": plan.description,
                "workspace_id": plan.workspace_id,
            },
            "algorithm": merged(algorithm, given),
            "spec": {"resource": resource},
        }
        more = {name: value for name, value in plan.more.items() if name != "algorithm"}
        subject = f"the job {plan.name}"
        body = without_nulls(merged(body, more))
        return [Call("POST", "v2", "/training-jobs", subject, body=body, idempotent=False)]

    def read_created(self, answer: Answer) -> ModelArtsKey:
        """Parse the keys of the created job."""
        return _key(content(answer))

    def search(self, job_id: str, workspace_id: str, page: int, page_size: int = SEARCH_PAGE) -> Call:
        """Build the request for the jobs whose name contains a job id."""
        filters = [{"key": "name", "operator": "like", "value": [job_id]}]
        body = {"offset": page, "limit": page_size, "filters": filters}
        body |= {} if workspace_id == "0" else {"workspace_id": workspace_id}
        return Call("POST", "v2", "/training-job-searches", "the list of its jobs", body=body)

    def read_search(self, answer: Answer) -> Sequence[FoundJob]:
        """Parse one page of a search."""
        found = objects(content(answer).get("items") or [], "jobs")
        jobs = [(_key(each), as_object(each.get("metadata"))) for each in found]
        return [FoundJob(key, text(data.get("name")), text(data.get("description"))) for key, data in jobs]

    def details(self, key: ModelArtsKey) -> Call:
        """Build the request for the state of a job."""
        return Call("GET", "v2", _path(key), _subject(key))

    def read_details(self, answer: Answer) -> JobDetails:
        """Parse the state of a job."""
        body = content(answer)
        metadata, reported = as_object(body.get("metadata")), as_object(body.get("status"))
        phase = text(reported.get("phase"))
        if not phase:
            raise BrokenContract("ModelArts sent a job without a phase; check the connection's host and dialect.")
        state = job_state(phase)
        created, started = timestamp(metadata.get("create_time")), timestamp(reported.get("start_time"))
        duration = maybe_number(reported.get("duration"))
        code, message = _exit_code(reported)
        status = JobStatus(
            container_id=text(metadata.get("id")),
            name=text(metadata.get("name")),
            status=state,
            submission_time=created,
            start_time=started,
            finish_time=finish_time(state, started or created, duration),
            message=_message(phase, text(reported.get("secondary_phase")), state, message),
            reason=_reason(phase, state, code),
            exit_code=code if state.ended else None,
        )
        return JobDetails(
            status,
            phase,
            maybe_number(as_object(as_object(body.get("spec")).get("resource")).get("node_count")) or 1,
            _output(body),
            _tasks(reported.get("tasks")),
        )

    def stop(self, key: ModelArtsKey) -> Call:
        """Build the request that stops a job."""
        return Call("POST", "v2", f"{_path(key)}/actions", _subject(key), body={"action_type": "terminate"})

    def delete(self, key: ModelArtsKey) -> Call:
        """Build the request that deletes a job."""
        return Call("DELETE", "v2", _path(key), _subject(key))

    def logs(self, key: ModelArtsKey) -> Call | None:  # noqa: ARG002 -- the details have them
        """Return None: the details contain the names of the logs."""
        return None

    def read_logs(self, answer: Answer) -> tuple[str, ...]:
        """Not used in this dialect."""
        raise NotImplementedError

    def tail(self, key: ModelArtsKey, log: str, lines: int) -> Call:  # noqa: ARG002 -- the API decides how much it shows
        """Build the request for the last 5 MB of a task's log."""
        return Call("GET", "v2", f"{_path(key)}/tasks/{log}/logs/preview", f"the log of {_subject(key)}")

    def read_tail(self, answer: Answer) -> tuple[str, ...]:
        """Parse the lines."""
        written = text(content(answer).get("content"))
        return tuple(written.removesuffix("\n").split("\n")) if written else ()


def _code(plan: Plan) -> dict[str, Any]:
    code = {"code_dir": plan.code, "boot_file": plan.code + plan.boot_file}
    if isinstance(plan.engine, CustomImage):
        folder = plan.code.rstrip("/").rpartition("/")[2]
        command = f'python3 "${{MA_JOB_DIR}}/{folder}/{plan.boot_file}"'
        return {"code_dir": plan.code, "command": command, "engine": {"image_url": plan.engine.url}}
    if plan.engine is None:
        return code
    engine = {"engine_id": plan.engine.id, "engine_name": plan.engine.name, "engine_version": plan.engine.version}
    return code | {"engine": {name: value for name, value in engine.items() if value}}


def _channel(name: str, url: str) -> dict[str, Any]:
    return {"name": name, "remote": {"obs": {"obs_url": url}}}


def _exit_code(reported: Mapping[str, Any]) -> tuple[int | None, str]:
    """Return exit code and message of the task that caused the failure, or else of the first task."""
    tasks = [each for each in reported.get("task_statuses") or () if isinstance(each, dict)]
    codes = [(each, maybe_number(each.get("exit_code"))) for each in tasks]
    codes.sort(key=lambda pair: _CAUSE_RANK.get(pair[1], 0))
    if not codes:
        return None, ""
    task, code = codes[0]
    message = sentence(task.get("message") or "").rstrip(".")
    return code, f"{text(task.get('task')) or 'a task'}: {message}." if message else ""


def _tasks(named: object) -> tuple[str, ...]:
    """Return the names of the logs: a list in the reference; a single string is accepted as well."""
    names = named if isinstance(named, list) else [named]
    return tuple(text(each) for each in names if text(each))


def _message(phase: str, secondary: str, state: JobState, message: str) -> str:
    if state is JobState.SUCCESSFUL:
        return ""
    if state is JobState.STOPPED:
        return f"on ModelArts ({phase}), which does not report by whom."
    detail = f" ({secondary})" if secondary and secondary.lower() != phase.lower() else ""
    return f"ModelArts reports {phase}{detail}. {message}".strip()


def _reason(phase: str, state: JobState, code: int | None) -> str | None:
    if state is JobState.FAILED and code:
        # The kernel kills a process of a container that has no memory left; nothing else kills one with SIGKILL.
        return Reason.OUT_OF_MEMORY if code == _SIGKILL_EXIT_CODE else Reason.NON_ZERO_EXIT
    if state is JobState.STOPPED or phase.strip().lower() == "terminating":
        return Reason.STOPPED
    return phase if state is JobState.FAILED else None


def _output(body: Mapping[str, Any]) -> str:
    outputs: Iterable[Any] = as_object(body.get("algorithm")).get("outputs") or ()
    for each in outputs:
        if isinstance(each, dict) and each.get("name") == "train_url":
            return text(as_object(as_object(each.get("remote")).get("obs")).get("obs_url"))
    return ""


def _key(job: Mapping[str, Any]) -> ModelArtsKey:
    found = text(as_object(job.get("metadata")).get("id"))
    if not found:
        raise BrokenContract("ModelArts sent a job without an id; check the connection's host and dialect.")
    return ModelArtsKey(found)


def _path(key: ModelArtsKey) -> str:
    return f"/training-jobs/{key.id}"


def _subject(key: ModelArtsKey) -> str:
    return f"the job {key.id}"
