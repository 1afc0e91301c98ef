# SPDX-License-Identifier: Apache-2.0
"""Prepare a job for its submit: its files, where they go in S3, and its object. Nothing is sent from here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.files.sources import Source, measure, measure_all
from airflow_provider_jobapi.services.sagemaker_ack import exposure, names, script_mode, spec
from airflow_provider_jobapi.services.sagemaker_ack.checkpoints import checkpoint_folder
from airflow_provider_jobapi.services.sagemaker_ack.connection import SageMakerConnection
from airflow_provider_jobapi.services.sagemaker_ack.handles import JobHandle
from airflow_provider_jobapi.services.sagemaker_ack.options import Options
from airflow_provider_jobapi.training.job import TrainingJob
from airflow_provider_jobapi.training.job_file import InputFile

CODE, DATA = "code", "data"
"""The folders below a job's own folder."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job that is ready for its submit.

    :ivar object: The ``TrainingJob`` object.
    :ivar folder: The key of the job's folder in the connection's bucket, which depends on its content.
    :ivar uploads: The files for it, by their path in it.
    :ivar inputs: All files of the job.
    """

    object: dict[str, Any]
    folder: str
    uploads: dict[str, Source]
    inputs: tuple[InputFile, ...]
    digest: str

    def handle(self, identity: spec.Identity, region: str) -> JobHandle:
        """Return the handle of the job."""
        made = self.object["spec"]
        return JobHandle(
            job_id=identity.job_id,
            namespace=identity.namespace,
            name=made["trainingJobName"],
            region=region,
            output=made["outputDataConfig"]["s3OutputPath"],
            instances=spec.instances(made),
            checkpoints=str(made.get("checkpointConfig", {}).get("s3URI") or ""),
            packed=names.packed(self.object["metadata"]["annotations"]),
            passing=self.object["metadata"]["annotations"].get(names.PASSING_ANNOTATION) == "true",
        )


@contextmanager
def prepared(
    job: TrainingJob,
    job_id: str,
    namespace: str,
    connection: SageMakerConnection,
    secrets: Callable[[], frozenset[str]],
) -> Iterator[Prepared]:
    """Prepare a job. Its archive of code is a temporary file, which is there inside of the context only.

    :param secrets: Returns what the object must not contain.
    :raises InvalidJob: naming the parameter that is wrong.
    """
    script_mode.check_requirements(job)
    options = Options.of(job.service_options)
    sources = measure_all(job.files())
    digest = spec.job_digest(job, sources)
    folder = f"{connection.prefix}/{names.training_job_name(job.name, job_id)}/{digest[:12]}"
    with TemporaryDirectory(prefix="jobapi-") as scratch:
        uploads = _uploads(job, sources, Path(scratch))
        places = _places(job, job_id, connection, folder, sources)
        size = sum(each.size for path, each in uploads.items() if path.startswith(f"{DATA}/"))
        identity = spec.Identity(job_id, namespace, digest)
        made = spec.build(job, identity, connection, options, places, size, sources)
        if options.unpack_model is not None:
            made["metadata"]["annotations"][names.PACKED_ANNOTATION] = "false" if options.unpack_model else "true"
        kept_in = made["spec"].get("checkpointConfig", {}).get("s3URI")
        if places.checkpoints and kept_in == places.checkpoints and not job.keep_checkpoints:
            made["metadata"]["annotations"][names.PASSING_ANNOTATION] = "true"
        exposure.refuse_secrets(job, made["spec"], secrets)
        inputs = job.marked(each.as_input() for each in sources.values())
        yield Prepared(made, folder, uploads, inputs, digest)


def _uploads(job: TrainingJob, sources: dict[str, Source], scratch: Path) -> dict[str, Source]:
    found = {}
    if job.program:
        archive = scratch / script_mode.ARCHIVE
        script_mode.pack(script_mode.archive_files(job, sources), archive)
        found[f"{CODE}/{script_mode.ARCHIVE}"] = measure(script_mode.ARCHIVE, archive)
    for path, channel in spec.channels(job, sources).items():
        inside = path if job.program or "/" in path else f"{channel}/{path}"
        if f"{DATA}/{inside}" in found:
            raise InvalidJob(
                f"data_input has {path!r} and {inside!r}, which would be one file of the channel {channel!r}, that of "
                "files outside of folders: give one of them another name.",
                field="data_input",
            )
        found[f"{DATA}/{inside}"] = sources[path]
    return found


def _places(
    job: TrainingJob, job_id: str, connection: SageMakerConnection, folder: str, sources: dict[str, Source]
) -> spec.Places:
    root = f"s3://{connection.bucket}/{folder}"
    channels = sorted(set(spec.channels(job, sources).values()))
    return spec.Places(
        output=f"s3://{connection.bucket}/{folder.rpartition('/')[0]}/output",
        code=f"{root}/{CODE}/{script_mode.ARCHIVE}" if job.program else "",
        channels={name: f"{root}/{DATA}/" + ("" if job.program else f"{name}/") for name in channels},
        checkpoints=checkpoint_folder(job, job_id, connection),
    )
