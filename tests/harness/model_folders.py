# SPDX-License-Identifier: Apache-2.0
"""What scripts leave in ``MODEL_DIR`` and what becomes of it, the same on a jobAPI server and on ModelArts.

Each script runs in its working directory; ``model`` and ``checkpoints`` are what ``MODEL_DIR`` and ``CHECKPOINT_DIR``
name, and ``write(path)`` makes a file that holds its own name.
"""

from __future__ import annotations

from typing import NamedTuple

PRELUDE = """
import os, socket
model, checkpoints = os.environ["MODEL_DIR"], os.environ["CHECKPOINT_DIR"]
def write(path):
    if os.path.dirname(path) and not os.path.isdir(os.path.dirname(path)):
        os.makedirs(os.path.dirname(path))
    with open(path, "w") as file:
        file.write(os.path.basename(path))
def link(target, path, relative=False):
    os.symlink(os.path.relpath(target, os.path.dirname(path)) if relative else target, path)
"""


class ModelFolder(NamedTuple):
    """One case.

    :ivar script: What the script does after :data:`PRELUDE`.
    :ivar kept: What is kept, without ``model/``, each path with the name of the file whose bytes it has.
    :ivar left_out: The first thing that is left out, without ``model/``, and what it is.
    :ivar refused: What the job fails for, and why.
    """

    script: str
    kept: dict[str, str] | None = None
    left_out: tuple[str, str] | None = None
    refused: tuple[str, str] | None = None


_GOOD = "write(model + '/net.pt'); "
_OUTSIDE = "is a link that leads out of the working directory"
_NOTHING = "is a link to what is not there"
_ITSELF = "is a link that leads to itself"
_HOLDS = "is a link to a folder that holds it"
_SPECIAL = "is no regular file"
_BEST = {"best.pt": "epoch-3.pt"}
_NET = {"net.pt": "net.pt"}

MODEL_FOLDERS = {
    # Links to what is the job's own are copies of it.
    "to a checkpoint": ModelFolder(
        "write(checkpoints + '/epoch-3.pt'); link(checkpoints + '/epoch-3.pt', model + '/best.pt')", _BEST
    ),
    "to a checkpoint, relative as Lightning's": ModelFolder(
        "write(checkpoints + '/epoch-3.pt'); link(checkpoints + '/epoch-3.pt', model + '/best.pt', relative=True)",
        _BEST,
    ),
    "to a link among the checkpoints": ModelFolder(
        "write(checkpoints + '/epoch-3.pt'); link('epoch-3.pt', checkpoints + '/last'); "
        "link(checkpoints + '/last', model + '/best.pt')",
        _BEST,
    ),
    "through a link in the working directory": ModelFolder(
        "write(checkpoints + '/run/epoch-3.pt'); link(checkpoints, 'saved'); "
        "link('../saved/run/../run/epoch-3.pt', model + '/best.pt')",
        _BEST,
    ),
    "from the checkpoints back": ModelFolder(
        "write('runs/epoch-3.pt'); link(os.path.abspath('runs'), checkpoints + '/runs'); "
        "link(checkpoints + '/runs/epoch-3.pt', model + '/best.pt')",
        _BEST,
    ),
    "to a folder of checkpoints": ModelFolder(
        "write(checkpoints + '/step-5/a.bin'); write(checkpoints + '/step-5/deep/b.bin'); "
        "link(checkpoints + '/step-5', model + '/final')",
        {"final/a.bin": "a.bin", "final/deep/b.bin": "b.bin"},
    ),
    "to all checkpoints": ModelFolder(
        "write(checkpoints + '/a.bin'); link(checkpoints, model + '/all', relative=True)", {"all/a.bin": "a.bin"}
    ),
    "in the place of MODEL_DIR": ModelFolder(
        "write(checkpoints + '/a.bin'); os.rmdir(model); link(checkpoints, model)", {"a.bin": "a.bin"}
    ),
    "to the working directory": ModelFolder(
        "write('runs/epoch-3.pt'); link(os.path.abspath('runs/epoch-3.pt'), model + '/best.pt')", _BEST
    ),
    # What has no bytes is left out.
    "to nothing": ModelFolder(_GOOD + "link('gone', model + '/last.pt')", _NET, ("last.pt", _NOTHING)),
    "to a checkpoint that was removed": ModelFolder(
        _GOOD + "link(checkpoints + '/gone.pt', model + '/last.pt')", _NET, ("last.pt", _NOTHING)
    ),
    "below a file": ModelFolder(_GOOD + "link('net.pt/x', model + '/x')", _NET, ("x", _NOTHING)),
    "to itself": ModelFolder(_GOOD + "link('x', model + '/x')", _NET, ("x", _ITSELF)),
    "a pipe": ModelFolder(_GOOD + "os.mkfifo(model + '/pipe')", _NET, ("pipe", _SPECIAL)),
    "to a pipe": ModelFolder(_GOOD + "os.mkfifo('pipe'); link('../pipe', model + '/x')", _NET, ("x", _SPECIAL)),
    "a socket": ModelFolder(_GOOD + "os.chdir(model); socket.socket(socket.AF_UNIX).bind('s')", _NET, ("s", _SPECIAL)),
    "several": ModelFolder(
        _GOOD + "os.mkfifo(model + '/b'); link('gone', model + '/a')", _NET, ("a", _NOTHING + ", and 1 more like it")
    ),
    "a SavedModel with a pipe": ModelFolder(
        "write(model + '/saved_model.pb'); os.mkfifo(model + '/pipe')",
        {"saved_model.pb": "saved_model.pb"},
        ("pipe", _SPECIAL),
    ),
    "only a link to nothing": ModelFolder("link('gone', model + '/x')", refused=("x", _NOTHING)),
    "only a pipe": ModelFolder("os.mkfifo(model + '/x')", refused=("x", _SPECIAL)),
    # Bytes that are not the job's, or would be lost, fail it.
    "to another file": ModelFolder(_GOOD + "link('/etc/hostname', model + '/x')", refused=("x", _OUTSIDE)),
    "to a file outside that is not there": ModelFolder(
        _GOOD + "link('/etc/no-such-file', model + '/x')", refused=("x", _OUTSIDE)
    ),
    "to another file, through the checkpoints": ModelFolder(
        _GOOD + "link('/etc', checkpoints + '/etc'); link(checkpoints + '/etc/hostname', model + '/x')",
        refused=("x", _OUTSIDE),
    ),
    "to a folder of checkpoints in which a link leads out": ModelFolder(
        _GOOD + "link('/etc/hostname', checkpoints + '/name'); link(checkpoints, model + '/all')",
        refused=("all/name", _OUTSIDE),
    ),
    "to the folder above the checkpoints": ModelFolder(
        _GOOD + "link(os.path.dirname(checkpoints), model + '/x')", refused=("x", _OUTSIDE)
    ),
    "to the folder above the working directory": ModelFolder(
        _GOOD + "link('../..', model + '/x')", refused=("x", _OUTSIDE)
    ),
    "to a folder that was put in the place of the checkpoints": ModelFolder(
        _GOOD + "os.rename(checkpoints, checkpoints + '.old'); link('/etc', checkpoints); "
        "link(checkpoints + '/hostname', model + '/x')",
        refused=("x", _OUTSIDE),
    ),
    "to its own folder": ModelFolder(_GOOD + "link('.', model + '/x')", refused=("x", _HOLDS)),
    "to the folder above": ModelFolder(_GOOD + "link('..', model + '/x')", refused=("x", _HOLDS)),
    "in a circle through the checkpoints": ModelFolder(
        _GOOD + "link(model, checkpoints + '/back'); link(checkpoints, model + '/x')", refused=("x/back", _HOLDS)
    ),
}
