# SPDX-License-Identifier: Apache-2.0
"""What a script on ModelArts left in its working directory; this file is uploaded beside the boot file.

It runs under the same Pythons. What becomes of links and special files is the same as on a jobAPI server.
"""

from __future__ import print_function

import errno
import json
import os
import stat

MOST_FILES = 100000
"""The most files of one model, as in ``training/model.py``."""

UNKEPT = "The job succeeded, but"
"""The beginning of the log's last line where a model cannot be kept."""

MARKERS = ("saved_model.pb", "saved_model.pbtxt")
OWN = MARKERS + ("assets", "assets.extra", "fingerprint.pb", "keras_metadata.pb", "variables")
"""What belongs to a SavedModel in the working directory itself."""

_NOT_THERE, _TO_ITSELF = "is a link to what is not there", "is a link that leads to itself"
_SPECIAL = "is no regular file"
_WITHOUT_BYTES = {_NOT_THERE, _TO_ITSELF, _SPECIAL}
"""Problems of what has no bytes to lose: it is left out."""

_ERRORS = {errno.ENOENT: _NOT_THERE, errno.ENOTDIR: _NOT_THERE, errno.ENAMETOOLONG: _NOT_THERE, errno.ELOOP: _TO_ITSELF}


class NotKept(Exception):
    """Something in the model that cannot be kept; the text is a sentence about it."""


class WorkFolder(object):
    """The working directory of a script that has ended.

    :param model: The name of the folder that MODEL_DIR named.
    :param data: The folder to which links to data lead; None without data.
    :param code: The paths of the script and of the other code.
    :param checkpoints: The folder that CHECKPOINT_DIR named.
    :ivar left_out: What the model has besides that has no bytes: what it is, by path.
    """

    def __init__(self, work, model, data, code, checkpoints):
        self.work, self.model, self.data, self.code = work, model, data, set(code)
        self.left_out = {}
        self._checkpoints = checkpoints

    def saved_models(self):
        """Return the files of every folder that is a SavedModel, by their path.

        :raises NotKept: as for :meth:`files`.
        """
        found = {}
        for folder, _, names in os.walk(self.work):
            if any(name in MARKERS and not os.path.islink(os.path.join(folder, name)) for name in names):
                root = os.path.relpath(folder, self.work)
                for path in OWN if root == os.curdir else [root]:
                    found.update(self.files(path, "the SavedModel"))
        return found

    def files(self, start, where):
        """Return the files at or below a path, those behind links as well, but no data; by their path.

        :param where: What they belong to, for the error.
        :raises NotKept: if something there has bytes that cannot be read, or a link leads elsewhere.
        """
        found, waiting = {}, [(start, os.path.join(self.work, start), ())]
        while waiting:
            path, place, above = waiting.pop()
            if not os.path.lexists(place) or (os.path.islink(place) and self._is_data(os.path.realpath(place))):
                continue
            real = os.path.realpath(place)
            problem = self._problem(path, real, above)
            if problem in _WITHOUT_BYTES:
                self.left_out[path] = problem
                continue
            if problem:
                raise NotKept(_sentence(path, where, problem))
            if os.path.isdir(real):
                names = _listed(path, where, real)
                waiting += [(os.path.join(path, name), os.path.join(real, name), above + (real,)) for name in names]
            else:
                found[path] = real
            if len(found) > MOST_FILES:
                raise NotKept(_sentence(path, where, "is one of more than {:,} files".format(MOST_FILES)))
        return found

    def _problem(self, path, real, above):
        """Say what is wrong with a file or folder, and for a link with what it leads to; empty where nothing is."""
        if not (is_below(real, self.work) or is_below(real, self._checkpoints)):
            return "is a link that leads out of the working directory"
        if any(is_below(folder, real) for folder in above):
            return "is a link to a folder that holds it"
        try:
            mode = os.stat(real).st_mode
        except OSError as error:
            return _ERRORS.get(error.errno, "is a link to what cannot be read: {}".format(error.strerror))
        if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            return _SPECIAL
        if not _is_utf8(path):
            return "has a name that is not UTF-8"
        return "" if os.access(real, os.R_OK) else "cannot be read: {}".format(os.strerror(errno.EACCES))

    def others(self, kept):
        """Return all other files that the script wrote, without linked data and what Python compiled."""
        found = []
        for folder, _, names in os.walk(self.work):
            for path in [os.path.join(folder, name) for name in names if not _is_compiled(folder, name)]:
                relative = os.path.relpath(path, self.work)
                known = relative in kept or relative in self.code or os.path.islink(path)
                if os.path.isfile(path) and not known:
                    found.append(path)
        return found

    def sentence_of_left_out(self, kept):
        """Return a sentence about what has no bytes, beside files that are kept or without any."""
        path = min(self.left_out)
        if not kept:
            return _sentence(path, "MODEL_DIR", self.left_out[path])
        more = ", and {:,} more like it".format(len(self.left_out) - 1) if len(self.left_out) > 1 else ""
        return "Left out of the model, since it has no bytes: {} {}{}.".format(quoted(path), self.left_out[path], more)

    def _is_data(self, real):
        return self.data is not None and is_below(real, self.data)


def _is_compiled(folder, name):
    """Whether a file is what Python compiled: version 2 keeps it beside the code."""
    return name.endswith(".pyc") or os.path.basename(folder) == "__pycache__"


def is_below(path, folder):
    """Whether a path is a folder or lies below it."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def quoted(path):
    """Return a name that every encoding of the log can write."""
    try:
        return json.dumps(path)
    except UnicodeError:  # Python 2, for a name that is not UTF-8
        return repr(path)


def _listed(path, where, folder):
    try:
        return os.listdir(folder)
    except EnvironmentError as error:
        why = error.strerror
    raise NotKept(_sentence(path, where, "cannot be read: {}".format(why)))


def _sentence(path, where, how):
    advice = "a model can have files only, so copy the file there, or remove it"
    if "UTF-8" in how:
        advice = "give it another name"
    if "more than" in how:
        advice = "pack the files into an archive, such as model.tar"
    return "{} {} in {} {}; {}.".format(UNKEPT, quoted(path), where, how, advice)


def _is_utf8(path):
    try:
        path.encode("utf-8") if isinstance(path, type("")) else path.decode("utf-8")
    except UnicodeError:
        return False
    return True
