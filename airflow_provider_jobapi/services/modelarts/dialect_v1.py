# SPDX-License-Identifier: Apache-2.0
"""Version 1 of the API: a job has a number, versions, and a status code.

The requests are those of the procedure "Creating a Training Job Using the TensorFlow Framework" and of the reference
"Training Management (Old Version)".
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_provider_jobapi.services.answer import Answer, sentence
from airflow_provider_jobapi.services.modelarts.calls import (
    Call,
    content,
    maybe_number,
    merged,
    number,
    objects,
    text,
    timestamp,
)
from airflow_provider_jobapi.services.modelarts.catalogue import (
    CustomImage,
    Flavor,
    ModelArtsEngine,
    read_engines,
    read_v1_flavors,
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
from airflow_provider_jobapi.services.modelarts.page_format import split_lines
from airflow_provider_jobapi.services.modelarts.plan import Plan
from airflow_provider_jobapi.training.status import JobState, JobStatus, Reason

_P, _R, _S, _F, _X = JobState.PENDING, JobState.RUNNING, JobState.SUCCESSFUL, JobState.FAILED, JobState.STOPPED

STATES: dict[int, tuple[str, JobState]] = {
    0: ("UNKNOWN", JobState.UNKNOWN),
    1: ("INIT", _P),
    2: ("IMAGE_CREATING", _P),
    3: ("IMAGE_FAILED", _F),
    4: ("SUBMIT_TRYING", _P),
    5: ("SUBMIT_FAILED", _F),
    6: ("DELETE_FAILED", _F),
    7: ("WAITING", _P),
    8: ("RUNNING", _R),
    9: ("KILLING", _R),
    10: ("COMPLETED", _S),
    11: ("FAILED", _F),
    12: ("KILLED", _X),
    13: ("CANCELED", _X),
    14: ("LOST", _F),
    15: ("SCALING", _R),
    16: ("SUBMIT_MODEL_FAILED", _F),
    17: ("DEPLOY_SERVICE_FAILED", _F),
    18: ("CHECK_INIT", _P),
    19: ("CHECK_RUNNING", _R),
    20: ("CHECK_RUNNING_COMPLETED", _R),
    21: ("CHECK_FAILED", _F),
}
"""Name and meaning of each status code, from the API's appendix "Job Statuses". Only 10 is documented as success; 20
means that a check has ended, not the training; 6 that a failed job still exists."""

_FLAVOR_FIELDS = ("spec_id", "pool_id", "flavor")
_ENGINE_FIELDS = ("engine_id", "model_id", "user_image_url")
_DATA_FIELDS = ("data_source", "data_url", "dataset_id", "dataset_version_id")
_REASONS = {
    "KILLING": Reason.STOPPED,
    "KILLED": Reason.STOPPED,
    "CANCELED": Reason.STOPPED,
    "LOST": Reason.LOST,
    "IMAGE_FAILED": Reason.ENVIRONMENT_FAILED,
}
_CODE_DIRECTORY = "/home/work/user-job-dir"
_RUN_TRAIN = ("bash", "/home/work/run_train.sh")
"""What the command of a custom image begins with, as the reference prescribes: this script of the platform downloads
the code and sets the keys to OBS. Without it the container has neither."""


def job_state(code: int | None) -> tuple[str, JobState]:
    """Return the name and the meaning of a status code. A code that is not documented does not end a job."""
    return STATES.get(-1 if code is None else code, (f"status {code}", JobState.UNKNOWN))


class V1:
    """Version 1 of the API; see :class:`~airflow_provider_jobapi.services.modelarts.dialect_base.Dialect`."""

    version = "v1"

    def flavors(self) -> Call:
        """Build the request for the flavours."""
        return Call("GET", "v1", "/job/resource-specs", "the list of its flavours", {"job_type": "train"})

    def read_flavors(self, answer: Answer) -> list[Flavor]:
        """Parse the flavours."""
        return read_v1_flavors(objects(content(answer).get("specs"), "flavours"))

    def engines(self) -> Call:
        """Build the request for the engines."""
        return Call("GET", "v1", "/job/ai-engines", "the list of its engines", {"job_type": "train"})

    def read_engines(self, answer: Answer) -> list[ModelArtsEngine]:
        """Parse the engines."""
        return read_engines(objects(content(answer).get("engines"), "engines"))

    def overrides(self, more: Mapping[str, Any]) -> Overrides:
        """Return which choices the DAG's own request fields replace."""
        config = nested(more, "config")
        refuse_reserved(more, ("job_name", "job_desc", "workspace_id"), "")
        refuse_reserved(config, ("train_url", "create_version"), "config.")
        return Overrides(
            flavor=any(name in config for name in _FLAVOR_FIELDS),
            engine=any(name in config for name in _ENGINE_FIELDS),
            nodes=maybe_number(config.get("worker_server_num")),
        )

    def create(self, plan: Plan) -> Sequence[Call]:
        """Build the request that creates a job: with the flavour's code, as in the procedure, and with its ``spec_id``,
        which the reference calls mandatory and which cannot stand beside the code.
        """
        if plan.flavor is None:
            return [_create(plan, {})]
        named: list[dict[str, Any]] = [{"flavor": {"code": plan.flavor}}]
        named += [] if plan.spec_id is None else [{"spec_id": plan.spec_id}]
        return [_create(plan, flavor) for flavor in named]

    def read_created(self, answer: Answer) -> ModelArtsKey:
        """Parse the keys of the created job."""
        return _key(content(answer))

    def search(self, job_id: str, workspace_id: str, page: int, page_size: int = SEARCH_PAGE) -> Call:
        """Build the request for the jobs whose name contains a job id."""
        params = {"search_content": job_id, "per_page": str(page_size), "page": str(page + 1)}
        params |= {"workspace_id": workspace_id}
        return Call("GET", "v1", "/training-jobs", "the list of its jobs", params)

    def read_search(self, answer: Answer) -> Sequence[FoundJob]:
        """Parse one page of a search."""
        found = objects(content(answer).get("jobs") or [], "jobs")
        return [FoundJob(_key(each), text(each.get("job_name")), text(each.get("job_desc"))) for each in found]

    def details(self, key: ModelArtsKey) -> Call:
        """Build the request for the state of a job."""
        return Call("GET", "v1", _path(key), _subject(key))

    def read_details(self, answer: Answer) -> JobDetails:
        """Parse the state of a job."""
        body = content(answer)
        phase, state = job_state(number(body.get("status"), "a job's status"))
        created, started = timestamp(body.get("create_time")), timestamp(body.get("start_time"))
        message = sentence(body.get("error_result") or "")
        status = JobStatus(
            container_id=text(body.get("resource_id")),
            name=text(body.get("job_name")),
            status=state,
            submission_time=created,
            start_time=started,
            finish_time=finish_time(state, started or created, maybe_number(body.get("duration"))),
            message=message or _message(phase, state, began=started is not None),
            reason=_REASONS.get(phase, phase if state.ended and state is not JobState.SUCCESSFUL else None),
        )
        return JobDetails(
            status,
            phase,
            maybe_number(body.get("worker_server_num")) or 1,
            text(body.get("train_url")),
        )

    def stop(self, key: ModelArtsKey) -> Call:
        """Build the request that stops a job."""
        return Call("POST", "v1", f"{_path(key)}/stop", _subject(key))

    def delete(self, key: ModelArtsKey) -> Call:
        """Build the request that deletes a job with its versions (DELETE; the procedure prints GET)."""
        return Call("DELETE", "v1", f"/training-jobs/{key.id}", _subject(key))

    def logs(self, key: ModelArtsKey) -> Call | None:
        """Build the request for the names of the log files, one for each node."""
        return Call("GET", "v1", f"{_path(key)}/log/file-names", f"the log of {_subject(key)}")

    def read_logs(self, answer: Answer) -> tuple[str, ...]:
        """Parse the names of the log files: a list in the procedure, a string in the reference."""
        named = content(answer).get("log_file_list") or []
        names = named if isinstance(named, list) else str(named).strip("[] ").replace('"', "").split(",")
        return tuple(str(name).strip() for name in names if str(name).strip())

    def tail(self, key: ModelArtsKey, log: str, lines: int) -> Call:
        """Build the request for the end of a log: ``desc`` without ``base_line`` means the latest lines."""
        params = {"log_file": log, "lines": str(min(500, max(1, lines))), "order": "desc"}
        return Call("GET", "v1", f"{_path(key)}/aom-log", f"the log of {_subject(key)}", params)

    def read_tail(self, answer: Answer) -> tuple[str, ...]:
        """Parse the lines."""
        body = content(answer)
        written, count = text(body.get("content")), maybe_number(body.get("lines"))
        return () if count == 0 or (not written and count != 1) else split_lines(written, count)[0]


def _create(plan: Plan, flavor: Mapping[str, Any]) -> Call:
    config = nested(plan.more, "config")
    own: dict[str, Any] = {
        "worker_server_num": plan.nodes,
        "parameter": [{"label": label, "value": value} for label, value in _parameters(plan)],
        "train_url": plan.output,
    } | dict(flavor)
    if not any(name in config for name in _DATA_FIELDS):
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
    return Call("POST", "v1", "/training-jobs", subject, body=without_nulls(merged(body, more)), idempotent=False)


def _engine(plan: Plan) -> dict[str, Any]:
    if plan.engine is None:
        return {}
    if isinstance(plan.engine, CustomImage):
        folder = plan.code.rstrip("/").rpartition("/")[2]
        command = [*_RUN_TRAIN, "python3", f"{_CODE_DIRECTORY}/{folder}/{plan.boot_file}"]
        command += [f"--data_url={_s3_url(plan.data)}", f"--train_url={_s3_url(plan.output)}"]
        command += [f"--{name}={value}" for name, value in plan.parameters]
        return {"user_image_url": plan.engine.url, "user_command": shlex.join(command)}
    # A number, also where the list has it as a string, as the samples of the reference have other ids.
    found = maybe_number(plan.engine.id)
    return {"engine_id": plan.engine.id if found is None else found}


def _parameters(plan: Plan) -> Iterable[tuple[str, str]]:
    """Return the parameters: arguments of the boot file for an engine, environment variables for a custom image."""
    return plan.env if isinstance(plan.engine, CustomImage) else plan.parameters


def _s3_url(url: str) -> str:
    """Return an OBS folder in the form in which ModelArts passes it to boot files."""
    return f"s3://{url.lstrip('/')}"


_BEFORE_THE_RUN = {
    "IMAGE_FAILED": "check the image, and that ModelArts may pull it",
    "SUBMIT_FAILED": "check quotas and free machines of the flavour in ModelArts' console, and run the task again",
}
"""What to do about failures before the job's code runs, so that it has no log."""


def _message(phase: str, state: JobState, *, began: bool) -> str:
    if state is JobState.FAILED and (phase in _BEFORE_THE_RUN or not began):
        advice = _BEFORE_THE_RUN.get(phase, "look at the job's events in ModelArts' console")
        return f"ModelArts reports {phase} without a reason, and the job did not run, so it has no log: {advice}."
    if state is JobState.FAILED:
        return f"ModelArts reports {phase} without a reason; see the end of the job's log."
    if state is JobState.STOPPED:
        return f"on ModelArts ({phase}), which does not report by whom."
    return "" if state is JobState.SUCCESSFUL else f"ModelArts reports {phase}."


def _key(body: dict[str, Any]) -> ModelArtsKey:
    return ModelArtsKey(
        str(number(body.get("job_id"), "a job's id")), str(number(body.get("version_id"), "the id of a job's version"))
    )


def _path(key: ModelArtsKey) -> str:
    return f"/training-jobs/{key.id}/versions/{key.version}"


def _subject(key: ModelArtsKey) -> str:
    return f"the job {key.id}"
