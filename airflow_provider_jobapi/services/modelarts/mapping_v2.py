# SPDX-License-Identifier: Apache-2.0
"""The dialect v2: a job has a UUID, a phase, and tasks with exit codes.

Its calls are those of the reference "Training Management".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.answer import Answer, sentence
from airflow_provider_jobapi.services.modelarts import engines, flavors
from airflow_provider_jobapi.services.modelarts.engines import CustomImage, Engine
from airflow_provider_jobapi.services.modelarts.flavors import Flavor
from airflow_provider_jobapi.services.modelarts.mapping import (
    SEARCH_PAGE,
    Details,
    Found,
    Key,
    Named,
    Plan,
    finished,
    part,
    refuse_reserved,
    without_nothing,
)
from airflow_provider_jobapi.services.modelarts.states import v2_state
from airflow_provider_jobapi.services.modelarts.wire import Call, content, maybe_number, merged, moment, objects, text
from airflow_provider_jobapi.training.status import JobState, JobStatus, Reason

_KILLED = 137
"""The exit code after a SIGKILL."""

_CAUSES: dict[int | None, int] = {_KILLED: 1, 143: 2, 0: 3, None: 3}
"""How late a task's exit code comes in question as the cause; any other is one. Where one task fails, the platform ends
the others, with SIGTERM and then SIGKILL."""

_OTHER_CODE = ("id", "subscription_id", "engine")


class V2:
    """The dialect v2; see :class:`~airflow_provider_jobapi.services.modelarts.mapping.Dialect`."""

    version = "v2"

    def flavors(self) -> Call:
        """Ask for the flavours."""
        return Call("GET", "v2", "/training-job-flavors", "the list of its flavours")

    def read_flavors(self, answer: Answer) -> list[Flavor]:
        """The flavours."""
        return flavors.read_v2(objects(content(answer).get("flavors"), "flavours"))

    def engines(self) -> Call:
        """Ask for the engines."""
        return Call("GET", "v2", "/training-job-engines", "the list of its engines")

    def read_engines(self, answer: Answer) -> list[Engine]:
        """The engines."""
        body = content(answer)
        return engines.read(objects(body.get("items", body.get("engines")), "engines"))

    def check(self, more: Mapping[str, Any]) -> Named:
        """Which of our own choices the DAG's options replace."""
        algorithm, resource = part(more, "algorithm"), part(part(more, "spec"), "resource")
        refuse_reserved(part(more, "metadata"), ("name", "description", "id", "workspace_id"), "metadata.")
        refuse_reserved(algorithm, ("outputs",), "algorithm.")
        return Named(
            flavor=any(name in resource for name in ("flavor_id", "pool_id")),
            engine=any(name in algorithm for name in _OTHER_CODE),
        )

    def create(self, plan: Plan) -> Call:
        """Create a job."""
        given = part(plan.more, "algorithm")
        algorithm: dict[str, Any] = {
            "parameters": [{"name": name, "value": value} for name, value in plan.parameters],
            "inputs": [_place("data_url", plan.data)],
            "outputs": [_place("train_url", plan.output)],
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
        return Call("POST", "v2", "/training-jobs", subject, body=without_nothing(merged(body, more)), idempotent=False)

    def read_created(self, answer: Answer) -> Key:
        """The job that was created."""
        return _key(content(answer))

    def search(self, job_id: str, workspace_id: str, page: int) -> Call:
        """Search for the jobs whose name holds our id."""
        filters = [{"key": "name", "operator": "like", "value": [job_id]}]
        body = {"offset": page, "limit": SEARCH_PAGE, "filters": filters}
        body |= {} if workspace_id == "0" else {"workspace_id": workspace_id}
        return Call("POST", "v2", "/training-job-searches", "the list of its jobs", body=body)

    def read_search(self, answer: Answer) -> Sequence[Found]:
        """One page of what was found."""
        found = objects(content(answer).get("items") or [], "jobs")
        jobs = [(each, _object(each.get("metadata"))) for each in found]
        return [Found(_key(job), text(about.get("name")), text(about.get("description"))) for job, about in jobs]

    def details(self, key: Key) -> Call:
        """Ask where a job stands."""
        return Call("GET", "v2", _path(key), _subject(key))

    def read_details(self, answer: Answer) -> Details:
        """Where it stands."""
        body = content(answer)
        about, standing = _object(body.get("metadata")), _object(body.get("status"))
        word = text(standing.get("phase"))
        if not word:
            raise BrokenContract("ModelArts sent a job without a phase; check the connection's host and dialect.")
        state = v2_state(word)
        created, started = moment(about.get("create_time")), moment(standing.get("start_time"))
        duration = maybe_number(standing.get("duration"))
        code, said = _verdict(standing)
        status = JobStatus(
            container_id=text(about.get("id")),
            name=text(about.get("name")),
            status=state,
            submission_time=created,
            start_time=started,
            finish_time=finished(state, started or created, duration),
            message=_message(word, text(standing.get("secondary_phase")), state, said),
            reason=_reason(word, state, code),
            exit_code=code if state.ended else None,
        )
        return Details(
            status,
            word,
            maybe_number(_object(_object(body.get("spec")).get("resource")).get("node_count")) or 1,
            _output(body),
            _tasks(standing.get("tasks")),
        )

    def stop(self, key: Key) -> Call:
        """Stop a job."""
        return Call("POST", "v2", f"{_path(key)}/actions", _subject(key), body={"action_type": "terminate"})

    def delete(self, key: Key) -> Call:
        """Delete a job."""
        return Call("DELETE", "v2", _path(key), _subject(key))

    def logs(self, key: Key) -> Call | None:  # noqa: ARG002 -- the details tell it
        """The details tell it."""
        return None

    def read_logs(self, answer: Answer) -> tuple[str, ...]:
        """The details tell it."""
        raise NotImplementedError

    def tail(self, key: Key, log: str, lines: int) -> Call:  # noqa: ARG002 -- the API decides how much it shows
        """Ask for the last 5 MB of a task's log."""
        return Call("GET", "v2", f"{_path(key)}/tasks/{log}/logs/preview", f"the log of {_subject(key)}")

    def read_tail(self, answer: Answer) -> tuple[str, ...]:
        """The lines of it."""
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


def _place(name: str, url: str) -> dict[str, Any]:
    return {"name": name, "remote": {"obs": {"obs_url": url}}}


def _verdict(standing: Mapping[str, Any]) -> tuple[int | None, str]:
    """The exit code and the words of the task that failed by itself, else of the first."""
    told = [each for each in standing.get("task_statuses") or () if isinstance(each, dict)]
    coded = [(each, maybe_number(each.get("exit_code"))) for each in told]
    coded.sort(key=lambda pair: _CAUSES.get(pair[1], 0))
    if not coded:
        return None, ""
    task, code = coded[0]
    said = sentence(task.get("message") or "").rstrip(".")
    return code, f"{text(task.get('task')) or 'a task'}: {said}." if said else ""


def _tasks(named: object) -> tuple[str, ...]:
    """Whose logs there are: a list in the reference; a text of one is read as well."""
    names = named if isinstance(named, list) else [named]
    return tuple(text(each) for each in names if text(each))


def _message(word: str, more: str, state: JobState, said: str) -> str:
    if state is JobState.SUCCESSFUL:
        return ""
    if state is JobState.STOPPED:
        return f"on ModelArts ({word}), which does not say by whom."
    detail = f" ({more})" if more and more.lower() != word.lower() else ""
    return f"ModelArts says {word}{detail}. {said}".strip()


def _reason(word: str, state: JobState, code: int | None) -> str | None:
    if state is JobState.FAILED and code:
        # A process of a container that has no memory left is killed by the kernel, and nobody else kills one so.
        return Reason.OUT_OF_MEMORY if code == _KILLED else Reason.NON_ZERO_EXIT
    if state is JobState.STOPPED or word.strip().lower() == "terminating":
        return Reason.STOPPED
    return word if state is JobState.FAILED else None


def _output(body: Mapping[str, Any]) -> str:
    outputs: Iterable[Any] = _object(body.get("algorithm")).get("outputs") or ()
    for each in outputs:
        if isinstance(each, dict) and each.get("name") == "train_url":
            return text(_object(_object(each.get("remote")).get("obs")).get("obs_url"))
    return ""


def _key(job: Mapping[str, Any]) -> Key:
    found = text(_object(job.get("metadata")).get("id"))
    if not found:
        raise BrokenContract("ModelArts sent a job without an id; check the connection's host and dialect.")
    return Key(found)


def _path(key: Key) -> str:
    return f"/training-jobs/{key.id}"


def _subject(key: Key) -> str:
    return f"the job {key.id}"


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
