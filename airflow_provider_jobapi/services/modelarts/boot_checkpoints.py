# SPDX-License-Identifier: Apache-2.0
"""The checkpoints of a job on ModelArts; this file is uploaded beside the boot file, and runs under the same Pythons.

What earlier jobs left is in the data folder. What this job writes is copied to the output folder, while the script runs
and at its end, in numbered states of which each has a list that is written last::

    .jobapi-checkpoints/17/epoch-3.pt
    .jobapi-checkpoints/17.json          {"files": [{"path": "epoch-3.pt", "size": 1200, "modified": 1700000000.5}]}
"""

from __future__ import print_function

import io
import json
import os
import shutil
import tempfile
import threading
import time

try:
    import checkpoint_formats
    import checkpoint_rules
except ImportError:  # in the package
    from airflow_provider_jobapi.training import checkpoint_formats, checkpoint_rules

FOLDER = ".jobapi-checkpoints"
"""In the output folder what the job writes; in the data folder, beside the list ``.jobapi-checkpoints.json``, what it
continues."""

OF_A_JOB = "checkpoint-dir"
"""The name of ``CHECKPOINT_DIR``."""

_LOOK_SECONDS = 1.0
_SHARE = 20
"""A copy that took a second is followed by this many without one."""


def count_text(count, word):
    """Format a number of things for people, such as ``1 file``."""
    return "{:,} {}{}".format(count, word, "" if count == 1 else "s")


class Checkpoints(object):
    """The checkpoints of one job.

    :param folder: ``CHECKPOINT_DIR``, which is made.
    :param output: The output folder, one of OBS where it begins with ``s3://`` or ``obs://``; None where nothing is
        kept.
    """

    def __init__(self, folder, output):
        self.folder = folder
        self._output = output.rstrip("/") + "/" + FOLDER if output else None
        self._remote = bool(output) and output.startswith(("s3://", "obs://"))
        self._number = 0
        self._seen = self._copied = None
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.daemon = True
        os.makedirs(folder)

    def fill(self, data):
        """Copy what an earlier job left; returns whether there was anything.

        :param data: The data folder, on this machine.
        """
        source, listed = os.path.join(data, FOLDER), os.path.join(data, FOLDER + ".json")
        if not os.path.isfile(listed):
            return False
        with io.open(listed, encoding="utf-8") as file:
            given = json.load(file)
        places = b'(?:/[^/"\\s]+)+/' + OF_A_JOB.encode("ascii")
        paths = [each["path"] for each in given["files"]]
        for each in given["files"]:
            target = os.path.join(self.folder, each["path"])
            _make_folder(target)
            shutil.copyfile(os.path.join(source, each["path"]), target)
            small = checkpoint_rules.names_paths(each["path"], each["size"])
            if not small or _correct(target, each["path"], paths, places, self.folder):
                os.utime(target, (each["modified"], each["modified"]))
        text = "jobapi: This job continues job {}, whose checkpoints are in CHECKPOINT_DIR ({})."
        print(text.format(given["job_id"], count_text(len(paths), "file")))
        return True

    def start(self):
        """Begin to copy what the script writes."""
        if self._output:
            self._thread.start()

    def stop(self):
        """Copy the last state, which no process changes any more."""
        self._stopping.set()
        if not self._output:
            return
        self._thread.join(60)
        try:
            self._look()
        except Exception as error:
            print("jobapi: The last checkpoints could not be copied to the output folder: {!r}".format(error))

    def remove(self):
        """Remove all that was copied."""
        if self._output:
            self._remove("")

    def _watch(self):
        pause = _LOOK_SECONDS
        while not self._stopping.wait(pause):
            began = time.time()
            try:
                if self._is_quiet():
                    self._look()
            except Exception:
                pass
            pause = max(_LOOK_SECONDS, (time.time() - began) * _SHARE)

    def _is_quiet(self):
        """Whether nothing has changed since the last look: for an instant a file has a new size and its old times."""
        before, self._seen = self._seen, _list(self.folder)
        return self._seen == before

    def _look(self):
        with self._lock:
            files = _list(self.folder)
            if not files or files == self._copied:
                return
            whole = dict((path, self._is_whole(path)) for path in files)
            selection = checkpoint_rules.select(whole, dict((path, files[path][2]) for path in files))
            if not selection.kept or (not selection.trusted and self._number):
                return
            self._copy(selection.kept, files)

    def _is_whole(self, path):
        place = os.path.join(self.folder, path)
        with open(place, "rb") as file:
            return checkpoint_formats.is_whole(os.path.basename(path), file, os.path.getsize(place))

    def _copy(self, kept, files):
        stage = tempfile.mkdtemp(prefix="checkpoints-")
        try:
            name, before = str(self._number + 1), self._number
            for path in kept:
                target = os.path.join(stage, name, path)
                _make_folder(target)
                shutil.copyfile(os.path.join(self.folder, path), target)
            if _list(self.folder) != files:
                return
            listed = [{"path": path, "size": files[path][0], "modified": files[path][1]} for path in kept]
            self._put(os.path.join(stage, name), name)
            os.makedirs(os.path.join(stage, "lists"))
            with open(os.path.join(stage, "lists", name + ".json"), "w") as file:
                json.dump({"files": listed}, file)
            self._put(os.path.join(stage, "lists"), "")
            self._number, self._copied = before + 1, files
            if before:
                self._remove(str(before))
        finally:
            shutil.rmtree(stage, ignore_errors=True)

    def _put(self, source, name):
        target = self._output + "/" + name if name else self._output
        if self._remote:
            import moxing

            moxing.file.copy_parallel(source, target)
            return
        for path in _list(source):
            _make_folder(os.path.join(target, path))
            shutil.copyfile(os.path.join(source, path), os.path.join(target, path) + ".new")
            os.rename(os.path.join(target, path) + ".new", os.path.join(target, path))

    def _remove(self, name):
        """Remove one state, or all; where that fails, it stays beside the newer ones."""
        places = [self._output + "/" + each for each in (name, name + ".json")] if name else [self._output]
        for place in places:
            try:
                if self._remote:
                    import moxing

                    moxing.file.remove(place, recursive=not place.endswith(".json"))
                elif os.path.isdir(place):
                    shutil.rmtree(place)
                elif os.path.exists(place):
                    os.remove(place)
            except Exception:
                pass


def _list(folder):
    """Return size, modification and change of each file below a folder, by its path."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            try:
                status = os.stat(path)
            except OSError:  # removed meanwhile, or a link to nothing
                continue
            relative = os.path.relpath(path, folder).replace(os.sep, "/")
            found[relative] = (status.st_size, status.st_mtime, status.st_ctime)
    return found


def _make_folder(path):
    if not os.path.isdir(os.path.dirname(path)):
        os.makedirs(os.path.dirname(path))


def _correct(place, path, paths, places, folder):
    """Correct the paths in a small text that a library wrote; returns whether anything is left of it."""
    with open(place, "rb") as file:
        text = file.read()
    written = checkpoint_rules.corrected(path, text, paths, places, folder.encode("utf-8"))
    if written is None:
        os.remove(place)
        return False
    with open(place, "wb") as file:
        file.write(written)
    return True
