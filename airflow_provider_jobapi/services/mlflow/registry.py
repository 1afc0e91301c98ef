# SPDX-License-Identifier: Apache-2.0
"""Register a job's model as a version in MLflow's model registry; the same job is the same version.

MLflow has no condition by which a version could be created only once, so a version is found by the tag of its job,
before and after it is created.
"""

from __future__ import annotations

import posixpath
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

from airflow_provider_jobapi.exceptions import InvalidJob, TrainingError
from airflow_provider_jobapi.services.files.sources import Source
from airflow_provider_jobapi.services.files.transfers import upload
from airflow_provider_jobapi.services.mlflow.client import ArtifactStore, MlflowClient, Refused

JOB_TAG = "jobapi.job_id"
"""The tag of versions and runs by which those of a job are found."""

_EXISTS, _UNKNOWN = "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"

_MOST_METRICS = 1_000
"""Metrics in one request; MLflow's own limit."""

LONGEST_NAME = 240
"""Characters of a metric's name; MLflow's own limit is 250."""

_FOLDER = "model"
"""The folder of the model in the artifacts of its run."""

_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Registration:
    """What is to be registered.

    :ivar name: The registered model's name.
    :ivar job_id: The job that trained it.
    :ivar experiment: The experiment of the run that has the metrics.
    :ivar tags: Tags of the version and of the run, besides the job's id.
    :ivar metrics: The last value of each.
    :ivar alias: An alias that the version gets; empty for none.
    """

    name: str
    job_id: str
    experiment: str
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float | str] = field(default_factory=dict)
    description: str = ""
    alias: str = ""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a registered model.

    :ivar run_id: The run that has its metrics; empty where the version has none.
    :ivar source: Where its files are.
    """

    name: str
    version: str
    run_id: str
    source: str
    tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        """What MLflow loads it by."""
        return f"models:/{self.name}/{self.version}"


class Registry:
    """The model registry of an MLflow server."""

    def __init__(self, client: MlflowClient, log: Any) -> None:
        self._client = client
        self._log = log

    def find(self, wanted: Registration) -> Version | None:
        """Find the version of a job, the first one where there are several; end its run if an earlier try did not."""
        version = self._client.lasting(lambda: self._find(wanted))
        if version is not None and version.run_id:
            get = partial(self._client.get, "runs/get", "the run", run_id=version.run_id)
            run = self._client.lasting(get)["run"]["info"]
            if run.get("status") != "FINISHED":
                self._end(run, "FINISHED")
        return version

    def register(self, wanted: Registration, source: str | None, files: Callable[[], Mapping[str, Source]]) -> Version:
        """Make a run with the metrics, and the version.

        :param source: Where the model is, for MLflow to read it there; None to upload it into the run.
        :param files: Measures the files for the upload.
        :raises InvalidJob: for a name that MLflow refuses, and where the server keeps no files.
        """
        lasting = self._client.lasting
        run = lasting(lambda: self._run(wanted, lasting(lambda: self._experiment(wanted.experiment))))
        try:
            self._log_metrics(run, wanted)
            place = self._upload(run, wanted, files()) if source is None else source
            version = lasting(lambda: self._created(wanted, run, place))
        except BaseException:
            self._end(run, "FAILED")
            raise
        self._end(run, "FINISHED")
        return version

    def set_alias(self, version: Version, alias: str) -> None:
        """Let an alias name this version, and no other any more; MLflow changes it in one step."""
        body = {"name": version.name, "alias": alias, "version": version.version}
        self._client.lasting(lambda: self._client.post("registered-models/alias", f"the alias {alias!r}", body))

    def page_of(self, version: Version) -> str:
        """The page of a version in MLflow's UI."""
        name = quote(version.name, safe="")
        return f"{self._client.connection.base_url}/#/models/{name}/versions/{version.version}"

    def _find(self, wanted: Registration) -> Version | None:
        condition = f"name='{wanted.name}' and tags.`{JOB_TAG}` = '{wanted.job_id}'"
        found = self._pages("model-versions/search", "model_versions", condition, f"the versions of {wanted.name!r}")
        versions = [read for each in found if (read := _version(each)).tags.get(JOB_TAG) == wanted.job_id]
        return min(versions, key=lambda each: int(each.version), default=None)

    def _pages(self, path: str, key: str, condition: str, what: str) -> Iterator[dict[str, Any]]:
        token = ""
        while True:
            more = {"page_token": token} if token else {}
            answer = self._client.get(path, what, filter=condition, max_results=_PAGE, **more)
            yield from answer.get(key) or ()
            token = str(answer.get("next_page_token") or "")
            if not token:
                return

    def _experiment(self, name: str) -> str:
        what = f"the experiment {name!r}"
        try:
            found = self._client.get("experiments/get-by-name", what, experiment_name=name)["experiment"]
        except Refused as error:
            if error.code != _UNKNOWN:
                raise
        else:
            if found.get("lifecycle_stage") == "deleted":
                raise InvalidJob(f"In MLflow {what} is deleted: restore it, or choose another experiment.")
            return str(found["experiment_id"])
        try:
            return str(self._client.post("experiments/create", what, {"name": name})["experiment_id"])
        except Refused as error:
            if error.code != _EXISTS:
                raise
        return self._experiment(name)  # another task has just made it

    def _run(self, wanted: Registration, experiment_id: str) -> dict[str, Any]:
        """The job's run, which an earlier try may have made."""
        what = f"the run of job {wanted.job_id}"
        query = {"experiment_ids": [experiment_id], "filter": f"tags.`{JOB_TAG}` = '{wanted.job_id}'"}
        order = {"order_by": ["attributes.start_time ASC"], "max_results": 1}
        if runs := self._client.post("runs/search", what, query | order).get("runs"):
            return dict(runs[0]["info"])
        body = {
            "experiment_id": experiment_id,
            "run_name": f"{wanted.name}-{wanted.job_id[:8]}",
            "start_time": _now(),
            "tags": _listed(wanted),
        }
        return dict(self._client.post("runs/create", what, body)["run"]["info"])

    def _log_metrics(self, run: Mapping[str, Any], wanted: Registration) -> None:
        # The run's own time: repeated by a retry, it is the same point of the metric.
        point = {"timestamp": run["start_time"], "step": 0}
        metrics = [{"key": key, "value": value} | point for key, value in metric_values(wanted.metrics)]
        for begin in range(0, len(metrics), _MOST_METRICS):
            body = {"run_id": run["run_id"], "metrics": metrics[begin : begin + _MOST_METRICS]}
            self._client.lasting(partial(self._client.post, "runs/log-batch", "the metrics", body))

    def _upload(self, run: Mapping[str, Any], wanted: Registration, files: Mapping[str, Source]) -> str:
        uri = f"{run['artifact_uri']}/{_FOLDER}"
        title = f"Uploading the model of job {wanted.job_id} to MLflow"
        store = ArtifactStore(self._client)
        upload(store, _kept_path(uri), files, self._client.retry, self._log, title)
        return uri

    def _created(self, wanted: Registration, run: Mapping[str, Any], source: str) -> Version:
        if (earlier := self._find(wanted)) is not None:
            return earlier
        what = f"the model {wanted.name!r}"
        try:
            self._client.post("registered-models/create", what, {"name": wanted.name})
        except Refused as error:
            if error.code != _EXISTS:
                raise
        body = {"name": wanted.name, "source": source, "run_id": run["run_id"], "tags": _listed(wanted)}
        body |= {"description": wanted.description} if wanted.description else {}
        made = _version(self._client.post("model-versions/create", what, body)["model_version"])
        first = self._find(wanted) or made
        if first.version != made.version:
            # Two tries of a task ran at the same time; both keep the same one.
            body = {"name": made.name, "version": made.version}
            self._client.post("model-versions/delete", what, body, method="DELETE")
        return first

    def _end(self, run: Mapping[str, Any], status: str) -> None:
        """End the run. The version counts, so a run that cannot be ended fails no task."""
        body = {"run_id": run["run_id"], "status": status, "end_time": _now()}
        try:
            self._client.lasting(partial(self._client.post, "runs/update", "the run", body))
        except TrainingError as error:
            self._log.warning(f"The run {run['run_id']} of MLflow cannot be ended: {error}")


def check_names(wanted: Registration) -> None:
    """Refuse names that MLflow's registry does not allow, before anything is made there.

    :raises InvalidJob: naming the parameter.
    """
    for field_name, text, forbidden in (
        ("name", wanted.name, r"[/:'\"`\x00-\x1f]"),
        ("job", wanted.job_id, r"[^A-Za-z0-9._:-]"),
    ):
        if not text.strip() or re.search(forbidden, text):
            raise InvalidJob(
                f"{field_name} cannot be {text[:80]!r} in MLflow's registry: a model's name holds no '/', ':' or "
                "quotes, and a job id letters, digits, '-', '_' and '.'.",
                field=field_name,
            )
    if wanted.alias and (not re.fullmatch(r"[A-Za-z0-9_-]{1,255}", wanted.alias) or _is_reserved(wanted.alias)):
        raise InvalidJob(
            f"alias cannot be {wanted.alias[:80]!r}: it is letters, digits, '-' and '_', neither 'latest' nor 'v' and "
            "a number.",
            field="alias",
        )


def _is_reserved(alias: str) -> bool:
    return alias.lower() == "latest" or re.fullmatch(r"[vV]\d+", alias) is not None


def metric_values(metrics: Mapping[str, float | str]) -> Iterator[tuple[str, float | str]]:
    """The metrics under names that MLflow allows; of two names that become the same one, the second gets a number.

    A value is a number, or one of ``NaN``, ``Infinity`` and ``-Infinity``; what is neither is left out.
    """
    taken: set[str] = set()
    for name, value in metrics.items():
        number = _json_number(value)
        if number is None:
            continue
        known = re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)[:LONGEST_NAME]
        # MLflow refuses what is no path in its shortest form, such as a//b.
        key = known = posixpath.normpath(known).strip("/. ") or "metric"
        count = 2
        while key in taken:
            key, count = f"{known}_{count}", count + 1
        taken.add(key)
        yield key, number


def _json_number(value: float | str) -> float | str | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    if number != number:  # noqa: PLR0124 -- for NaN
        return "NaN"
    return number if abs(number) != float("inf") else f"{'-' if number < 0 else ''}Infinity"


def _kept_path(uri: str) -> str:
    """The path below the server's place for artifacts.

    :raises InvalidJob: where the server does not keep the run's artifacts itself.
    """
    parts = urlsplit(uri)
    if parts.scheme == "mlflow-artifacts":
        return parts.path.strip("/")
    kept = parts.path.partition("/api/2.0/mlflow-artifacts/artifacts/")[2]
    if parts.scheme in {"http", "https"} and kept:
        return kept.strip("/")
    raise InvalidJob(
        f"MLflow keeps the files of its runs at {uri.removesuffix(f'/{_FOLDER}')}, where only its own clients write: "
        "start the server with --artifacts-destination, or fetch the model into a bucket that MLflow can read and "
        "register it there."
    )


def _listed(wanted: Registration) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in {JOB_TAG: wanted.job_id, **wanted.tags}.items()]


def _version(found: Mapping[str, Any]) -> Version:
    tags: Iterable[Mapping[str, Any]] = found.get("tags") or ()
    return Version(
        str(found["name"]),
        str(found["version"]),
        str(found.get("run_id") or ""),
        str(found.get("source") or ""),
        {str(each["key"]): str(each.get("value", "")) for each in tags},
    )


def _now() -> int:
    return int(time.time() * 1000)
