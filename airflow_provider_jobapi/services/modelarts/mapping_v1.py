# SPDX-License-Identifier: Apache-2.0
"""The dialect v1: a job has a number, versions, and a status code.

Its calls are those of the documents' procedure "Creating a Training Job Using the TensorFlow Framework" and of the
reference "Training Management (Old Version)".
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_provider_jobapi.services.answer import Answer, sentence
from airflow_provider_jobapi.services.modelarts import engines, flavors, pages
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
from airflow_provider_jobapi.services.modelarts.states import v1_state
from airflow_provider_jobapi.services.modelarts.wire import (
    Call,
    content,
    maybe_number,
    merged,
    moment,
    number,
    objects,
    text,
)
from airflow_provider_jobapi.training.status import JobState, JobStatus, Reason

_ELSEWHERE = ("spec_id", "pool_id", "flavor")
_OTHER_CODE = ("engine_id", "model_id", "user_image_url")
_OTHER_DATA = ("data_source", "data_url", "dataset_id", "dataset_version_id")
_REASONS = {
    "KILLING": Reason.STOPPED,
    "KILLED": Reason.STOPPED,
    "CANCELED": Reason.STOPPED,
    "LOST": Reason.LOST,
    "IMAGE_FAILED": Reason.ENVIRONMENT_FAILED,
}
_CODE_DIRECTORY = "/home/work/user-job-dir"


class V1:
    """The dialect v1; see :class:`~airflow_provider_jobapi.services.modelarts.mapping.Dialect`."""

    version = "v1"

    def flavors(self) -> Call:
        """Ask for the flavours."""
        return Call("GET", "v1", "/job/resource-specs", "the list of its flavours", {"job_type": "train"})

    def read_flavors(self, answer: Answer) -> list[Flavor]:
        """The flavours."""
        return flavors.read_v1(objects(content(answer).get("specs"), "flavours"))

    def engines(self) -> Call:
        """Ask for the engines."""
        return Call("GET", "v1", "/job/ai-engines", "the list of its engines", {"job_type": "train"})

    def read_engines(self, answer: Answer) -> list[Engine]:
        """The engines."""
        return engines.read(objects(content(answer).get("engines"), "engines"))

    def check(self, more: Mapping[str, Any]) -> Named:
        """Which of our own choices the DAG's options replace."""
        config = part(more, "config")
        refuse_reserved(more, ("job_name", "job_desc", "workspace_id"), "")
        refuse_reserved(config, ("train_url", "create_version"), "config.")
        return Named(
            flavor=any(name in config for name in _ELSEWHERE),
            engine=any(name in config for name in _OTHER_CODE),
        )

    def create(self, plan: Plan) -> Call:
        """Create a job."""
        config = part(plan.more, "config")
        own: dict[str, Any] = {
            "worker_server_num": plan.nodes,
            "parameter": [{"label": label, "value": value} for label, value in _parameters(plan)],
            "train_url": plan.output,
        }
        if plan.flavor is not None:
            own["flavor"] = {"code": plan.flavor}
        if not any(name in config for name in _OTHER_DATA):
            own["data_source"] = [{"type": "obs", "data_url": plan.data}]
        if "model_id" not in config:
            own |= {"app_url": plan.code, "boot_file_url": plan.code + plan.boot_file} | _engine(plan)
        if isinstance(config.get("parameter"), list):
            own["parameter"] += config["parameter"]
            config = {name: value for name, value in config.items() if name != "parameter"}
        body = {
            "job_name": plan.name,
            "job_desc": plan.description,
            "config": merged(own, config),
            "workspace_id": plan.workspace_id,
        }
        more = {name: value for name, value in plan.more.items() if name != "config"}
        subject = f"the job {plan.name}"
        return Call("POST", "v1", "/training-jobs", subject, body=without_nothing(merged(body, more)), idempotent=False)

    def read_created(self, answer: Answer) -> Key:
        """The job that was created."""
        body = content(answer)
        return _key(body)

    def search(self, job_id: str, workspace_id: str, page: int) -> Call:
        """Search for the jobs whose name holds our id."""
        params = {"search_content": job_id, "per_page": str(SEARCH_PAGE), "page": str(page + 1)}
        params |= {"workspace_id": workspace_id}
        return Call("GET", "v1", "/training-jobs", "the list of its jobs", params)

    def read_search(self, answer: Answer) -> Sequence[Found]:
        """One page of what was found."""
        found = objects(content(answer).get("jobs") or [], "jobs")
        return [Found(_key(each), text(each.get("job_name")), text(each.get("job_desc"))) for each in found]

    def details(self, key: Key) -> Call:
        """Ask where a job stands."""
        return Call("GET", "v1", _path(key), _subject(key))

    def read_details(self, answer: Answer) -> Details:
        """Where it stands."""
        body = content(answer)
        word, state = v1_state(number(body.get("status"), "a job's status"))
        created, started = moment(body.get("create_time")), moment(body.get("start_time"))
        said = sentence(body.get("error_result") or "")
        status = JobStatus(
            container_id=text(body.get("resource_id")),
            name=text(body.get("job_name")),
            status=state,
            submission_time=created,
            start_time=started,
            finish_time=finished(state, started or created, maybe_number(body.get("duration"))),
            message=said or _message(word, state),
            reason=_REASONS.get(word, word if state.ended and state is not JobState.SUCCESSFUL else None),
        )
        return Details(
            status,
            word,
            maybe_number(body.get("worker_server_num")) or 1,
            text(body.get("train_url")),
        )

    def stop(self, key: Key) -> Call:
        """Stop a job."""
        return Call("POST", "v1", f"{_path(key)}/stop", _subject(key))

    def delete(self, key: Key) -> Call:
        """Delete a job with its versions; the documents' procedure prints GET, its reference DELETE."""
        return Call("DELETE", "v1", f"/training-jobs/{key.id}", _subject(key))

    def logs(self, key: Key) -> Call | None:
        """Ask for the names of the log files, one a node."""
        return Call("GET", "v1", f"{_path(key)}/log/file-names", f"the log of {_subject(key)}")

    def read_logs(self, answer: Answer) -> tuple[str, ...]:
        """The names of the log files: a list in the procedure, a text in the reference's table."""
        named = content(answer).get("log_file_list") or []
        names = named if isinstance(named, list) else str(named).strip("[] ").replace('"', "").split(",")
        return tuple(str(name).strip() for name in names if str(name).strip())

    def tail(self, key: Key, log: str, lines: int) -> Call:
        """Ask for the end of a log; without a base the documents' ``desc`` means the latest lines."""
        params = {"log_file": log, "lines": str(min(500, max(1, lines))), "order": "desc"}
        return Call("GET", "v1", f"{_path(key)}/aom-log", f"the log of {_subject(key)}", params)

    def read_tail(self, answer: Answer) -> tuple[str, ...]:
        """The lines of it."""
        body = content(answer)
        written, count = text(body.get("content")), maybe_number(body.get("lines"))
        return () if count == 0 or (not written and count != 1) else pages.split(written, count)[0]


def _engine(plan: Plan) -> dict[str, Any]:
    if plan.engine is None:
        return {}
    if isinstance(plan.engine, CustomImage):
        folder = plan.code.rstrip("/").rpartition("/")[2]
        command = ["python3", f"{_CODE_DIRECTORY}/{folder}/{plan.boot_file}"]
        command += [f"--data_url={_for_a_program(plan.data)}", f"--train_url={_for_a_program(plan.output)}"]
        command += [f"--{name}={value}" for name, value in plan.parameters]
        return {"user_image_url": plan.engine.url, "user_command": shlex.join(command)}
    return {"engine_id": plan.engine.id}


def _parameters(plan: Plan) -> Iterable[tuple[str, str]]:
    """Arguments for the boot file of an engine; variables, as the reference says, for an image of the user's."""
    return plan.env if isinstance(plan.engine, CustomImage) else plan.parameters


def _for_a_program(url: str) -> str:
    """A folder of OBS as the API gives it to boot files."""
    return f"s3://{url.lstrip('/')}"


def _message(word: str, state: JobState) -> str:
    if state is JobState.FAILED:
        return f"ModelArts says {word} and not why; the end of its log may tell."
    if state is JobState.STOPPED:
        return f"on ModelArts ({word}), which does not say by whom."
    return "" if state is JobState.SUCCESSFUL else f"ModelArts says {word}."


def _key(body: dict[str, Any]) -> Key:
    return Key(
        str(number(body.get("job_id"), "a job's id")), str(number(body.get("version_id"), "the id of a job's version"))
    )


def _path(key: Key) -> str:
    return f"/training-jobs/{key.id}/versions/{key.version}"


def _subject(key: Key) -> str:
    return f"the job {key.id}"
