# SPDX-License-Identifier: Apache-2.0
"""What the double offers: resource specifications and engines, as the documents' samples list them.

Where a sample says "......", rows that look like it stand in its place: a flavour for several nodes, GPUs, and one that
is always sold out.
"""

from __future__ import annotations

from typing import Any

POOL_ID, POOL_NAME, POOL_FLAVOR = "pool7d1e384a", "hec-train-pub-cpu", "modelarts.vm.cpu.8u"


def _spec(spec_id: int, code: str, core: int, memory: int, max_num: int, gpus: int = 0) -> dict[str, Any]:
    return {
        "spec_id": spec_id,
        "core": str(core),
        "cpu": str(memory),
        "gpu_num": gpus,
        "gpu_type": "nvidia-v100" if gpus else "",
        "spec_code": code,
        "unit_num": 1,
        "max_num": max_num,
        "storage": "",
        "interface_type": 1,
        "no_resource": False,
    }


SPECS = [
    _spec(2, "modelarts.vm.gpu.v100", 8, 64, 4, gpus=1),
    _spec(5, "modelarts.vm.gpu.4v100", 32, 256, 4, gpus=4) | {"no_resource": True},
    _spec(29, "modelarts.vm.cpu.16u", 16, 64, 16),
    _spec(7, "modelarts.vm.cpu.2u", 2, 8, 1),
    _spec(27, "modelarts.vm.cpu.8u", 8, 32, 1),
]
"""v1: the last two are those of the documents' procedure."""


def _engine(engine_type: int, name: str, engine_id: int, version: str) -> dict[str, Any]:
    return {"engine_type": engine_type, "engine_name": name, "engine_id": engine_id, "engine_version": version}


ENGINES = [
    _engine(13, "Ascend-Powered-Engine", 130, "TF-1.15-python3.7-aarch64"),
    _engine(2, "MXNet", 1, "MXNet-1.2.1-python2.7"),
    _engine(4, "Caffe", 2, "Caffe-1.0.0-python2.7"),
    _engine(1, "TensorFlow", 3, "TF-1.8.0-python2.7"),
    _engine(1, "TensorFlow", 4, "TF-1.8.0-python3.6"),
    _engine(1, "TensorFlow", 120, "TF-2.1.0-python3.7"),
    _engine(10, "PyTorch", 60, "PyTorch-1.0.0-python3.6"),
    _engine(9, "XGBoost-Sklearn", 100, "XGBoost-0.80-Sklearn-0.18.1-python3.6"),
]
"""v1: the numbers 130, 3, 4 and 100 are those of the documents' procedure."""


def _flavor(code: str, name: str, cores: int, memory: int, max_num: int, gpus: int = 0) -> dict[str, Any]:
    info: dict[str, Any] = {"max_num": max_num, "cpu": {"arch": "x86", "core_num": cores}}
    if gpus:
        info["gpu"] = {"unit_num": gpus, "product_name": "NVIDIA-V100", "memory": "32GB"}
    info |= {"memory": {"size": memory, "unit": "GB"}, "disk": {"size": 50, "unit": "GB"}}
    return {
        "flavor_id": code,
        "flavor_name": name,
        "flavor_type": "GPU" if gpus else "CPU",
        "billing": {"code": code, "unit_num": 1},
        "flavor_info": info,
    }


FLAVORS = [
    _flavor("modelarts.vm.cpu.2u", "Computing CPU(2U) instance", 2, 8, 1),
    _flavor("modelarts.vm.cpu.8u", "Computing CPU(8U) instance", 8, 32, 16),
    _flavor("modelarts.vm.gpu.v100", "Computing GPU(V100) instance", 8, 64, 4, gpus=1),
    _flavor("modelarts.vm.gpu.4v100", "Computing GPU(4V100) instance", 32, 256, 4, gpus=4),
]
"""v2: the first two are the documents' answer to ``flavor_type=CPU``."""


def _image(engine_id: str, name: str, version: str, image: str, image_version: str, *, v1: bool) -> dict[str, Any]:
    return {
        "engine_id": engine_id,
        "engine_name": name,
        "engine_version": version,
        "v1_compatible": v1,
        "run_user": "" if v1 else "1102",
        "image_info": {"cpu_image_url": image, "gpu_image_url": image, "image_version": image_version},
    }


_TF2 = "tensorflow_2.1.0-cuda_10.1-py_3.7-ubuntu_18.04-x86_64"
_XGBOOST = _image(
    "xgboost-sklearn-python3.6",
    "XGBoost-Sklearn",
    "XGBoost-0.80-Sklearn-0.18.1-python3.6",
    "modelarts-job-dev-image/python-train-py36:secure",
    "2.0.10-20211101113705",
    v1=True,
)
_XGBOOST["image_info"]["gpu_image_url"] = ""

IMAGES = [
    _image(
        "tensorflow-cp36-1.8.0",
        "TensorFlow",
        "TF-1.8.0-python3.6",
        "modelarts-job-dev-image/tensorflow-cpu-cp36:1.8.0",
        "3.1.0",
        v1=True,
    ),
    _image(_TF2, "TensorFlow", _TF2, "aip/tensorflow_2_1:train", f"{_TF2}-20210912152543-1e0838d", v1=False),
    _XGBOOST,
]
"""v2: the last two are the documents'."""

ALGORITHM_LIMITS = {"files": 1000, "depth": 32, "bytes": 5 * 1024**3}
"""What a code folder may hold; the numbers are the user guide's, the error codes .2759 to .2761."""


def spec_of(key: str, value: object) -> dict[str, Any] | None:
    """The specification of v1 whose field has a value."""
    return next((spec for spec in SPECS if spec[key] == value), None)


def engine_of(engine_id: object) -> dict[str, Any] | None:
    """The engine of v1 with an id."""
    return next((engine for engine in ENGINES if engine["engine_id"] == engine_id), None)


def flavor_of(flavor_id: object) -> dict[str, Any] | None:
    """The flavour of v2 with an id."""
    return next((flavor for flavor in FLAVORS if flavor["flavor_id"] == flavor_id), None)


def image_of(wanted: dict[str, Any]) -> dict[str, Any] | None:
    """The engine of v2 that a request names by its id, or by name and version."""
    keys = ["engine_id"] if wanted.get("engine_id") else ["engine_name", "engine_version"]
    return next((image for image in IMAGES if all(image[key] == wanted.get(key) for key in keys)), None)
