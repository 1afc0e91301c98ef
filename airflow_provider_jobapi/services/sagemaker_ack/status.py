# SPDX-License-Identifier: Apache-2.0
"""Read the status of a ``TrainingJob`` object: the job's status, and notices for the log. Pure.

The order matters. ``trainingJobStatus`` comes first, since an object keeps the condition ``ACK.Terminal`` of an update
that was refused after its job had ended well; then ``ACK.Terminal``, then ``ACK.Recoverable``. ``ACK.ResourceSynced``
is True of every job that has settled, also of a failed one: it decides nothing (sdk.go of sagemaker-controller 1.9.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_jobapi.services.answer import sentence
from airflow_provider_jobapi.services.sagemaker_ack import names
from airflow_provider_jobapi.services.sagemaker_ack.handles import JobHandle
from airflow_provider_jobapi.training.status import JobState, JobStatus, Reason, read_time
from airflow_provider_jobapi.training.units import span_text

PREPARING = "Preparing"
"""The reason of a job that has machines, or waits for them, and does not train yet."""
REFUSED = "Refused"
"""The reason of a job that ACK or SageMaker has refused for good."""
NOT_ACCEPTED = "NotAccepted"
"""The reason of a job that did not come to be within the accept timeout. ACK would try it again for ever."""

STEPS: Mapping[str, str] = {
    "Pending": "waiting for machines",
    "Starting": "starting the machines",
    "LaunchingMLInstances": "starting the machines",
    "PreparingTraining": "preparing the machines",
    "PreparingTrainingStack": "preparing the machines",
    "DownloadingTrainingImage": "downloading the image",
    "Downloading": "downloading the data",
    "Training": "training",
    "Interrupted": "interrupted, since its spot instances were taken back; SageMaker goes on when it gets others",
    "Restarting": "being restarted by SageMaker, as its retryStrategy says",
    "Updating": "being updated",
    "Uploading": "uploading the model",
    "Stopping": "stopping",
    "Stopped": "stopped",
    "MaxRuntimeExceeded": "stopped, since it ran longer than maxRuntimeInSeconds",
    "MaxWaitTimeExceeded": "stopped, since it ran and waited longer than maxWaitTimeInSeconds",
    "MaxPendingTimeExceeded": "stopped, since it waited for machines longer than maxPendingTimeInSeconds",
    "Completed": "completed",
    "Failed": "failed",
}
"""The values of ``secondaryStatus`` (API reference, retired ones included), as what the job does. There may be more:
"valid values are subject to change"."""

_BEFORE_TRAINING = frozenset(list(STEPS)[: list(STEPS).index("Training")])
_LIMITS = {
    "MaxRuntimeExceeded": Reason.COMPLETION_TIME_EXCEEDED.value,
    "MaxWaitTimeExceeded": "MaxWaitTimeExceeded",
    "MaxPendingTimeExceeded": "MaxPendingTimeExceeded",
}
_EXIT_CODE = re.compile(r"[Ee]xit ?[Cc]ode:? (\d{1,3})\b")
_KILLED_FOR_MEMORY = 137
_LONGEST_MESSAGE = 1_000
_DELETED = "Its object is being deleted, which stops it."
_STEP = "step "
_REQUEST_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
"""The id of a request of ACK's to AWS, which is another one each time that the same error is repeated."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something about a job that its log should show, once.

    :ivar key: Equal for the same thing; it changes when the text should be shown again.
    """

    key: str
    text: str
    warning: bool = False

    @property
    def is_step(self) -> bool:
        """Whether it names the secondary status, whose time is :attr:`Reading.changed`."""
        return self.key.startswith(_STEP)


@dataclass(frozen=True, slots=True)
class Reading:
    """What an object says.

    :ivar accepted: Whether SageMaker has the job, and the object is its own.
    :ivar refused: Whether ACK has refused something for good: the job, an update, or an object that is not the job's.
    :ivar unmanaged: Whether the object shows a job that it has not made: its status is not brought up to date, and its
        deletion stops nothing; see :mod:`.adoption`.
    :ivar secondary: The ``secondaryStatus``, such as ``Downloading``; empty where there is none.
    :ivar changed: When the status of the job changed last, as SageMaker says.
    :ivar artifacts: Where the model is; empty while there is none.
    :ivar unwanted: Whether the object is to be deleted, now that its end is known: ACK would try it again for ever, or
        the job asks for it.
    :ivar notices: For the log, in this order.
    """

    status: JobStatus
    accepted: bool = False
    refused: bool = False
    unmanaged: bool = False
    secondary: str = ""
    changed: datetime | None = None
    artifacts: str = ""
    unwanted: bool = False
    notices: tuple[Notice, ...] = ()

    @property
    def completed(self) -> bool:
        """Whether SageMaker itself calls the job completed: it ran to its end, and its files are in S3."""
        return self.status.status is JobState.SUCCESSFUL and self.secondary == "Completed"

    @property
    def may_go_on(self) -> bool:
        """Whether the job goes on, now or later, unless the object is deleted."""
        return self.not_accepted or not self.status.status.ended

    @property
    def not_accepted(self) -> bool:
        """Whether the accept timeout has passed, and the object is to be deleted: ACK would try it again for ever."""
        return self.status.reason == NOT_ACCEPTED


def read(object_: Mapping[str, Any], *, now: datetime, accept_timeout: float) -> Reading:
    """Read an object.

    :param object_: A ``TrainingJob`` as the API server sent it; anything in it may be missing.
    :param now: The time by the clock of the API server, which has set ``creationTimestamp``.
    :param accept_timeout: Seconds after the creation of the object within which SageMaker must have the job.
    """
    view = _View(object_)
    state, reason, message = _judge(view, now, accept_timeout)
    ended = state.ended
    failed_with = _EXIT_CODE.search(view.text("failureReason")) if state is JobState.FAILED else None
    status = JobStatus(
        job_id=view.job_id,
        name=view.name,
        status=state,
        reason=reason,
        message=message,
        exit_code=int(failed_with[1]) if failed_with else None,
        container_id=view.arn,
        submission_time=view.created,
        start_time=view.time("creationTime") if state not in {JobState.PENDING, JobState.UNKNOWN} else None,
        finish_time=view.time("lastModifiedTime") if ended and view.word else None,
        data_version=view.annotations.get(names.DATA_ANNOTATION),
    )
    return Reading(
        status=status,
        accepted=bool(view.word or view.arn) and not view.unmanaged,
        refused=view.condition("ACK.Terminal") is not None,
        unmanaged=view.unmanaged,
        secondary=view.step,
        changed=view.time("lastModifiedTime"),
        artifacts=_text(_object(view.status.get("modelArtifacts")).get("s3ModelArtifacts")),
        unwanted=reason == NOT_ACCEPTED
        or (reason == REFUSED and view.annotations.get(names.DELETE_REFUSED_ANNOTATION) == "true"),
        notices=tuple(_notices(view, status)),
    )


def is_managed(object_: Mapping[str, Any]) -> bool:
    """Whether an object is its job's own: it has ACK's finalizer, so the job ends before it goes."""
    finalizers = _object(object_.get("metadata")).get("finalizers")
    return isinstance(finalizers, list) and names.FINALIZER in finalizers


def read_job(handle: JobHandle, object_: Mapping[str, Any], *, now: datetime, accept_timeout: float) -> Reading:
    """Read the object of a job; what the object does not say of the job's identity, its handle does."""
    found = read(object_, now=now, accept_timeout=accept_timeout)
    known = {"job_id": handle.job_id, "name": found.status.name or handle.name}
    return replace(found, status=found.status.model_copy(update=known))


class _View:
    """The parts of an object, with an empty value for all that is missing or of another type."""

    def __init__(self, object_: Mapping[str, Any]) -> None:
        metadata, spec = _object(object_.get("metadata")), _object(object_.get("spec"))
        self.status = _object(object_.get("status"))
        self.annotations = _object(metadata.get("annotations"))
        self.name = _text(spec.get("trainingJobName"))
        self.job_id = _text(_object(metadata.get("labels")).get(names.JOB_ID_LABEL))
        self.created = _time(metadata.get("creationTimestamp"))
        self.deleting = bool(metadata.get("deletionTimestamp"))
        self.word, self.step = self.text("trainingJobStatus"), self.text("secondaryStatus")
        self.arn = _text(_object(self.status.get("ackResourceMetadata")).get("arn"))
        conditions = self.status.get("conditions")
        self.conditions = {
            _text(each.get("type")): each
            for each in (conditions if isinstance(conditions, list) else ())
            if isinstance(each, Mapping)
        }
        refused = self.condition("ACK.Terminal") is not None
        self.unmanaged = refused and bool(self.word or self.arn) and not (is_managed(object_) or self.deleting)

    def text(self, name: str) -> str:
        return _text(self.status.get(name))

    def time(self, name: str) -> datetime | None:
        return _time(self.status.get(name))

    def condition(self, kind: str, status: str = "True") -> str | None:
        """The message of a condition that has this status; None where it has not."""
        each = self.conditions.get(kind, {})
        if _text(each.get("status")) != status:
            return None
        return sentence(_text(each.get("message")) or _text(each.get("reason")), _LONGEST_MESSAGE)


def _judge(view: _View, now: datetime, accept_timeout: float) -> tuple[JobState, str | None, str]:
    """Return state, reason and message, by the rows of what an object can say."""
    if view.word in _BY_WORD:
        return _BY_WORD[view.word](view)
    if view.word:
        return JobState.UNKNOWN, None, f"SageMaker calls the job {view.word!r}, which this provider does not know."
    if (refused := view.condition("ACK.Terminal")) is not None:
        return JobState.FAILED, REFUSED, f"SageMaker's controller has refused the job: {refused}"
    return _waiting(view, now, accept_timeout)


def _waiting(view: _View, now: datetime, accept_timeout: float) -> tuple[JobState, str | None, str]:
    waits_for = view.condition("ACK.Recoverable")
    late = view.created is not None and (now - view.created).total_seconds() > accept_timeout
    if late and not view.arn:  # also while it is being deleted: without its controller, the finalizer keeps it for ever
        return JobState.FAILED, NOT_ACCEPTED, _not_accepted(waits_for, view, accept_timeout)
    if view.deleting:
        return JobState.PENDING, Reason.STOPPED, _DELETED
    if view.arn:
        return JobState.PENDING, PREPARING, waits_for or ""
    return JobState.PENDING, None, waits_for or "It waits for the ACK controller."


def _not_accepted(refused: str | None, view: _View, accept_timeout: float) -> str:
    within = f"within {span_text(timedelta(seconds=accept_timeout))}"
    if refused is not None:
        return f"SageMaker's controller could not create the job {within}, and its last error was: {refused}"
    if view.conditions:
        known = "; ".join(f"{kind} {_text(each.get('status'))}" for kind, each in sorted(view.conditions.items()))
        return f"SageMaker's controller did not create the job {within}; its conditions are {known}."
    return (
        f"No ACK controller took the job {within}: is the controller for SageMaker installed in the cluster, does it "
        "run, and does it watch this namespace?"
    )


def _in_progress(view: _View) -> tuple[JobState, str | None, str]:
    doing = f"It is {STEPS[view.step]}." if view.step in STEPS else ""
    if view.deleting:
        return JobState.RUNNING, Reason.STOPPED, _DELETED
    if view.step in _BEFORE_TRAINING or not view.step:
        return JobState.PENDING, None if view.step == "Pending" else PREPARING, doing
    return JobState.RUNNING, None, doing


def _failed(view: _View) -> tuple[JobState, str | None, str]:
    why = sentence(view.text("failureReason"), _LONGEST_MESSAGE)
    code = _EXIT_CODE.search(why)
    word = re.match(r"(\w+(?:Error|Exception|Exceeded)):", why)
    if code:
        reason = Reason.OUT_OF_MEMORY if int(code[1]) == _KILLED_FOR_MEMORY else Reason.NON_ZERO_EXIT
        return JobState.FAILED, reason, why
    return JobState.FAILED, word[1] if word else None, why


def _stopped(view: _View) -> tuple[JobState, str | None, str]:
    limit = _LIMITS.get(view.step)
    why = sentence(view.text("failureReason"), _LONGEST_MESSAGE)
    if limit is None:
        by = "its TrainingJob was deleted." if view.deleting else "in AWS, which does not report by whom."
        return JobState.STOPPED, Reason.STOPPED, why or by
    message = f"It was {STEPS[view.step]}. {why}".strip()
    if view.step == "MaxRuntimeExceeded" and view.annotations.get(names.ACCEPT_ANNOTATION) == "true":
        return JobState.SUCCESSFUL, None, f"{message} accept_max_runtime accepts that."
    return JobState.FAILED, limit, message


_BY_WORD = {
    "InProgress": _in_progress,
    "Stopping": lambda _: (JobState.RUNNING, Reason.STOPPED, "It is stopping."),
    "Completed": lambda _: (JobState.SUCCESSFUL, None, ""),
    "Failed": _failed,
    "Stopped": _stopped,
}
"""What the values of ``trainingJobStatus`` mean."""


def _notices(view: _View, status: JobStatus) -> Iterator[Notice]:
    if view.word and view.word not in _BY_WORD:
        yield Notice(f"word {view.word}", f"{status.message} The job is treated as running.", warning=True)
    if view.step:
        known = STEPS.get(view.step)
        text = f"SageMaker: {view.step}" + (f", {known}." if known and known.lower() != view.step.lower() else ".")
        yield Notice(f"{_STEP}{view.step}", text, warning=view.step == "Interrupted")
    yield from _notices_of_conditions(view, status)
    yield from (Notice(f"fact {name} {value}", text) for name, value, text in _facts(view))


def _notices_of_conditions(view: _View, status: JobStatus) -> Iterator[Notice]:
    if view.word and (refused := view.condition("ACK.Terminal")) is not None:
        yield Notice(f"update {refused}", f"ACK: a change of the job was refused: {refused}", warning=True)
    waits = view.condition("ACK.Recoverable")
    if waits is not None and not status.status.ended:
        what = "SageMaker cannot be asked now" if view.word or view.arn else "the job is not accepted yet"
        yield Notice(
            f"recoverable {_REQUEST_ID.sub('', waits)}", f"ACK: {what}, and is tried again: {waits}", warning=True
        )
    if (advice := view.condition("ACK.Advisory")) is not None:
        yield Notice(f"advice {advice}", f"ACK: {advice}", warning=True)
    if (missing := view.condition("ACK.ReferencesResolved", "False")) is not None:
        yield Notice(
            f"references {missing}", f"ACK: a reference of the job cannot be resolved: {missing}", warning=True
        )


def _facts(view: _View) -> Iterator[tuple[str, str, str]]:
    """Yield name, value and sentence of what else people want to know: the warm pool, the profiler, and the rules."""
    pool = _object(view.status.get("warmPoolStatus"))
    if state := _text(pool.get("status")):
        by = _text(pool.get("reusedByJob"))
        seconds = pool.get("resourceRetainedBillableTimeInSeconds")
        billed = f", {seconds:,} billable seconds so far" if isinstance(seconds, int) else ""
        value = f"{state} {by} {seconds}"
        yield "warm pool", value, f"SageMaker: the warm pool is {state}{f', used by job {by}' if by else ''}{billed}."
    if (profiling := view.text("profilingStatus")) not in {"", "Disabled"}:
        yield "profiling", profiling, f"SageMaker: the profiler is {profiling}."
    for kind, name in (("debugRuleEvaluationStatuses", "debug"), ("profilerRuleEvaluationStatuses", "profiler")):
        for rule, state, details in _rules(view, kind):
            more = f": {sentence(details, _LONGEST_MESSAGE)}" if details else "."
            yield f"{name} rule {rule}", f"{state} {details}", f"SageMaker: {name} rule {rule}: {state}{more}"


def _rules(view: _View, kind: str) -> Iterator[tuple[str, str, str]]:
    found = view.status.get(kind)
    for each in found if isinstance(found, list) else ():
        rule = _object(each)
        if state := _text(rule.get("ruleEvaluationStatus")):
            yield _text(rule.get("ruleConfigurationName")) or "without a name", state, _text(rule.get("statusDetails"))


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _time(value: object) -> datetime | None:
    try:
        return read_time(value)
    except ValueError:
        return None
