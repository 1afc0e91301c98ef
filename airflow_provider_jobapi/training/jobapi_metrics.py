# SPDX-License-Identifier: Apache-2.0
"""Report metrics and progress from a training script, and find its last checkpoint.

Copy this file beside the script; it needs nothing but Python 3.8::

    import jobapi_metrics

    last = jobapi_metrics.latest_checkpoint()
    jobapi_metrics.log(step, loss=0.25, accuracy=0.9)
    jobapi_metrics.progress(step, 1000)

Metrics and progress are lines of JSON on standard output, which the operator reads. Nothing is written outside a job,
and no error is raised.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_NAME_LIMIT = 100
_NUMBER = re.compile(r"\d+")
_COUNTED = re.compile(r"(?i)(?:epoch|step|iter(?:ation)?|checkpoint|ckpt)[-_=.]?(\d+)")
_VALUE = re.compile(r"\d+\.\d+")
_WRITING = re.compile(
    r"(^|[._-])(tmp|incomplete|in[._-]?progress|tempstate)([._-]|\d|[0-9a-f]{6,}$|$)"
    r"|[._-](temp|part|partial|writing)([._-]?[0-9a-f]{4,}|[._-]\d+)?$|^tmp[a-z0-9_]{8}(\.\w+)?$|~$",
    re.IGNORECASE,
)
"""Names that say that a file or folder is being written."""
_BESIDE = re.compile(r"\.(data-\d+-of-\d+|meta|json|txt|csv|ya?ml|log)$|^checkpoint$|^latest$|^events\.out\.tfevents")
"""Names of files beside checkpoints."""
_METRICS_A_LINE = 10  # a line of a job's log holds 16 KiB; a longer one would be cut


_PROGRESS_PAUSE = 1.0  # seconds from one line about the progress to the next, but for the last one
_next_progress = 0.0


def listening() -> bool:
    """Whether the script runs as a job: every service sets ``JOB_ID``."""
    return bool(os.environ.get("JOB_ID"))


def log(step: Any = None, metrics: Mapping[str, Any] | None = None, **more: Any) -> None:
    """Write the metrics of one step.

    :param step: The epoch or step, whole or fractional. None numbers the values of each metric from 1.
    :param metrics: Names and numbers, as Keras passes to callbacks in ``logs``. Others are left out.
    :param more: More metrics, as keyword arguments.
    """
    if not listening():
        return
    try:
        values = _numbers(dict(metrics or {}, **more))
        where = _number(step)
        where = where if isinstance(where, float) else None
        lines = [
            json.dumps({"jobapi_metrics": 1, "step": where, "metrics": dict(values[begin : begin + _METRICS_A_LINE])})
            for begin in range(0, len(values), _METRICS_A_LINE)
        ]
        sys.stdout.write("".join(line + "\n" for line in lines))
        sys.stdout.flush()
    except Exception:  # noqa: BLE001, S110 -- metrics must never fail a training
        pass


def progress(done: Any, total: Any) -> None:
    """Write how far the training is, at most once a second, so that it may be called at every step.

    :param done: How much is done: epochs, steps, or any other measure.
    :param total: How much there is to do.
    """
    global _next_progress  # noqa: PLW0603 -- one training a process
    now = time.monotonic()
    if not listening():
        return
    try:
        first, second = float(done), float(total)
        if not 0 <= first <= second < math.inf or second == 0 or (now < _next_progress and first < second):
            return
        _next_progress = now + _PROGRESS_PAUSE
        line = json.dumps({"jobapi_metrics": 1, "progress": {"done": first, "total": second}})
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except Exception:  # noqa: BLE001, S110 -- as for metrics
        pass


def _numbers(values: Mapping[str, Any]) -> list[tuple[str, float | str]]:
    read = [(str(name)[:_NAME_LIMIT], _number(value)) for name, value in values.items()]
    return [(name, value) for name, value in read if name and value is not None]


def _number(value: Any) -> float | str | None:
    """Convert to a float, or to a word where JSON has no such number (NaN, infinities); None where that fails."""
    try:
        number = float(value)
    except Exception:  # noqa: BLE001 -- tensors raise errors of many types
        return None
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def latest_checkpoint(folder: str | None = None) -> str | None:
    """Return the path of the newest whole checkpoint, a file or a folder; None where there is none.

    Of a TensorFlow checkpoint it is the prefix that ``tf.train.Checkpoint.restore`` takes. What has a name that says
    that it is being written is left out, as are empty files, archives without their end, and folders of the Trainer
    without their last file. A job finds only whole checkpoints in ``CHECKPOINT_DIR``; the same script works elsewhere.

    :param folder: The folder; by default ``CHECKPOINT_DIR``, and None where that is not set.
    """
    place = Path(folder or os.environ.get("CHECKPOINT_DIR") or "/nonexistent")
    if not place.is_dir():
        return None
    whole = [each for each in place.iterdir() if _is_whole(each)]
    found = [each for each in whole if not _BESIDE.search(each.name)] or [
        each for each in whole if each.suffix == ".json"
    ]
    if not found:
        return None
    newest = max(found, key=_written)
    # Where checkpoints are counted, the number says it better: files of an old one may be touched later.
    series = [each for each in found if _NUMBER.sub("#", each.name) == _NUMBER.sub("#", newest.name)]
    newest = max(series, key=lambda each: (_counts(each.name), _written(each)))
    return str(newest.with_suffix("") if newest.suffix == ".index" else newest)


def _is_whole(path: Path) -> bool:
    if path.name.startswith(".") or _WRITING.search(path.name) or path.with_name(path.name + ".incomplete").exists():
        return False
    if path.is_dir():
        inside = {each.name for each in path.iterdir()}
        trainer = bool(inside & {"optimizer.pt", "training_args.bin"})
        return (
            bool(inside) and not any(map(_WRITING.search, inside)) and (not trainer or "trainer_state.json" in inside)
        )
    if not path.is_file() or not os.access(path, os.R_OK):  # a link to nothing, a FIFO
        return False
    with path.open("rb") as file:
        head = file.read(4)
        return bool(head) and (head != b"PK\3\4" or zipfile.is_zipfile(file))


def _counts(name: str) -> list[int]:
    """The numbers by which checkpoints are counted, not those of a value such as ``loss=0.25``."""
    return [int(each) for each in _COUNTED.findall(name) or _NUMBER.findall(_VALUE.sub("", name))]


def _written(path: Path) -> float:
    """When a file, or the newest one in a folder, was written."""
    files = (each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    return max((each.stat().st_mtime for each in files), default=0.0)
