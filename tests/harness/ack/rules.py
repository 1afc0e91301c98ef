# SPDX-License-Identifier: Apache-2.0
"""What ACK's SageMaker controller makes of a training job: its status, its conditions, its waits and its deletion.

Pure functions and tables. They follow the source of ``aws-controllers-k8s/sagemaker-controller`` 1.9.1
(``pkg/resource/training_job``: ``sdk.go``, ``hooks.go``) and of ``aws-controllers-k8s/runtime``
(``pkg/runtime/reconciler.go``, ``pkg/condition``, ``pkg/requeue``); the function or file of a rule is named beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

FINALIZER = "finalizers.sagemaker.services.k8s.aws/TrainingJob"
REGION = "services.k8s.aws/region"
DELETION_POLICY = "services.k8s.aws/deletion-policy"
ADOPTION_POLICY = "services.k8s.aws/adoption-policy"
ADOPTION_FIELDS = "services.k8s.aws/adoption-fields"
ADOPTED = "services.k8s.aws/adopted"
ADOPT, ADOPT_OR_CREATE = "adopt", "adopt-or-create"
"""Adoption policies (ACK's documentation, "Resource Adoption"): the first finds the resource by the adoption fields and
writes its spec into the object; the second creates the resource where there is none, else takes it with the spec of the
object."""

SYNCED, TERMINAL, RECOVERABLE, READY = "ACK.ResourceSynced", "ACK.Terminal", "ACK.Recoverable", "Ready"

TERMINAL_CODES = frozenset(
    {
        "ResourceNotFound",
        "ResourceInUse",
        "InvalidParameterCombination",
        "InvalidParameterValue",
        "MissingParameter",
        "TerminalError",
    }
)
"""Errors of AWS after which the controller tries no more (``terminalAWSError``). ValidationException, which SageMaker
answers to most bad requests, AccessDeniedException and ThrottlingException are not among them."""

MODIFYING = frozenset({"InProgress", "Stopping"})
"""Statuses of a job, and of a rule, in which the object is not in sync (``hooks.go``)."""

OUT_OF_SYNC_SECONDS, SYNCED_SECONDS, BACKOFF_SECONDS = 30.0, 300.0, 30.0
"""When the controller looks again: ``DefaultRequeueAfterDuration``; ``requeue_on_success_seconds`` of the generator's
configuration; and after an error, where the real one waits from 5 ms on, doubled each time, to 1,000 s."""

NOT_MANAGED = "Resource already exists"
NOT_MANAGED_REASON = (
    "This resource already exists but is not managed by ACK. To bring the resource under ACK management, you should "
    "explicitly adopt the resource by enabling the ResourceAdoption feature gate and populating the "
    "`services.k8s.aws/adoption-policy` and `services.k8s.aws/adoption-fields` annotations."
)
UPDATE_REFUSED = "only Warm Pool or Profiler can be updated"

COPIED = (
    "trainingJobStatus",
    "secondaryStatus",
    "failureReason",
    "modelArtifacts",
    "creationTime",
    "lastModifiedTime",
    "warmPoolStatus",
    "debugRuleEvaluationStatuses",
    "profilerRuleEvaluationStatuses",
    "profilingStatus",
)
"""What the status has of the answer of DescribeTrainingJob (``sdkFind``)."""

LATE_INITIALIZED: dict[str, Any] = {
    "algorithmSpecification": {"enableSageMakerMetricsTimeSeries": False},
    "enableInterContainerTrafficEncryption": False,
    "enableManagedSpotTraining": False,
    "enableNetworkIsolation": False,
    "outputDataConfig": {"kmsKeyID": "", "compressionType": "GZIP"},
}
"""What the controller writes into the spec of the object, where it is not set: SageMaker's own defaults."""


class AwsError(Exception):
    """AWS refuses a call.

    :ivar code: Its error code, such as ``ValidationException``.
    """

    def __init__(self, code: str, message: str, status: int = 400, request: str = "") -> None:
        super().__init__(f"{code}: {message}\n\tstatus code: {status}, request id: {request}")
        self.code = code


@dataclass(frozen=True)
class Step:
    """What the controller does with an object that is being deleted (``sdkDelete``)."""

    stop: bool = False
    release: bool = False


ON_DELETE = {"InProgress": Step(stop=True), "Stopping": Step(), None: Step(stop=True)}
"""By ``trainingJobStatus``; at every other one, also one that it does not know, the object is just let go."""


def on_delete(status: str | None) -> Step:
    """What to do with an object that is being deleted."""
    return ON_DELETE.get(status, Step(release=True))


def observed(job: dict[str, Any], metadata: dict[str, Any]) -> dict[str, Any]:
    """The status of an object after its job was read (``sdkFind``).

    :param job: What DescribeTrainingJob answered, in ACK's spelling, with ``arn``.
    :param metadata: ``ownerAccountID`` and ``region``.
    """
    status: dict[str, Any] = {"ackResourceMetadata": {"arn": job["arn"], **metadata}}
    status["conditions"] = [synced_condition(job)]
    return status | {name: job[name] for name in COPIED if job.get(name) is not None}


def synced_condition(job: dict[str, Any]) -> dict[str, Any]:
    """Whether the job has settled, which says nothing about its success (``customSetOutput``)."""
    status = job.get("trainingJobStatus")
    named = [("TrainingJob", status)]
    if status != "InProgress":
        rules = [("DebugRule", each) for each in job.get("debugRuleEvaluationStatuses") or []]
        if job.get("profilingStatus", "Disabled") != "Disabled":
            rules += [("ProfilerRule", each) for each in job.get("profilerRuleEvaluationStatuses") or []]
        active = [(name, each["ruleEvaluationStatus"]) for name, each in rules if _modifying(each)]
        named = active[:1] or named
    name, shown = named[0]
    return condition(SYNCED, shown not in MODIFYING, f"{name} is in {shown} status.")


def _modifying(rule: dict[str, Any]) -> bool:
    return rule.get("ruleEvaluationStatus") in MODIFYING


def with_error(status: dict[str, Any], error: AwsError) -> dict[str, Any]:
    """The status after a call to AWS has failed (``updateConditions``): everything else stays as it was."""
    kind = TERMINAL if error.code in TERMINAL_CODES else RECOVERABLE
    kept = [each for each in status.get("conditions", []) if each["type"] not in {TERMINAL, RECOVERABLE}]
    return status | {"conditions": [*kept, {"type": kind, "status": "True", "message": str(error)}]}


def not_managed(status: dict[str, Any]) -> dict[str, Any]:
    """The status of an object whose job is there already, and was not made by it (``failOnResourceUnmanaged``).

    All of the other job's status is shown, with the condition that nothing is done for it.
    """
    added = condition(TERMINAL, True, NOT_MANAGED, NOT_MANAGED_REASON)
    return status | {"conditions": [*status["conditions"], added]}


def refused_update(status: dict[str, Any]) -> dict[str, Any]:
    """The status of an object whose spec was edited (``sdkUpdate``): that of its job, and a terminal condition."""
    added = {"type": TERMINAL, "status": "True", "message": UPDATE_REFUSED}
    return status | {"conditions": [*status["conditions"], added]}


def ensured(status: dict[str, Any], error: str = "") -> dict[str, Any]:
    """The status as the reconciler stores it: always with ResourceSynced, and Ready beside it (``ensureConditions``).

    :param error: What went wrong, where the resource manager has not said whether it is in sync.
    """
    conditions = list(status.get("conditions", []))
    types = {each["type"]: each for each in conditions}
    if SYNCED not in types:
        terminal = TERMINAL in types  # "its state will not change"
        message = "Resource synced successfully" if terminal else "Resource not synced"
        reason = "resource is in terminal condition" if terminal else error
        conditions.append(condition(SYNCED, terminal, message, reason))
    synced = next(each for each in conditions if each["type"] == SYNCED)
    return status | {"conditions": [*conditions, synced | {"type": READY}]}


def look_again(status: dict[str, Any]) -> float | None:
    """Seconds until the controller reads the job again by itself; None for never (``handleRequeues``)."""
    found = {each["type"]: each["status"] == "True" for each in status["conditions"]}
    if found.get(TERMINAL):
        return None
    if found.get(RECOVERABLE):
        return BACKOFF_SECONDS
    return SYNCED_SECONDS if found.get(SYNCED) else OUT_OF_SYNC_SECONDS


def initialized(spec: dict[str, Any], defaults: dict[str, Any] = LATE_INITIALIZED) -> dict[str, Any]:
    """The spec with the defaults that the controller writes into the object (``LateInitialize``)."""
    filled = dict(spec)
    for name, default in defaults.items():
        if isinstance(default, dict):
            filled[name] = initialized(spec.get(name) or {}, default)
        else:
            filled.setdefault(name, default)
    return filled


def condition(kind: str, true: bool, message: str = "", reason: str = "") -> dict[str, Any]:
    """One condition."""
    made = {"type": kind, "status": str(true), "message": message, "reason": reason, "lastTransitionTime": timestamp()}
    return {name: value for name, value in made.items() if value}


def timestamp(at: datetime | None = None) -> str:
    """A time as Kubernetes writes it, in whole seconds."""
    return (at or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
