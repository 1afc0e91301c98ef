# SPDX-License-Identifier: Apache-2.0
"""A double of ModelArts, IAM and OBS, written from their documents.

It is as strict as the API reference, runs boot files for real, and can inject faults (``faults.FAULTS``)::

    with ModelArts(tmp_path) as modelarts:
        modelarts.put("/data/code/train.py", "print('hello')")
        modelarts.inject_fault("too_many_requests", every=3)
        modelarts.kill()       # SIGKILL; its jobs go on
        modelarts.restart()    # on the same port, with the same state
        modelarts.requests()   # the journal

The server is a process of its own, each job is one that outlives it, and the store is rclone's ``serve s3``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.harness.modelarts.double import ModelArts

__all__ = ["ModelArts"]


def __getattr__(name: str) -> Any:
    """Import the class on first use, since the double's own processes do not need the tests' libraries."""
    if name == "ModelArts":
        from tests.harness.modelarts.double import ModelArts

        return ModelArts
    raise AttributeError(name)
