# SPDX-License-Identifier: Apache-2.0
"""Checks of the connection form's Test button: the cluster with its CRD and rights, AWS, the bucket, the logs."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.checks import CheckResult, run_check
from airflow_provider_jobapi.services.sagemaker_ack import names, schema
from airflow_provider_jobapi.services.sagemaker_ack.errors import ObjectMissing, error_code, error_of_aws
from airflow_provider_jobapi.services.sagemaker_ack.objects import TrainingJobs

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.sagemaker_ack.service import SageMakerAckService

_Check = tuple[str, Callable[[], str]]

QUICK = 10.0
"""Seconds for an answer: a person is waiting."""


def check(service: SageMakerAckService) -> list[CheckResult]:
    """Check each thing once, without retries. Nothing is created: the cluster only checks an object (a dry run)."""
    jobs = TrainingJobs(service.clients.kubernetes, timeout=QUICK)
    try:
        results = _checked(
            ("Cluster", lambda: _cluster(jobs)),
            ("CRD", lambda: _definition(service, jobs)),
            ("Rights", lambda: _rights(service, jobs)),
        )
    finally:
        jobs.close()
    return results + _checked(
        ("AWS", lambda: _identity(service)), ("Bucket", lambda: _bucket(service)), ("Logs", lambda: _logs(service))
    )


def _checked(first: _Check, *others: _Check) -> list[CheckResult]:
    """Run checks, of which the others are not tried where the first one fails."""
    needed = run_check(*first)
    if needed.ok:
        return [needed, *(run_check(*each) for each in others)]
    return [needed, *(CheckResult(name, False, f"not tried, since {needed.subject} is not ok.") for name, _ in others)]


def _cluster(jobs: TrainingJobs) -> str:
    return f"{jobs.host()} answers, Kubernetes {jobs.server_version()}"


def _definition(service: SageMakerAckService, jobs: TrainingJobs) -> str:
    """Let the cluster check an object with every field, and see which it does not know."""
    body = _example(service)
    seen = jobs.create(service.namespace, body, dry_run=True)
    dropped = schema.dropped(body["spec"], seen.object.get("spec", {}))
    version = f"{names.PLURAL}.{names.GROUP} of version {names.VERSION}"
    if not dropped:
        return f"{version} knows every field of sagemaker-controller 1.9.1"
    more = f" and {len(dropped) - 1} more fields" if dropped[1:] else ""
    return (
        f"{version} is older than the one of sagemaker-controller 1.9.1: it does not know {dropped[0]}{more}; jobs "
        "without them run"
    )


def _rights(service: SageMakerAckService, jobs: TrainingJobs) -> str:
    jobs.list_names(service.namespace)
    name = names.object_name(str(uuid.uuid4()))
    for act in (jobs.get, jobs.delete):
        try:
            act(service.namespace, name)
        except ObjectMissing:
            continue
    jobs.watch_briefly(service.namespace)
    return f"the user may get, list, watch, create and delete {names.PLURAL} in namespace {service.namespace}"


def _identity(service: SageMakerAckService) -> str:
    try:
        who = service.clients.aws.client("sts").get_caller_identity()
    except Exception as error:  # noqa: BLE001 -- whatever the client raises is translated
        raise error_of_aws(error, "ask who the user is") from None
    return f"the credentials are those of {who['Arn']}"


def _bucket(service: SageMakerAckService) -> str:
    wanted, region = service.connection.bucket, service.connection.region
    next(iter(service.store().list_objects(f"{service.connection.prefix}/")), None)
    try:
        place = service.clients.aws.client("s3").get_bucket_location(Bucket=wanted).get("LocationConstraint")
    except Exception:  # noqa: BLE001 -- a user who may list a bucket may not be allowed to ask where it is
        return f"bucket {wanted!r} can be listed; where it is, the user may not ask"
    actual = {None: "us-east-1", "": "us-east-1", "EU": "eu-west-1"}.get(place, place)
    if actual != region:
        raise InvalidJob(
            f"bucket {wanted!r} is in region {actual}, and jobs run in {region}: SageMaker takes data of its own "
            "region only"
        )
    return f"bucket {wanted!r} of {region} can be listed"


def _logs(service: SageMakerAckService) -> str:
    try:
        client: Any = service.clients.aws.client("logs")
        client.describe_log_streams(logGroupName=names.LOG_GROUP, limit=1)
    except Exception as error:  # noqa: BLE001 -- whatever the client raises is translated
        if error_code(error) == "ResourceNotFoundException":
            return f"log group {names.LOG_GROUP} is not there yet; the account's first job makes it"
        raise error_of_aws(error, "read the logs") from None
    return f"log group {names.LOG_GROUP} can be read"


def _example(service: SageMakerAckService) -> dict[str, Any]:
    return {
        "apiVersion": f"{names.GROUP}/{names.VERSION}",
        "kind": names.KIND,
        "metadata": {"name": names.object_name(str(uuid.uuid4())), "namespace": service.namespace},
        "spec": _value(schema.spec_schema()),
    }


def _value(node: schema.Schema) -> Any:
    kind = node["type"]
    if kind == "object":
        inner = node.get("properties") or {"name": node["additionalProperties"]}
        return {name: _value(each) for name, each in inner.items()}
    return [_value(node["items"])] if kind == "array" else {"string": "x", "integer": 1, "boolean": False}[kind]
