# SPDX-License-Identifier: Apache-2.0
"""``jobapi submit``: the same command continues what failed, ``--resume-from`` continues any job."""

from __future__ import annotations

from pathlib import Path

SUBMIT = ("submit", "-f", "job.yaml", "files", "-w")
SCRIPT = """
import os, pathlib, sys
folder = pathlib.Path(os.environ["CHECKPOINT_DIR"])
print("found", sorted(path.name for path in folder.iterdir()))
step = len(list(folder.iterdir())) + 1
(folder / f"step-{step}.json").write_text("{}")
sys.exit(0 if step % 2 == 0 else 1)
"""


def test_the_same_command_continues_what_failed(work: Path, command, jobapi_server):
    (work / "files" / "train.py").write_text(f"{SCRIPT}\n# {work}\n")
    keep = "--keep-checkpoints"
    first = command(*SUBMIT, keep)
    assert "found []" in first.out
    second = command(*SUBMIT, keep)
    assert "found ['step-1.json']" in second.out
    done = second.out.splitlines()[0]
    assert jobapi_server.status(done)["resumedFrom"] == first.out.splitlines()[0]
    assert "found []" in command(*SUBMIT, "--new").out
    assert "found ['step-1.json', 'step-2.json']" in command(*SUBMIT, "--resume-from", done).out
    refused = command(*SUBMIT, "--resume-from", "6f2d9b0e-53b5-5c8e-9d0f-6a1f2f6f0c1a")
    assert "which this client never submitted" in refused.err
    shown = command("status", done).out
    assert f"continues: {first.out.splitlines()[0]}" in " ".join(shown.split())
