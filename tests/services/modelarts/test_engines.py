# SPDX-License-Identifier: Apache-2.0
"""Choice of the engine for a job's image."""

from __future__ import annotations

import pytest

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.modelarts.catalogue import (
    CustomImage,
    ModelArtsEngine,
    choose_engine,
    custom_image,
    read_engines,
)
from tests.harness.modelarts.catalogue import ENGINES

TF1, TF1_PY2 = (
    ModelArtsEngine(4, "TensorFlow", "TF-1.8.0-python3.6"),
    ModelArtsEngine(3, "TensorFlow", "TF-1.8.0-python2.7"),
)
TF2 = ModelArtsEngine(120, "TensorFlow", "TF-2.1.0-python3.7")
EVERY = read_engines(ENGINES)


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
def test_the_engine_of_an_image(image: str, python: int, engine: ModelArtsEngine) -> None:
    assert choose_engine(EVERY, image, python=python) == engine


def test_platform_versions_are_not_engine_versions() -> None:
    engine = ModelArtsEngine("a", "tensorflow", "tensorflow_2.1.0-cuda_10.1-py_3.7-ubuntu_18.04-x86_64")
    assert choose_engine([engine], "tensorflow/tensorflow:2.1") == engine
    for tag in ("10.1", "10", "3.7", "3", "18.04", "18"):
        with pytest.raises(InvalidJob):
            choose_engine([engine], f"tensorflow/tensorflow:{tag}")


def test_precedence() -> None:
    """The DAG's options, then an exact image, then the connection, then a similar name."""
    exact, like = "TensorFlow:TF-2.1.0-python3.7", "tensorflow:latest"
    assert choose_engine(EVERY, exact, named="TF-1.8.0-python3.6", default="PyTorch:PyTorch-1.0.0-python3.6") == TF1
    assert choose_engine(EVERY, exact, default="TensorFlow:TF-1.8.0-python3.6") == TF2
    assert choose_engine(EVERY, like, default="TensorFlow:TF-1.8.0-python3.6") == TF1
    assert choose_engine(EVERY, "python:3.12", default="TensorFlow:TF-1.8.0-python3.6") == TF1
    assert choose_engine(EVERY, "tensorflow/tensorflow:2.1.0", default="TensorFlow:TF-1.8.0-python3.6") == TF2


@pytest.mark.parametrize("image", ["swr.example.com/me/tf:1", "swr.eu-de.otc.t-systems.com/org/image"])
def test_an_image_of_a_registry(image: str) -> None:
    assert choose_engine(EVERY, image) == custom_image(image) == CustomImage(image)


def test_other_images_need_the_list_of_engines() -> None:
    assert [custom_image(image) for image in ("tensorflow/tensorflow:2.1.0", "TF-1.8.0-python3.6", "python:3.12")] == [
        None
    ] * 3


@pytest.mark.parametrize(
    ("image", "named", "default", "said"),
    [
        ("tensorflow/tensorflow:9.9.9", None, None, "image 'tensorflow/tensorflow:9.9.9' of the job"),
        ("tensorflow/tensorflow:1.8", "TF:99", None, "engine 'TF:99' in service_options"),
        ("tensorflow/tensorflow:2.7", None, None, "image 'tensorflow/tensorflow:2.7' of the job"),
        ("tensorflow/tensorflow:3", None, None, "image 'tensorflow/tensorflow:3' of the job"),
        ("python:3.12", None, "TF:99", "engine 'TF:99' in the connection"),
    ],
)
def test_no_such_engine(image: str, named: str | None, default: str | None, said: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        choose_engine(EVERY, image, named=named, default=default)
    assert str(caught.value).startswith(f"ModelArts has no engine for the {said}; use one of: Ascend-Powered-E")
    assert "TensorFlow:TF-1.8.0-python3.6" in str(caught.value)


def test_a_service_without_engines() -> None:
    with pytest.raises(
        InvalidJob, match="ModelArts lists no engines for training: check that the connection's project"
    ):
        choose_engine([], "tensorflow/tensorflow:2.1.0")
