# SPDX-License-Identifier: Apache-2.0
"""Choice of the flavour for a job."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import InvalidJob, QuotaReached
from airflow_provider_jobapi.services.modelarts.catalogue import Flavor, choose_flavor, read_v1_flavors, read_v2_flavors
from airflow_provider_jobapi.training.job_file import Resources
from tests.harness.modelarts.caller import document


def flavor(code: str, cpus: int = 2, memory: int = 8, **more: Any) -> Flavor:
    known: dict[str, Any] = {"gpus": 0, "npus": 0, "nodes": 1, "sold_out": False}
    return Flavor(code, cpus, memory=1024 * memory, **(known | more))


SMALL, LARGE = flavor("small"), flavor("large", 8, 32, nodes=4)
WIDE = flavor("wide", 8, 64)
GPU, ASCEND = flavor("gpu", 8, 64, gpus=1, nodes=4), flavor("ascend", 2, 8, npus=1)
EDGE = flavor("edge", 1, 4, gpus=1)
EVERY = [EDGE, ASCEND, GPU, WIDE, LARGE, SMALL]


def resources(**given: Any) -> Resources:
    return Resources(**({"cpus": 1, "gpus": 0, "memory": 2048} | given))


@pytest.mark.parametrize(
    ("wanted", "nodes", "code"),
    [
        ({}, 1, "small"),
        ({"cpus": 3}, 1, "large"),
        ({"memory": 8000}, 1, "small"),
        ({"memory": 8192}, 1, "small"),
        ({"memory": 8193}, 1, "large"),
        ({"memory": 40_000}, 1, "wide"),
        ({"gpus": 1}, 1, "edge"),
        ({"gpus": 1, "cpus": 2}, 1, "gpu"),
        ({}, 2, "large"),
    ],
)
def test_the_cheapest_that_fits(wanted: dict[str, Any], nodes: int, code: str) -> None:
    """Fewest accelerators, then fewest cores, then least memory; never an Ascend processor."""
    assert choose_flavor(EVERY, resources(**wanted), None, nodes).code == code


def test_sold_out_flavors_are_skipped() -> None:
    assert choose_flavor([flavor("small", sold_out=True), LARGE, GPU], resources(), None).code == "large"


def test_all_that_fit_are_sold_out() -> None:
    with pytest.raises(QuotaReached) as caught:
        choose_flavor([flavor("small", sold_out=True), flavor("gpu", 8, 64, gpus=1, sold_out=True)], resources(), None)
    assert str(caught.value) == (
        "Every flavour that fits is sold out; run the task later; flavours that fit: small (2 CPUs, 8 GB, sold out), "
        "gpu (8 CPUs, 64 GB, 1 GPUs, sold out)."
    )


def test_named_flavor() -> None:
    assert choose_flavor(EVERY, resources(), "ascend") is ASCEND  # though it would not be chosen
    with pytest.raises(InvalidJob, match=r"no flavour 'tiny'; flavours that fit: small \(2 CPUs, 8 GB\), la"):
        choose_flavor(EVERY, resources(), "tiny")
    with pytest.raises(QuotaReached, match=r"small is sold out; run the task later; flavours that fit: .*large"):
        choose_flavor([flavor("small", sold_out=True), LARGE], resources(), "small")


def test_more_nodes_than_a_job_can_have() -> None:
    with pytest.raises(InvalidJob, match="The job has 5 nodes, and each flavour that fits has at most 4; set fewer"):
        choose_flavor(EVERY, resources(), None, 5)
    with pytest.raises(InvalidJob, match="The job has 2 nodes, and flavour small has at most 1; set fewer nodes"):
        choose_flavor(EVERY, resources(), "small", 2)
    unknown = flavor("unknown", nodes=None)
    assert choose_flavor([*EVERY, unknown], resources(), None, 5) is unknown  # the list does not say how many


def test_a_service_without_flavors() -> None:
    with pytest.raises(
        InvalidJob, match="ModelArts lists no flavours for training: check that the connection's project"
    ):
        choose_flavor([], resources(), None)


def test_a_flavor_named_by_its_id() -> None:
    flavors = read_v1_flavors(each for each in document("specs")["specs"] if isinstance(each, dict))
    assert choose_flavor(flavors, resources(), "27").code == "modelarts.vm.cpu.8u"


def test_no_flavor_fits() -> None:
    with pytest.raises(
        InvalidJob,
        match=r"9 GPUs and 2048 MB; change job_resources; available .*: small .*, edge .*1 GPUs",
    ):
        choose_flavor(EVERY, resources(gpus=9), None)
    with pytest.raises(InvalidJob, match=r"available flavours: ascend \(2 CPUs, 8 GB, 1 NPUs\)\."):
        choose_flavor([ASCEND], resources(), None)


def test_the_specs_of_the_procedure() -> None:
    assert read_v1_flavors(each for each in document("specs")["specs"] if isinstance(each, dict)) == [
        Flavor("modelarts.vm.cpu.2u", 2, 0, 0, 8192, 1, sold_out=False, id=7),
        Flavor("modelarts.vm.cpu.8u", 8, 0, 0, 32768, 1, sold_out=False, id=27),
    ]


@pytest.mark.parametrize("said", [True, "true"])
def test_sold_out_in_v1(said: object) -> None:
    (found,) = read_v1_flavors([{"spec_code": "x", "core": "2", "cpu": "8", "no_resource": said}])
    assert found.sold_out


@pytest.mark.parametrize("code", ["modelarts.kat1.xlarge", "modelarts.bm.ascend.910", "modelarts.vm.npu.1"])
def test_an_ascend_processor_in_v1(code: str) -> None:
    (found,) = read_v1_flavors([{"spec_code": code, "core": "2", "cpu": "8"}])
    assert found.npus


def test_the_flavours_of_the_reference() -> None:
    found = read_v2_flavors(document("v2_flavors_cpu")["flavors"])
    assert [(each.code, each.cpus, each.gpus, each.memory) for each in found] == [
        ("modelarts.vm.cpu.2u", 2, 0, 8192),
        ("modelarts.vm.cpu.8u", 8, 0, 32768),
    ]
    assert not any(each.sold_out for each in found)
