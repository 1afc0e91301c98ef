# SPDX-License-Identifier: Apache-2.0
"""The operator that registers a fetched model in MLflow's model registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_provider_jobapi._airflow import AirflowFailException
from airflow_provider_jobapi.exceptions import InvalidJob, JobConflict, NoSavedModel
from airflow_provider_jobapi.links.registry import RegisteredModelLink
from airflow_provider_jobapi.operators.model import result_of

if TYPE_CHECKING:
    from airflow.sdk import Context, ObjectStoragePath

    from airflow_provider_jobapi.services.files.sources import Source
    from airflow_provider_jobapi.services.mlflow.registry import Registration, Registry, Version

_BUCKETS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}
"""Schemes that MLflow reads under the same address, and how it writes them."""


class RegisterModelOperator(BaseOperator):
    """Register a fetched model as a version in MLflow's model registry.

    The version has tags with the job's id, the data version, the model's SHA-256 and its kind; the metrics are in a
    run of its own. The same job is the same version: a retry finds it by its tag. A model in S3 or Google Cloud Storage
    is registered where it is; any other is uploaded into the artifacts of the run. Nothing is loaded or unpickled.

    The task's result is ``{"name": …, "version": "3", "uri": "models:/…/3", "run_id": …, "source": …, "url": page}``.

    :param conn_id: The connection to MLflow. (templated)
    :param job: The job: the result of a training task, or a job id. (templated)
    :param name: The registered model's name; it is made where there is none. (templated)
    :param model: Where the model was fetched to: the result of :class:`FetchModelOperator`; by default the place in
        the training's result, which it has where the training has a ``destination``. (templated)
    :param experiment: The experiment of the run; by default the model's name. (templated)
    :param alias: An alias that the version gets, such as ``"candidate"``; MLflow moves it in one step. (templated)
    :param tags: More tags of the version and of its run. (templated)
    :param description: The version's description. (templated)
    :param upload: Whether the files are uploaded into the run; by default unless MLflow can read them where they are.
    """

    template_fields: Sequence[str] = ("conn_id", "job", "name", "model", "experiment", "alias", "tags", "description")
    template_ext: Sequence[str] = ()
    operator_extra_links = (RegisteredModelLink(),)
    ui_color = "#dcecf7"

    def __init__(
        self,
        *,
        conn_id: str = "mlflow_default",
        job: Mapping[str, Any] | str,
        name: str,
        model: str | ObjectStoragePath | None = None,
        experiment: str | None = None,
        alias: str | None = None,
        tags: Mapping[str, str] | None = None,
        description: str | None = None,
        upload: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.job = job
        self.name = name
        self.model = model
        self.experiment = experiment
        self.alias = alias
        self.tags = tags
        self.description = description
        self.upload = upload

    def execute(self, context: Context) -> dict[str, str]:
        """Find the job's version, or register the model as a new one."""
        from airflow_provider_jobapi.hooks.mlflow import MlflowHook
        from airflow_provider_jobapi.services.mlflow.registry import Registry

        try:
            result = result_of(self.job)
            registry = Registry(MlflowHook(self.conn_id).get_conn(), self.log)
            version = self._registered(registry, result, context)
        except (InvalidJob, JobConflict, NoSavedModel) as error:
            raise AirflowFailException(str(error)) from None  # the same at the next try
        self._add_to_events(context, result, version)
        return {
            "name": version.name,
            "version": version.version,
            "uri": version.uri,
            "run_id": version.run_id,
            "source": version.source,
            "url": registry.page_of(version),
        }

    def _registered(self, registry: Registry, result: Mapping[str, Any], context: Context) -> Version:
        from airflow_provider_jobapi.services.mlflow.registry import check_names

        wanted = self._registration(result, context)
        check_names(wanted)
        location = self._location(result)
        version = registry.find(wanted)
        if version is not None:
            self.log.info(f"The model of job {wanted.job_id} is registered already: {version.uri}.")
        else:
            version = self._register(registry, wanted, result, location)
            self.log.info(f"The model of job {wanted.job_id} is registered as {version.uri}, from {version.source}.")
        if wanted.alias:
            registry.set_alias(version, wanted.alias)
            self.log.info(f"The alias {wanted.alias} of {wanted.name} names version {version.version}.")
        return version

    def _location(self, result: Mapping[str, Any]) -> str:
        location = str(self.model).strip() if self.model else ""
        if location.lower() not in {"", "none", "null"}:
            return location
        if result.get("model"):
            return str(result["model"])
        if "model_kind" in result and result["model_kind"] is None:
            raise NoSavedModel(f"Job {result['job_id']} left no model, so there is none to register.")
        raise InvalidJob(
            f"The model of job {result['job_id']} was not fetched: give the training a destination, or fetch the model "
            "with FetchModelOperator and give its output as model.",
            field="model",
        )

    def _registration(self, result: Mapping[str, Any], context: Context) -> Registration:
        from airflow_provider_jobapi.services.mlflow.registry import Registration

        ti = context.get("ti")
        names = () if ti is None else ("dag_id", "run_id", "task_id")
        airflow = {f"airflow.{name}": getattr(ti, name) for name in names}
        tags = {**airflow, **(self.tags or {}), "jobapi.data_version": result.get("data_version")}
        return Registration(
            name=str(self.name),
            job_id=result["job_id"],
            experiment=str(self.experiment or self.name),
            tags={str(key): str(value) for key, value in tags.items() if value is not None},
            metrics=dict(result.get("metrics") or {}),
            description=self.description or "",
            alias=self.alias or "",
        )

    def _register(self, registry: Registry, wanted: Registration, result: Mapping[str, Any], location: str) -> Version:
        """Register the model with what is known of its files; they are read where that is not known."""
        from dataclasses import replace

        source = self._source(location)
        facts = _known_facts(result, location) if source is not None else None
        files: dict[str, Source] = {}
        if facts is None:
            files = self._measured(location)
            facts = _facts_of(files, location, result)
        return registry.register(replace(wanted, tags={**wanted.tags, **facts}), source, lambda: files)

    def _source(self, location: str) -> str | None:
        """Where MLflow reads the model; None where it is to be uploaded."""
        scheme, _, place = location.partition("://")
        if scheme not in _BUCKETS:
            if self.upload is False:
                raise InvalidJob(
                    f"MLflow cannot read {location}: leave upload out, so that the model is uploaded, or fetch it into "
                    "a bucket of S3 or Google Cloud Storage.",
                    field="upload",
                )
            return None
        bucket, slash, path = place.partition("/")
        return None if self.upload else f"{_BUCKETS[scheme]}://{bucket.rpartition('@')[2]}{slash}{path}"

    def _measured(self, location: str) -> dict[str, Source]:
        from airflow.sdk import ObjectStoragePath

        from airflow_provider_jobapi.services.files.fetched import local_root, measure_below

        return measure_below(local_root(location) or ObjectStoragePath(location))

    def _add_to_events(self, context: Context, result: Mapping[str, Any], version: Version) -> None:
        from airflow_provider_jobapi.lineage.events import add_facts_to_events

        facts = {
            "job_id": result["job_id"],
            "location": version.source,
            "sha256": version.tags.get("jobapi.sha256"),
            "metrics": dict(result.get("metrics") or {}),
            "data_version": result.get("data_version"),
            "registered": version.uri,
        }
        add_facts_to_events(self, context, facts)


def _known_facts(result: Mapping[str, Any], location: str) -> dict[str, str] | None:
    """The facts in the training's result, where it is about this place; None where the files must be read."""
    sha256, kind = result.get("model_sha256"), result.get("model_kind")
    if result.get("model") != location or not isinstance(sha256, str) or not isinstance(kind, str):
        return None
    return _tags(sha256, kind, unsafe=result.get("model_unsafe") is True)


def _facts_of(files: Mapping[str, Source], location: str, result: Mapping[str, Any]) -> dict[str, str]:
    """The facts of files that were read.

    :raises JobConflict: when they are not those that the training's result has fetched there.
    """
    from airflow_provider_jobapi.services.files.fetched import as_fetched

    model = as_fetched(location, files)
    fetched = result.get("model_sha256")
    if result.get("model") == location and fetched not in {None, model.sha256}:
        raise JobConflict(
            f"{location} no longer holds the model of job {result['job_id']}: its SHA-256 is {model.sha256}, and "
            f"{fetched} was fetched. Fetch the model again."
        )
    return _tags(model.sha256 or "", model.kind, unsafe=model.unsafe_to_load)


def _tags(sha256: str, kind: str, *, unsafe: bool) -> dict[str, str]:
    return {"jobapi.sha256": sha256, "jobapi.kind": kind} | ({"jobapi.unsafe_to_load": "true"} if unsafe else {})
