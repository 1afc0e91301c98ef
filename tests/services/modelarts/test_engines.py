# SPDX-License-Identifier: Apache-2.0
"""Which engine a job's image is."""

from __future__ import annotations

import pytest

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.modelarts.engines import CustomImage, Engine, choose, custom, read
from tests.harness.modelarts.catalogue import ENGINES

TF1, TF1_PY2 = Engine(4, "TensorFlow", "TF-1.8.0-python3.6"), Engine(3, "TensorFlow", "TF-1.8.0-python2.7")
TF2 = Engine(120, "TensorFlow", "TF-2.1.0-python3.7")
EVERY = read(ENGINES)


@pytest.mark.parametrize(
    ("image", "python", "engine"),
    [
        ("TensorFlow:TF-1.8.0-python3.6", 3, TF1),
        ("tensorflow:tf-1.8.0-PYTHON3.6", 3, TF1),
        ("TF-1.8.0-python3.6", 3, TF1),
        ("4", 3, TF1),
        ("tensorflow/tensorflow:1.8.0", 3, TF1),
        ("tensorflow/tensorflow:1.8.0", 2, TF1_PY2),
        ("tensorflow/tensorflow:1.8.0-gpu", 3, TF1),
        ("tensorflow/tensorflow:2.1.0", 3, TF2),
        ("tensorflow/tensorflow", 3, TF2),
        ("tensorflow:latest", 3, TF2),
        ("tensorflow/tensorflow:2", 3, TF2),
    ],
)
def test_the_engine_of_an_image(image: str, python: int, engine: Engine) -> None:
    assert choose(EVERY, image, python=python) == engine


def test_what_an_engine_stands_on_is_no_version_of_it() -> None:
    engine = Engine("a", "tensorflow", "tensorflow_2.1.0-cuda_10.1-py_3.7-ubuntu_18.04-x86_64")
    assert choose([engine], "tensorflow/tensorflow:2.1") == engine
    for tag in ("10.1", "10", "3.7", "3", "18.04", "18"):
        with pytest.raises(InvalidJob):
            choose([engine], f"tensorflow/tensorflow:{tag}")


def test_who_has_the_last_word() -> None:
    """The DAG's options, then an exact image, then the connection, then what the image's name is like."""
    exact, like = "TensorFlow:TF-2.1.0-python3.7", "tensorflow:latest"
    assert choose(EVERY, exact, named="TF-1.8.0-python3.6", default="PyTorch:PyTorch-1.0.0-python3.6") == TF1
    assert choose(EVERY, exact, default="TensorFlow:TF-1.8.0-python3.6") == TF2
    assert choose(EVERY, like, default="TensorFlow:TF-1.8.0-python3.6") == TF1
    assert choose(EVERY, "python:3.12", default="TensorFlow:TF-1.8.0-python3.6") == TF1
    assert choose(EVERY, "tensorflow/tensorflow:2.1.0", default="TensorFlow:TF-1.8.0-python3.6") == TF2


@pytest.mark.parametrize("image", ["swr.example.com/me/tf:1", "swr.eu-de.otc.t-systems.com/org/image"])
def test_an_image_of_a_registry(image: str) -> None:
    assert choose(EVERY, image) == custom(image) == CustomImage(image)


def test_an_image_of_no_registry_needs_a_list() -> None:
    assert [custom(image) for image in ("tensorflow/tensorflow:2.1.0", "TF-1.8.0-python3.6", "python:3.12")] == [
        None
    ] * 3


@pytest.mark.parametrize(
    ("image", "named", "default", "said"),
    [
        ("tensorflow/tensorflow:9.9.9", None, None, "the job names the image 'tensorflow/tensorflow:9.9.9'"),
        ("tensorflow/tensorflow:1.8", "TF:99", None, "service_options name the engine 'TF:99'"),
        ("tensorflow/tensorflow:2.7", None, None, "the job names the image 'tensorflow/tensorflow:2.7'"),
        ("tensorflow/tensorflow:3", None, None, "the job names the image 'tensorflow/tensorflow:3'"),
        ("python:3.12", None, "TF:99", "the connection names the engine 'TF:99'"),
    ],
)
def test_no_such_engine(image: str, named: str | None, default: str | None, said: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        choose(EVERY, image, named=named, default=default)
    assert str(caught.value).startswith(f"ModelArts has no such engine: {said}; name one of these: Ascend-Powered-E")
    assert "TensorFlow:TF-1.8.0-python3.6" in str(caught.value)
