# SPDX-License-Identifier: Apache-2.0
"""v1: the details of a version that follow from its request, with every field of the documents' procedure."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.harness.modelarts import v1_create
from tests.harness.modelarts.catalogue import POOL_ID, POOL_NAME, engine_of
from tests.harness.modelarts.checks import Fields

_NULL = (
    *("dataset_name", "error_result", "user_frame_image", "gpu", "nas_mount_path", "is_zombie", "outputs"),
    *("algorithm_id", "autosearch_config", "inputs", "dataset_version_name", "retrain_model_id", "nas_share_addr"),
    "npu_info",
)
_REPEATED = (
    *("train_url", "log_url", "boot_file_url", "app_url", "volumes", "dataset_id", "dataset_version_id"),
    *("worker_server_num", "model_id", "user_image_url", "user_command", "data_source"),
)
_OF_THE_SPEC = ("spec_code", "gpu_type", "max_num", "gpu_num", "cpu", "core", "spec_id", "storage", "no_resource")
_METRICS = (
    *("recvBytesRate", "cpuUsage", "sendBytesRate", "memUsage"),
    *("gpuUtil", "gpuMemUsage", "diskWriteRate", "diskReadRate"),
)


def asked(request: dict[str, Any]) -> dict[str, Any]:
    """The fields that follow from a config."""
    config = Fields(request, v1_create.WRONG)
    spec = v1_create.resources(config)
    engine = engine_of(config.number("engine_id") or 1) or {}
    return (
        dict.fromkeys(_NULL)
        | {name: request.get(name) for name in _REPEATED}
        | engine
        | {name: spec[name] for name in _OF_THE_SPEC}
        | {
            "job_type": 1,
            "parameter": [_as_answered(item) for item in request.get("parameter") or []],
            "data_url": v1_create.data_url(config),
            "flavor_code": spec["spec_code"],
            "pod_version": _pod_version(engine.get("engine_version", "")),
            "model_outputs": [],
            "task_summary": {},
            "model_metric_list": "{}",
            "nas_type": "efs",
            "pool_type": "SYSTEM_DEFINED",
            "pool_name": POOL_NAME,
            "pool_id": POOL_ID,
            "system_metric_list": {name: ["0", "0"] for name in _METRICS} | {"interval": 1},
        }
    )


def _pod_version(engine_version: str) -> str | None:
    """``1.8.0-cp36`` of ``TF-1.8.0-python3.6``."""
    found = re.search(r"-([\d.]+)-python(\d)\.(\d+)$", engine_version)
    return f"{found[1]}-cp{found[2]}{found[3]}" if found else None


def _as_answered(item: dict[str, Any]) -> dict[str, Any]:
    """Parameters are asked for with strings and answered with numbers, in the documents' samples."""
    try:
        value = json.loads(item["value"], parse_constant=str)
    except ValueError:
        return dict(item)
    return item | {"value": value} if type(value) in {int, float} else dict(item)
