# SPDX-License-Identifier: Apache-2.0
"""Decide which checkpoints of a folder are whole: by their names, their sentinels and their neighbours.

Pure functions on names. Standard library only, Python 2.7 and newer: the server, the supervisor of a job and the boot
file of ModelArts use this file, the last two without this package.
"""

from __future__ import division

import re

_ALWAYS = {"tmp", "incomplete", "inprogress", "uncommitted", "unfinished", "tempstate", "swp", "crdownload"}
"""Words that say wherever they stand in a name that what has it is being written."""

_PREFIX = r"temp(orary)?[-_.]?(ckpt|checkpoint|model|state|weights|save|file)"
_SUFFIX = r"[-_.](temp|temporary|partial|part|writing|in[-_]progress)([-_.]?[0-9a-f]{4,}|[-_.][0-9]+)?$|~$"
_MADE_BY_TEMPFILE = r"tmp[a-z0-9_]{8}(\.\w+)?$"
_BARE = r"[-_.]*(in[-_]progress|temporary|partial|incomplete|inprogress|writing|uncommitted|unfinished)[-_.]*$"
"""The name of a sentinel that stands for the folder in which it lies."""

_LONGEST_TEXT = 4 * 1024 * 1024
"""Bytes of a file in which paths are looked for."""

_NUMBER = re.compile(r"\d+")
_VALUE = re.compile(r"\d+\.\d+")
_SHARD = re.compile(r"^(.*)-(\d{3,})-of-(\d{3,})(.*)$")
_TF_DATA = re.compile(r"^(.+)\.(?:data-\d+-of-\d+|index|meta)$")


def says_writing(name):
    """Whether the name of a file or folder says that it is being written."""
    low = name.lower()
    words = re.split(r"[^a-z0-9]+", re.sub(r"(tmp|tempstate)(?=\d|[0-9a-f]{6,}($|[^a-z]))", r"\1.", low))
    if _ALWAYS.intersection(words) or re.match(_MADE_BY_TEMPFILE, low) or re.match(_BARE, low):
        return True
    return bool(
        re.match(_PREFIX, low.lstrip("._-")) or re.search(_SUFFIX, low) or low.startswith((".nfs", ".goutputstream"))
    )


def final_names(name):
    """The names that something may get when it is written, for a name that says that it is being written."""
    word = r"(tmp|temp|temporary|partial|part|incomplete|in[-_]?progress|inprogress|writing)"
    found = set()
    for pattern in (
        r"[-_.]" + word + r"([-_.]?[0-9a-z_]+)?$",  # state.npz.tmp, ckpt-5_temp_0a1b
        r"^[._]*" + word + r"[-_.]",  # tmp-checkpoint-5
        r"[-_.]" + word + r"\d*(?=[-_.])",  # model.tmp.pt
        r"[-_.]orbax-checkpoint-tmp([-_.]?\d+)?$",
        r"~$",
    ):
        shorter = re.sub(pattern, "", name, count=1, flags=re.IGNORECASE)
        found.update((shorter, shorter.lstrip(".")))
    return found - {name, ""}


class Selection(object):
    """What of a folder is whole.

    :ivar kept: The paths of its files and links.
    :ivar problems: Why the others are not kept, by path; what is being written under a name of its own is not among
        them.
    :ivar trusted: Whether what is kept is a state in which the folder was: False where what was written last is torn
        and had its place among others, so that a copy of the folder from before is better.
    """

    def __init__(self):
        self.kept = []
        self.times = {}
        self.problems = {}
        self.trusted = True

    def written(self, entry):
        """When the newest file of an entry was written; 0 where no times are known."""
        paths = _paths(entry) if isinstance(entry, dict) else [entry]
        return max([self.times.get(path, 0) for path in paths] or [0])


def select(files, times=None):
    """Choose what of a folder is whole.

    :param files: For each path of a file or link below it, whether it is whole by its format: True, False, or None.
    :param times: When each file was written. What is not whole and older than something whole is of no importance.
    """
    selection = Selection()
    selection.times = times or {}
    tree = {}
    for path in files:
        place = tree
        parts = path.split("/")
        for part in parts[:-1]:
            place = place.setdefault(part, {})
        place[parts[-1]] = path
    _select_level(tree, "", files, selection)
    selection.kept.sort()
    return selection


def _select_level(tree, prefix, files, selection):
    """Choose among entries that do not depend on one another: those of the folder, or of a folder of folders."""
    names = sorted(name for name in tree if not says_writing(name))
    containers = [name for name in names if isinstance(tree[name], dict) and _is_container(tree[name])]
    for name in containers:
        _select_level(tree[name], prefix + name + "/", files, selection)
    names = [name for name in names if name not in containers]
    loose = [name for name in names if not isinstance(tree[name], dict)]
    units = [name for name in names if isinstance(tree[name], dict)]
    problems = dict((name, "it is torn") for name in loose if files[tree[name]] is False)
    found = dict((name, _unit_problem(name, tree[name], files)) for name in units)
    problems.update((name, found[name]) for name in units if found[name])
    problems.update(_incomplete_sets(loose))
    _compare_units(tree, units, problems)
    if any(re.match(_BARE, name.lower()) for name in tree):
        problems.update((name, "a file says that they are being written") for name in loose)
    _heed_sentinels(tree, files, problems)
    _spread(names, problems)
    whole = [selection.written(tree[name]) for name in names if name not in problems]
    for name in problems:
        newest = selection.written(tree[name]) >= max(whole or [0])
        if newest and not _has_whole_sibling(name, names, problems):
            selection.trusted = False
    selection.problems.update((prefix + name, problems[name]) for name in problems)
    selection.kept.extend(tree[name] for name in loose if name not in problems)
    for name in units:
        if name not in problems:
            selection.kept.extend(_paths(tree[name]))


def _heed_sentinels(tree, files, problems):
    """Find what a sentinel beside it says is being written."""
    for name in tree:
        for about in final_names(name) if says_writing(name) else ():
            if about in tree and _is_sentinel(tree, name, about, files):
                problems[about] = "%s says that it is being written" % name


def _is_container(entry):
    """Whether a folder has folders only, such as lightning_logs."""
    return bool(entry) and all(isinstance(each, dict) for each in entry.values())


def _is_sentinel(tree, name, about, files):
    """Whether something is a mark for another entry, and not what will take its place."""
    mark, entry = tree[name], tree[about]
    if isinstance(mark, dict):
        return False
    return isinstance(entry, dict) or (files[entry] is not True and name.startswith(about + "."))


def _unit_problem(unit, entry, files):
    """Why a folder is no whole checkpoint; None where it is one."""
    names = set(entry)
    for name in sorted(names):
        inner = entry[name]
        if says_writing(name):
            if not final_names(name) & names or re.match(_BARE, name.lower()):
                return "%s in it is being written" % name
        elif isinstance(inner, dict):
            problem = _unit_problem(name, inner, files)
            if problem:
                return problem
        elif files[inner] is False:
            return "%s in it is torn" % name
    loose = [name for name in names if not isinstance(entry[name], dict)]
    for name in sorted(_incomplete_sets(loose)):
        return "it lacks files beside %s" % name
    return _lacks(names, counted=_number(unit) is not None)


_LAST_FILES = (
    # What a library writes at last, and what it writes before.
    ("trainer_state.json", r"(optimizer|scheduler)\.(pt|bin)$|training_args\.bin$|rng_state(_\d+)?\.pth$"),
    (".metadata", r".+\.distcp$"),
    ("saved_model.pb", r"variables$"),
)


def _lacks(names, counted):
    """What a library writes at last and is missing; a model of the Trainer, in a folder without number, has less."""
    for last, before in _LAST_FILES if counted else _LAST_FILES[1:]:
        if not names.intersection((last, last + "txt")) and any(re.match(before, name) for name in names):
            return "it lacks %s" % last
    return None


def _incomplete_sets(names):
    """Files that belong together and are not all there: numbered shards, and the parts of a TensorFlow checkpoint."""
    problems = {}
    shards, tensors = {}, {}
    for name in names:
        shard = _SHARD.match(name)
        if shard:
            shards.setdefault((shard.group(1), shard.group(3), shard.group(4)), []).append(name)
        tensor = _TF_DATA.match(name)
        if tensor and (".data-" in name or name.endswith(".index")):
            tensors.setdefault(tensor.group(1), []).append(name)
    for (_, count, _), members in shards.items():
        if len(members) < int(count):
            problems.update((name, "other shards of it are missing") for name in members)
    for prefix, members in tensors.items():
        data = any(".data-" in name for name in members)
        index = prefix + ".index" in members
        if data != index:
            problems.update((name, "its other files are missing") for name in members)
    return problems


def _pattern(name):
    return _NUMBER.sub("#", name)


def _number(name):
    """The number of a name that counts checkpoints: its last one; None without one."""
    stem = re.sub(r"(-\d+-of-\d+.*|\.(?:h5|mp3|mp4|bz2|7z)(?:\.\w+)?)$", "", name)
    found = _numbers(stem)
    return found[-1] if found else None


def _numbers(name):
    """The numbers by which checkpoints are counted, not those of a value such as ``loss=0.25``, if there are others."""
    found = _NUMBER.findall(_VALUE.sub("", name)) or _NUMBER.findall(name)
    return [int(each) for each in found]


def _compare_units(tree, units, problems):
    """Find a newest folder that lacks what all earlier ones of its series have, as one whose writer was killed."""
    series = {}
    for name in units:
        if name not in problems and _number(name) is not None:
            series.setdefault(_pattern(name), []).append(name)
    for members in series.values():
        if len(members) < 2:
            continue
        members.sort(key=_numbers)
        newest = _shape(tree[members[-1]], members[-1])
        common = set.intersection(*(_shape(tree[name], name) for name in members[:-1]))
        missing = common - newest
        if missing:
            problems[members[-1]] = "it lacks %s, which the others have" % min(missing)


def _shape(entry, name):
    """The patterns of the names in a folder."""
    found = set()
    for inner, content in entry.items():
        found.add(_pattern(inner))
        if isinstance(content, dict):
            found.update("%s/%s" % (_pattern(inner), each) for each in _shape(content, inner))
    return found


def _spread(names, problems):
    """What is torn takes with it what has the same number, such as the optimizer of a model."""
    torn = dict((_number(name), name) for name in problems if _number(name) is not None)
    for name in names:
        number = _number(name)
        if name not in problems and number in torn:
            problems[name] = "%s, which belongs to it, is not whole" % torn[number]


def _has_whole_sibling(name, names, problems):
    """Whether something that is not whole is one of a series of which another one is."""
    if _number(name) is None:
        return False
    pattern = _pattern(name)
    return any(_pattern(other) == pattern and other not in problems for other in names)


def _paths(entry):
    for name, inner in entry.items():
        if isinstance(inner, dict):
            for path in _paths(inner):
                yield path
        elif not says_writing(name):
            yield inner


def corrected(path, text, paths, places, target):
    """The small text of a library for the folder as it is now; None where it names only checkpoints that are gone.

    :param path: Its path in the folder.
    :param text: Its bytes.
    :param paths: The paths of all files that are kept.
    :param places: A regular expression, as bytes, of the paths of earlier folders.
    :param target: The path of the folder now, as bytes.
    """
    text = moved(text, places, target)
    folder, _, name = path.rpartition("/")
    if name == "checkpoint" and b"model_checkpoint_path" in text:
        return without_missing(text, prefixes_of(paths, folder + "/" if folder else ""))
    return text


def moved(text, places, target):
    """Replace the path of an earlier checkpoint folder in a text that a library wrote.

    :param text: The bytes of a small text file, such as TensorFlow's ``checkpoint``.
    :param places: A regular expression, as bytes, of the paths of earlier folders.
    :param target: The path of the folder now, as bytes.
    """
    return re.sub(places + b"(?=[/\\\\\"'\\s]|$)", lambda _: target, text)


def names_paths(path, size):
    """Whether a file is a small text in which libraries write paths of checkpoints."""
    name = path.rsplit("/", 1)[-1]
    return size <= _LONGEST_TEXT and (
        name in ("checkpoint", "latest") or name.endswith((".json", ".yaml", ".yml", ".txt"))
    )


def without_missing(text, prefixes):
    """TensorFlow's ``checkpoint`` without the checkpoints that are not there; None where none is left.

    :param text: Its bytes.
    :param prefixes: The prefixes of the checkpoints that are there, such as ``ckpt-5``.
    """
    lines, named, there, times = [], [], [], 0
    for line in text.decode("utf-8", "replace").splitlines():
        path = re.match(r'\s*(all_model_checkpoint_paths|model_checkpoint_path):\s*"(.*)"', line)
        if path:
            is_there = path.group(2).rsplit("/", 1)[-1] in prefixes
            if path.group(1).startswith("all"):
                there.append(is_there)
                named += [path.group(2)] * is_there
            lines += [line] * is_there
        elif line.lstrip().startswith("all_model_checkpoint_timestamps"):
            times += 1  # one for each path, in their order
            lines += [line] * (times > len(there) or there[times - 1])
        else:
            lines.append(line)
    if not any(line.lstrip().startswith("model_checkpoint_path") for line in lines):
        if not named:
            return None
        lines.insert(0, 'model_checkpoint_path: "%s"' % named[-1])
    return ("\n".join(lines) + "\n").encode("utf-8")


def prefixes_of(paths, folder):
    """The prefixes of the TensorFlow checkpoints in a folder.

    :param paths: The paths that are kept.
    :param folder: ``""`` or a path that ends with ``/``.
    """
    names = [path[len(folder) :] for path in paths if path.startswith(folder)]
    return set(name[: -len(".index")] for name in names if name.endswith(".index") and "/" not in name)
