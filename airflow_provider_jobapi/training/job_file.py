# SPDX-License-Identifier: Apache-2.0
"""The job file: a job as it is submitted to a jobAPI server, in YAML or JSON.

The shape is the one of two public job files of SAP's service (an ``.sapml`` file of 2018 and a submit of 2019)::

    job:
      name: train-digits
      env: [{name: EPOCHS, value: "5"}]
      execution:
        image: tensorflow/tensorflow:2.21.0
        command: pip3 install -r requirements.txt && python3 train.py --epochs=5
        completionTime: 20h
        resources: {cpus: 2, gpus: 0, memory: 4096}
        retries: 0
      inputs: [{path: train.py, size: 1200, sha256: "…"}]

``inputs`` is an addition: the files that the job may read, checked and kept as they are when it is submitted.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, Field

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.job_features import Feature, without_unused
from airflow_provider_jobapi.training.validation import NumberAsText, Strict, Text, refuse_duplicates, validated

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
"""A job's name, which is part of a path."""

JOB_ID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"

ENV_NAME = r"[A-Za-z_][A-Za-z0-9_.-]{0,199}"
MEMORY_DEFAULT = 2048

YAML_LIMIT = 256 * 1024
"""Characters of a job file in YAML, of which a megabyte takes seconds to parse; JSON has no such limit."""


VALUES_LIMIT = 600_000
"""Values of a job file in JSON, each of which takes many times its own bytes; 100,000 inputs are 400,000."""

YAML_VALUES_LIMIT = 20_000
"""Lines and values of a job file in YAML, of which 100,000 take seconds to parse."""

FIELDS_LIMIT = 1_000
"""Fields of one object of a job file."""
MOST_INPUTS = 10_000
"""The most files of one job."""


def check_input_count(count: int) -> None:
    """Check the number of the input files of a job.

    :raises InvalidJob: when a job cannot have so many.
    """
    if count > MOST_INPUTS:
        raise InvalidJob(
            f"The job has {count:,} input files and may have at most {MOST_INPUTS:,}: pack them into an archive that "
            "the script unpacks, such as data.tar, or let the script read them from where they are.",
            field="job.inputs",
        )


def check_path(path: str) -> str:
    """Check the path of a file inside the job's working directory.

    :raises ValueError: when it is absolute, leaves the directory, or is no valid file name on every system.
    """
    parts = PurePosixPath(path).parts
    outside = path.startswith("/") or any(part in {".", ".."} for part in path.split("/"))
    if (
        not parts
        or outside
        or path != "/".join(parts)
        or len(path.encode()) > 1024
        or re.search(r"[\x00-\x1f\x7f\\]", path)
    ):
        raise ValueError(path)
    return path


class Resources(Strict):
    """The resources of a job."""

    cpus: int = Field(default=1, ge=1, le=4096, strict=True, description="a whole number of CPUs from 1, such as 2")
    gpus: int = Field(default=0, ge=0, le=1024, strict=True, description="a whole number of GPUs from 0, such as 1")
    memory: int = Field(
        default=MEMORY_DEFAULT,
        ge=1,
        le=2**31,
        strict=True,
        description="a whole number of megabytes from 1, such as 2048, without quotes or unit",
    )


class EnvVar(Strict):
    """One environment variable of a job; the operator passes it to the script as ``--name=value`` too."""

    name: Annotated[str, Field(pattern=f"^{ENV_NAME}$", description="letters, digits, _ . and -, such as TEST_DATA")]
    value: Annotated[
        Text,
        NumberAsText,
        Field(max_length=65_536, description="a text or a number, at most 65,536 characters and no NUL"),
    ]


class InputFile(Strict):
    """A file that the job may read, as the storage must hold it when the job is submitted."""

    path: Annotated[
        str,
        AfterValidator(check_path),
        Field(description="a relative path without '..', backslashes and control characters, such as data/train.csv"),
    ]
    size: int = Field(ge=0, strict=True, description="the file's size in bytes")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="the SHA-256 of the file in 64 lower-case hex digits")
    code: Annotated[bool, Feature("code", "source (a folder of code)")] = Field(
        default=False, strict=True, description="true for a file of the job's code, which does not count as data"
    )


class Execution(Strict):
    """How a job runs."""

    image: Annotated[
        Text,
        Field(default="", max_length=500, description="a container image's name, such as tensorflow/tensorflow:2.21.0"),
    ]
    command: Annotated[
        Text,
        Field(min_length=1, max_length=131_072, description="the shell command that runs the job"),
    ]
    completion_time: Annotated[
        Text,
        NumberAsText,
        Field(
            default="", alias="completionTime", max_length=200, description="the time allowed for the run, such as 20h"
        ),
    ]
    resources: Resources = Field(default_factory=Resources, description="an object of cpus, gpus and memory")
    resource_plan_id: Text = Field(
        default="", alias="resourcePlanId", max_length=200, description="a plan's name, recorded only"
    )
    retries: int = Field(
        default=0, ge=0, le=0, strict=True, description="0: the client repeats a job itself, under the next id"
    )


class JobSpec(Strict):
    """The job of a job file."""

    name: Annotated[
        str,
        Field(
            pattern=f"^{NAME}$",
            description="1 to 100 letters, digits, '.', '_' and '-', beginning with a letter or digit",
        ),
    ]
    env: tuple[EnvVar, ...] = Field(
        default=(), max_length=1_000, fail_fast=True, description="a list of objects of name and value"
    )
    execution: Execution = Field(description="an object with the command")
    inputs: tuple[InputFile, ...] | None = Field(
        default=None,
        max_length=100_000,  # what earlier servers accepted, whose jobs are read again; new ones are checked
        fail_fast=True,
        description=f"a list of at most {MOST_INPUTS:,} objects of path, size and sha256",
        json_schema_extra={"maxItems": MOST_INPUTS},
    )
    resume_from: Annotated[
        str,
        Feature("checkpoints", "resume_from"),
        Field(
            default="",
            alias="resumeFrom",
            pattern=f"^({JOB_ID})?$",
            description="the id of an ended job whose checkpoints this one continues, a UUID in small letters",
        ),
    ]
    keep_checkpoints: Annotated[
        bool,
        Feature("checkpoints", "keep_checkpoints"),
        Field(
            default=False,
            alias="keepCheckpoints",
            strict=True,
            description="true to keep the checkpoints of the job after its success, else false",
        ),
    ]


class JobFile(Strict):
    """A whole job file."""

    job: JobSpec = Field(description="an object with name and execution")

    @classmethod
    def parse(cls, text: str | bytes) -> JobFile:
        """Read a job file in YAML or JSON.

        Aliases, tags and duplicate keys are refused.

        :raises InvalidJob: naming the field and what is allowed.
        """
        content = _load(text)
        if not isinstance(content, dict):
            raise InvalidJob("The job file holds no job; it begins with 'job:' and names name and execution below it.")
        parsed = validated(cls, content)
        refuse_duplicates("job.env", [variable.name for variable in parsed.job.env])
        refuse_duplicates("job.inputs", [file.path for file in parsed.job.inputs or ()])
        return parsed

    def canonical(self) -> bytes:
        """The job as bytes, equal for equal jobs: defaults filled, keys sorted, env in its order.

        A field of a later feature is in it only where it is used, see ``job_features``.
        """
        content = without_unused(self, self.model_dump(mode="json", by_alias=True))
        return json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()

    def digest(self) -> str:
        """The SHA-256 of the canonical bytes, in hex."""
        return hashlib.sha256(self.canonical()).hexdigest()

    def directory(self, job_id: str) -> str:
        """The job's folder in the client's bucket."""
        return directory(self.job.name, job_id)


def directory(name: str, job_id: str) -> str:
    """A job's folder in the client's bucket, named as SAP's clients name it."""
    return f"jobs/{name}-{job_id}"


def _load(text: str | bytes) -> Any:
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        if decoded.lstrip().startswith("{"):
            _refuse_many_values(decoded, ",[{", VALUES_LIMIT)
            try:
                return json.loads(decoded, object_pairs_hook=_object)
            except json.JSONDecodeError:
                pass  # YAML's flow style begins with a brace as well
        if len(decoded) > YAML_LIMIT:
            raise InvalidJob(f"The job file has more than {YAML_LIMIT // 1024} KiB of YAML; write it as JSON.")
        _refuse_many_values(decoded, "\n,[{", YAML_VALUES_LIMIT)
        return yaml.load(decoded, Loader=_Loader)  # noqa: S506 -- a SafeLoader
    except UnicodeDecodeError:
        raise InvalidJob("The job file is not UTF-8; save it as UTF-8.") from None
    except InvalidJob:
        raise
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InvalidJob(f"The job file is neither YAML nor JSON: {' '.join(str(error).split())[:300]}.") from None


def _refuse_many_values(text: str, marks: str, limit: int) -> None:
    """Refuse a job file with many values before they are made: each begins with one of the marks."""
    if sum(text.count(mark) for mark in marks) > limit:
        raise InvalidJob(f"The job file has more than {limit:,} values; pass data as files.")


def _refuse_many_fields(count: int) -> None:
    if count > FIELDS_LIMIT:
        raise InvalidJob(f"An object of the job file has {count:,} fields; at most {FIELDS_LIMIT:,} are allowed.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _refuse_many_fields(len(pairs))
    refuse_duplicates("The job file", [key for key, _ in pairs])
    return dict(pairs)


_NUMBERS = [
    ("tag:yaml.org,2002:int", re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})$")),
    ("tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]{1,17}\.[0-9]{0,17}(?:[eE][-+]?[0-9]{1,3})?$")),
]
_OTHERS = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")


class _Loader(yaml.SafeLoader):
    """Loads YAML without aliases, tags and duplicate keys.

    Numbers are decimal and of bounded length: YAML 1.1 reads ``1:30`` as 90 and ``010`` as 8. Times stay texts.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 -- PyYAML's interface
        first: [each for each in resolvers if each[0] in _OTHERS]
        + [each for each in _NUMBERS if first and first in "-+0123456789"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise InvalidJob("The job file uses a YAML anchor or alias; write the value out.")
        if getattr(event, "tag", None):
            raise InvalidJob(f"The job file uses the YAML tag {event.tag!r}; write plain values.")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        _refuse_many_fields(len(node.value))
        refuse_duplicates("The job file", [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)])
        return super().construct_mapping(node, deep=deep)


def digest_of(files: Iterable[tuple[str, str]]) -> str:
    r"""The SHA-256, in hex, of the lines ``<name>\0<sha256>\n``, sorted, of some files.

    It depends on names and contents alone, and can be computed from what ``sha256sum`` prints.

    :param files: The name and the SHA-256, in hex, of each.
    """
    lines = sorted(f"{name}\0{sha256}\n".encode("utf-8", "surrogateescape") for name, sha256 in files)
    return hashlib.sha256(b"".join(lines)).hexdigest()
