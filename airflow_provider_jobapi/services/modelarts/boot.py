# SPDX-License-Identifier: Apache-2.0
"""The boot file of jobs on ModelArts; this file itself is uploaded beside the job's script.

ModelArts has a code folder, a data folder (``--data_url``) and an output folder (``--train_url``). A training script
expects a working directory with its data, environment variables, arguments, and ``MODEL_DIR``. This file maps one to
the other, so that the same script runs on every service. It runs under the Python of the engine, 2.7 or later, where
this package is not installed.
"""

from __future__ import print_function

import base64
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

try:
    import boot_checkpoints
    import boot_work_folder
except ImportError:  # in the package
    from airflow_provider_jobapi.services.modelarts import boot_checkpoints, boot_work_folder

JOB = "jobapi_job.json"
"""Beside this file: the job's id, its script or its code, its environment variables, and its run time in seconds."""

FILES = "jobapi_files.json"
"""Below ``train_url``: every file that is kept, with size, SHA-256 and modification time, and the name of MODEL_DIR."""

HEAD_BYTES = 512
"""How many first bytes of a file its kind is recognised by, as in ``training/model.py``."""

MOST_HEADS = 100
"""Files whose first bytes are listed: those nearest to the top."""

NOT_KEPT = 74
"""The exit code of a job that succeeded and whose model cannot be kept; EX_IOERR of sysexits.h."""

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
    work = os.path.join(os.path.realpath(tempfile.mkdtemp(prefix="job-")), "work")
    os.makedirs(work)
    data = _fetch(given["data_url"], work) if "data_url" in given else None
    code_files = job.get("code", [])
    _copy_code(work, code_files)
    if job["script"]:
        shutil.copyfile(os.path.join(code_folder, job["script"]), os.path.join(work, job["script"]))
    rest += [_native(argument) for argument in job.get("arguments", [])]
    model = _model_folder(work, code_files)
    output = given.get("train_url") if _is_first() else None
    kept = boot_checkpoints.Checkpoints(os.path.join(os.path.dirname(work), boot_checkpoints.OF_A_JOB), output)
    if data:
        kept.fill(data)
    kept.start()
    try:
        code = _install(job, code_folder, work) or _run(job, work, rest, kept.folder)
    finally:
        kept.stop()
    if code != TIME_OVER and _is_first():
        _warn_of_event_files(work)
    if code == 0 and "train_url" in given and _is_first():
        own = [job["script"]] + code_files
        left = boot_work_folder.WorkFolder(work, os.path.basename(model), data, own, kept.folder)
        code = _keep(left, given["train_url"])
    if code == 0 and not job.get("keep_checkpoints"):
        kept.remove()
    return code


def _split_arguments(arguments, job):
    """Return the folders from ModelArts, and the arguments of the script."""
    own = {name.lower() for name in job.get("named", job["env"])}
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
    """Link the data into the working directory, and return its folder.

    Links need no further space, and show what of a model is data.
    """
    if _is_remote(source):
        import moxing

        here = tempfile.mkdtemp(prefix="data-")
        moxing.file.copy_parallel(source, here)
        source = here
    for folder, folders, names in os.walk(source):
        if folder == source:
            folders[:] = [name for name in folders if name != boot_checkpoints.FOLDER]
            names = [name for name in names if name != boot_checkpoints.FOLDER + ".json"]
        target = os.path.join(work, os.path.relpath(folder, source))
        if not os.path.isdir(target):
            os.makedirs(target)
        for name in names:
            os.symlink(os.path.abspath(os.path.join(folder, name)), os.path.join(target, name))
    keeper = os.path.join(work, ".keep")
    if os.path.lexists(keeper):
        os.remove(keeper)
    return os.path.realpath(source)


def _copy_code(work, paths):
    """Put files of code in the place of the links to them, since Python looks for modules where a link leads to."""
    for path in paths:
        place = os.path.join(work, *path.split("/"))
        source = os.path.realpath(place)
        os.remove(place)
        shutil.copyfile(source, place)


def _install(job, code_folder, work):
    """Install the requirements where the platform does not: in custom images, and where it could not follow them."""
    options = []
    if "exact" in job or "requires_python" in job:
        import pip_directions

        if not pip_directions.has_python(job, "choose another engine in service_options"):
            return 1
        options = pip_directions.pip_options(job)
    if not job["requirements"]:
        return 0
    wanted = os.path.join(code_folder, job["requirements"])
    return subprocess.call([sys.executable, "-m", "pip", "install", "-r", wanted] + options, cwd=work)


def _model_folder(work, code=()):
    """Return the folder of the model; a data file, or a package of the code, may have the usual name."""
    folder, taken = os.path.join(work, "model"), {path.split("/")[0] for path in code}
    while os.path.isfile(folder) or os.path.basename(folder) in taken:
        folder += "_"
    return folder


def _run(job, work, arguments, checkpoints):
    model = _model_folder(work, job.get("code", []))
    if not os.path.isdir(model):
        os.makedirs(model)
    environ = dict(os.environ, PYTHONUNBUFFERED="1", MODEL_DIR=model, JOB_ID=str(job["id"]))
    environ["CHECKPOINT_DIR"] = checkpoints
    environ.update({_native(name): _native(value) for name, value in job["env"].items()})
    if "PYTHONPATH" in job["env"] and os.environ.get("PYTHONPATH"):  # the platform's, in which its own modules are
        environ["PYTHONPATH"] += os.pathsep + os.environ["PYTHONPATH"]
    children, stops = [], []

    def stop(number, _):
        stops.append(number)
        for each in children:
            each.send_signal(number)

    # Installed before the script starts: a stop between the two would end this process and leave the script running.
    signal.signal(signal.SIGTERM, stop)
    program = [_native(word) for word in job.get("program", [job["script"]])]
    child = subprocess.Popen([sys.executable] + program + list(arguments), cwd=work, env=environ)
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


def _keep(left, train_url):
    """Copy all of MODEL_DIR, and every SavedModel elsewhere, to the output folder; return the job's exit code."""
    kept = {}
    try:
        kept = left.saved_models()
        kept.update(left.files(left.model, "MODEL_DIR"))
    except boot_work_folder.NotKept as error:
        print(error)
        if not kept:
            return NOT_KEPT
        print("Only the SavedModel is kept.")
    if left.left_out:
        print(left.sentence_of_left_out(kept))
        if not kept:
            return NOT_KEPT
    _warn_of_others(left, kept)
    stage = tempfile.mkdtemp(prefix="output-") if _is_remote(train_url) else train_url
    files = [_copied(path, kept[path], stage) for path in sorted(kept)]
    for entry in sorted(files, key=lambda each: (each["path"].count(os.sep), each["path"]))[:MOST_HEADS]:
        with open(os.path.join(stage, entry["path"]), "rb") as file:
            entry["head"] = base64.b64encode(file.read(HEAD_BYTES)).decode("ascii")
    with open(os.path.join(stage, FILES), "w") as file:
        json.dump({"files": files, "model": left.model}, file)
    if _is_remote(train_url):
        import moxing

        moxing.file.copy_parallel(stage, train_url)
    return 0


def _copied(path, source, stage):
    target = os.path.join(stage, path)
    if not os.path.isdir(os.path.dirname(target)):
        os.makedirs(os.path.dirname(target))
    shutil.copyfile(source, target)
    about = {"path": path, "size": os.path.getsize(target), "sha256": _sha256(target)}
    return dict(about, modified=os.path.getmtime(source))


def _warn_of_others(left, kept):
    """Say in the log which files of the script are lost with the machine."""
    others = sorted(left.others(kept))
    if others:
        text = "The script's files outside of MODEL_DIR are lost with this machine: {}, {}, such as {}. "
        text += "Write what you need into MODEL_DIR, or copy it to OBS in the script."
        count = boot_checkpoints.count_text
        size = count(sum(os.path.getsize(path) for path in others), "byte")
        first = boot_work_folder.quoted(os.path.relpath(others[0], left.work))
        print(text.format(count(len(others), "file"), size, first))


def _warn_of_event_files(work):
    """Say in the log that event files of TensorBoard, which a jobAPI server reads, give no curves here."""
    for folder, _, names in os.walk(work):
        for path in [os.path.join(folder, name) for name in sorted(names) if ".tfevents." in name]:
            if not os.path.islink(path):  # else it is data
                text = (
                    "Event files of TensorBoard, such as {}, are not read on ModelArts and give no curves: print the "
                    "metrics, or use jobapi_metrics."
                )
                print(text.format(boot_work_folder.quoted(os.path.relpath(path, work))))
                return


def _sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(1024 * 1024), b""):
            digest.update(chunk)
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
