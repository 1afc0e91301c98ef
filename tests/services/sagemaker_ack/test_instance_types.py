# SPDX-License-Identifier: Apache-2.0
"""The table of instance types against its sources, and the choice from it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import botocore
import moto
import pytest

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.sagemaker_ack.instance_types import CHOSEN, choose, table
from airflow_provider_jobapi.training.job_file import Resources


def packed(module: Any, *path: str) -> Any:
    return json.loads(gzip.decompress(Path(module.__file__).parent.joinpath(*path).read_bytes()))


def test_the_table_says_what_aws_says() -> None:
    known = set(packed(botocore, "data", "sagemaker", "2017-07-24", "service-2.json.gz")["shapes"]
                ["TrainingInstanceType"]["enum"])  # fmt: skip
    described = packed(moto, "ec2", "resources", "instance_types.json.gz")
    for name, each in table().items():
        assert name in known
        said = described[name.removeprefix("ml.")]
        gpus = said.get("GpuInfo", {}).get("Gpus", [])
        assert (each.cpus, each.memory) == (said["VCpuInfo"]["DefaultVCpus"], said["MemoryInfo"]["SizeInMiB"]), name
        assert each.gpus == sum(gpu["Count"] for gpu in gpus), name
        assert "x86_64" in said["ProcessorInfo"]["SupportedArchitectures"], name
    assert {each.family for each in table().values()} >= set(CHOSEN)


@pytest.mark.parametrize(
    ("cpus", "gpus", "memory", "name"),
    [
        (1, 0, 2048, "ml.m5.large"),
        (2, 0, 8_000, "ml.m5.large"),
        (2, 0, 9_000, "ml.r5.large"),
        (4, 0, 8_000, "ml.c5.xlarge"),
        (4, 0, 16_000, "ml.m5.xlarge"),
        (64, 0, 4_000, "ml.c5.18xlarge"),
        (1, 1, 2048, "ml.g4dn.xlarge"),
        (8, 1, 30_000, "ml.g4dn.2xlarge"),
        (1, 2, 2048, "ml.g4dn.12xlarge"),
        (1, 8, 2048, "ml.g5.48xlarge"),
        (1, 8, 900_000, "ml.p4d.24xlarge"),
    ],
)
def test_the_smallest_that_fits(cpus: int, gpus: int, memory: int, name: str) -> None:
    assert choose(Resources(cpus=cpus, gpus=gpus, memory=memory)).name == name


def test_more_than_any_has() -> None:
    with pytest.raises(
        InvalidJob, match=r"No instance type has 1 CPUs, 9 GPUs and 2,048 MB; the largest .* ml\.p5\.48x"
    ):
        choose(Resources(cpus=1, gpus=9, memory=2048))
