# SPDX-License-Identifier: Apache-2.0
"""Jobs for the tests of the double: their code in the store, and the requests that create them."""

from __future__ import annotations

import uuid
from typing import Any

from tests.harness.modelarts.caller import Caller

V1, V2 = "/v1/{project_id}/training-jobs", "/v2/{project_id}/training-jobs"


class Samples:
    """Makes jobs of either dialect.

    :param caller: Who asks for them.
    """

    def __init__(self, caller: Caller) -> None:
        self.caller = caller

    def place(self, code: str = "print('hello')", **files: str) -> str:
        """Put a boot file and data into the store and return the folder."""
        folder = f"/{self.caller.double.bucket}/{uuid.uuid4()}/"
        every = {"code/boot.py": code, "data/x.csv": "1,2", "output/.keep": ""} | files
        for name, content in every.items():
            self.caller.double.put(f"{folder}{name}", content)
        return folder

    def v1(self, folder: str, **config: Any) -> dict[str, Any]:
        """A request of v1; a value of None takes a field away."""
        body = {
            "worker_server_num": 1,
            "app_url": f"{folder}code/",
            "boot_file_url": f"{folder}code/boot.py",
            "data_url": f"{folder}data/",
            "train_url": f"{folder}output/",
            "engine_id": 4,
            "spec_id": 27,
        } | config
        given = {name: value for name, value in body.items() if value is not None}
        return {"job_name": f"sample-{uuid.uuid4()}", "job_desc": "a sample", "config": given}

    def v2(self, folder: str, *, resource: dict[str, Any] | None = None, **algorithm: Any) -> dict[str, Any]:
        """A request of v2; a value of None takes a field away."""
        body = {
            "code_dir": f"{folder}code/",
            "boot_file": f"{folder}code/boot.py",
            "engine": {"engine_name": "TensorFlow", "engine_version": "TF-1.8.0-python3.6"},
            "inputs": [{"name": "data_url", "remote": {"obs": {"obs_url": f"{folder}data/"}}}],
            "outputs": [{"name": "train_url", "remote": {"obs": {"obs_url": f"{folder}output/"}}}],
        } | algorithm
        given = {name: value for name, value in body.items() if value is not None}
        flavor = {"flavor_id": "modelarts.vm.cpu.8u", "node_count": 1}
        metadata = {"name": f"sample-{uuid.uuid4()}", "description": "a sample"}
        return {
            "kind": "job",
            "metadata": metadata,
            "algorithm": given,
            "spec": {"resource": flavor if resource is None else flavor | resource},
        }

    def start_v1(self, code: str = "print('hello')", **config: Any) -> str:
        """Create a job and return the path of its version."""
        answer = self.caller.ok("POST", V1, self.v1(self.place(code), **config))
        return f"{V1}/{answer['job_id']}/versions/{answer['version_id']}"

    def start_v2(self, code: str = "print('hello')", **more: Any) -> str:
        """Create a job and return its path."""
        answer = self.caller.ok("POST", V2, self.v2(self.place(code), **more))
        return f"{V2}/{answer['metadata']['id']}"
