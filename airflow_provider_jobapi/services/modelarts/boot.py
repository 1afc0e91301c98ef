# SPDX-License-Identifier: Apache-2.0
"""The boot file of jobs on ModelArts; this file itself is uploaded beside the job's script.

ModelArts has a code folder, a data folder (``--data_url``) and an output folder (``--train_url``). A training script
expects a working directory with its data, environment variables, arguments, and ``MODEL_DIR``. This file maps one to
the other, so that the same script runs on every service. It runs under the Python of the engine, 2.7 or later, where
this package is not installed.
"""

from __future__ import print_function

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

JOB = "jobapi_job.json"
"""Beside this file: the job's id, its script, its environment variables, and its longest run time in seconds."""

FILES = "jobapi_files.json"
"""Below ``train_url``: every file of the models, with size, SHA-256 and modification time."""

MARKERS = ("saved_model.pb", "saved_model.pbtxt")
TIME_OVER = 124
"""The exit code after completion_time, the same as that of the command ``timeout``."""

OVER = "completion_time is over: the job has run for"
"""The beginning of the log's last line then. v1 has no exit codes, and a script may use the same exit code itself."""


def main(arguments):
    """Run the job and return its exit code."""
    code_folder = os.path.dirname(os.path.abspath(__file__))
    with io.open(os.path.join(code_folder, JOB), encoding="utf-8") as file:
        job = json.load(file)
    given, rest = _split_arguments(arguments, job)
    work = os.path.join(tempfile.mkdtemp(prefix="job-"), "work")
    os.makedirs(work)
    if "data_url" in given:
        _fetch(given["data_url"], work)
    script = os.path.join(work, job["script"])
    shutil.copyfile(os.path.join(code_folder, job["script"]), script)
    rest += [_native(argument) for argument in job.get("arguments", [])]
    code = _install(job, code_folder) or _run(job, work, rest)
    if code == 0 and "train_url" in given and _is_first():
        _keep(work, job["script"], given["train_url"])
    return code


def _split_arguments(arguments, job):
    """Return the folders from ModelArts, and the arguments of the script."""
    own = {name.lower() for name in job["env"]}
    given, rest = {}, []
    for argument in arguments:
        name, _, value = argument.partition("=")
        name = name.lstrip("-")
        if name in {"data_url", "train_url"}:
            given[name] = value
        elif name != "num_gpus" or name in own:  # some engines add it, and a strict script would refuse it
            rest.append(argument)
    return given, rest


def _is_remote(folder):
    return folder.startswith(("s3://", "obs://"))


def _fetch(source, work):
    """Link the data into the working directory. Links need no further space, and a model in the data is ignored."""
    if _is_remote(source):
        import moxing

        here = tempfile.mkdtemp(prefix="data-")
        moxing.file.copy_parallel(source, here)
        source = here
    for folder, _, names in os.walk(source):
        target = os.path.join(work, os.path.relpath(folder, source))
        if not os.path.isdir(target):
            os.makedirs(target)
        for name in names:
            os.symlink(os.path.abspath(os.path.join(folder, name)), os.path.join(target, name))
    keeper = os.path.join(work, ".keep")
    if os.path.lexists(keeper):
        os.remove(keeper)


def _install(job, code_folder):
    """Install the requirements if the platform does not, as in custom images."""
    if not job["requirements"]:
        return 0
    wanted = os.path.join(code_folder, job["requirements"])
    return subprocess.call([sys.executable, "-m", "pip", "install", "-r", wanted])


def _model_folder(work):
    """Return the folder of the model; a data file may have the usual name."""
    folder = os.path.join(work, "model")
    while os.path.isfile(folder):
        folder += "_"
    return folder


def _run(job, work, arguments):
    environ = dict(os.environ, PYTHONUNBUFFERED="1", MODEL_DIR=_model_folder(work), JOB_ID=str(job["id"]))
    environ.update({_native(name): _native(value) for name, value in job["env"].items()})
    children, stops = [], []

    def stop(number, _):
        stops.append(number)
        for each in children:
            each.send_signal(number)

    # Installed before the script starts: a stop between the two would end this process and leave the script running.
    signal.signal(signal.SIGTERM, stop)
    child = subprocess.Popen([sys.executable, job["script"]] + list(arguments), cwd=work, env=environ)
    children.append(child)
    if stops:
        child.send_signal(stops[0])
    timers, over = [], threading.Event()
    if job["seconds"]:
        timers = [threading.Timer(job["seconds"], lambda: (over.set(), child.terminate()))]
        timers.append(threading.Timer(job["seconds"] + 10, child.kill))
    for timer in timers:
        timer.daemon = True
        timer.start()
    code = child.wait()
    for timer in timers:
        timer.cancel()
    if over.is_set():
        print(OVER + " {:g} s and was ended.".format(job["seconds"]))
        return TIME_OVER
    return code if code >= 0 else 128 - code


def _native(text):
    """Return a string of the type that this Python needs for environment variables."""
    return text if isinstance(text, str) else text.encode("utf-8")


def _is_first():
    """Whether this is the first machine of the job, whose model is kept."""
    return os.environ.get("VC_TASK_INDEX", os.environ.get("DLS_TASK_INDEX", "0")) == "0"


def _keep(work, script, train_url):
    """Copy every SavedModel to the output folder."""
    stage = tempfile.mkdtemp(prefix="output-") if _is_remote(train_url) else train_url
    files = []
    kept = _model_files(work, script)
    _warn_of_others(work, set(kept) | {script})
    for path in kept:
        source, target = os.path.join(work, path), os.path.join(stage, path)
        if not os.path.isdir(os.path.dirname(target)):
            os.makedirs(os.path.dirname(target))
        shutil.copyfile(source, target)
        about = {"path": path, "size": os.path.getsize(target), "sha256": _sha256(target)}
        files.append(dict(about, modified=os.path.getmtime(source)))
    with open(os.path.join(stage, FILES), "w") as file:
        json.dump({"files": files}, file)
    if _is_remote(train_url):
        import moxing

        moxing.file.copy_parallel(stage, train_url)


def _model_files(work, script):
    """Return the files of every directory that is a SavedModel, without linked data."""
    found, models = [], []
    for folder, _, names in os.walk(work):
        if any(name in MARKERS and not os.path.islink(os.path.join(folder, name)) for name in names):
            models.append(folder)
        if any(folder == model or folder.startswith(model + os.sep) for model in models):
            paths = [os.path.join(folder, name) for name in names]
            found += [os.path.relpath(path, work) for path in paths if not os.path.islink(path)]
    return [path for path in found if path != script]


def _warn_of_others(work, kept):
    """Say in the log which files of the script are lost with the machine; linked data is none of them."""
    others, size = [], 0
    for folder, _, names in os.walk(work):
        for path in [os.path.join(folder, name) for name in names if os.path.basename(folder) != "__pycache__"]:
            if os.path.relpath(path, work) not in kept and os.path.isfile(path) and not os.path.islink(path):
                others.append(os.path.relpath(path, work))
                size += os.path.getsize(path)
    if others:
        # Files of MODEL_DIR first, since they were meant to be kept.
        others.sort(key=lambda path: (not path.startswith("model" + os.sep), path))
        text = "{} of the script's files ({} bytes) are in no SavedModel and are lost with this machine, such as {}. "
        text += "Only SavedModels are kept: export one into MODEL_DIR, or copy the files to OBS in the script."
        print(text.format(len(others), size, _quoted(others[0])))


def _quoted(path):
    """Return a name that every encoding of the log can write."""
    try:
        return json.dumps(path)
    except UnicodeError:  # Python 2, for a name that is not UTF-8
        return repr(path)


def _sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(1024 * 1024), b""):
            digest.update(chunk)
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
