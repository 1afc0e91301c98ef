# SPDX-License-Identifier: Apache-2.0
"""The model of a job: its kind, and which SavedModel counts where there are several.

A kind is told by the names of files and by their first bytes. Nothing is loaded: to unpickle a file runs its code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import translate
from functools import cache
from pathlib import PurePosixPath
from typing import NamedTuple

MARKERS = frozenset({"saved_model.pb", "saved_model.pbtxt"})
"""A directory that holds one of these files is a SavedModel."""

PREFERRED = "model"
"""The directory of the model below the working directory; ``MODEL_DIR`` names it."""


_UNFINISHED = re.compile(r"temp-(\d+|b'\d+')")
"""As TensorFlow names the directory of an export that is not whole yet; on Python 3, TensorFlow 1 writes b'…'."""


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The SavedModel of a job, and the others that were not chosen.

    ``path`` and ``others`` are directories relative to the job's working directory, ``"."`` for that directory itself.
    """

    path: str
    others: tuple[str, ...]


def is_marker(path: str) -> bool:
    """Whether a file makes its directory a SavedModel."""
    return PurePosixPath(path).name in MARKERS


def is_unfinished(directory: str) -> bool:
    """Whether a directory is the temporary one of an Estimator's export, which is renamed when the export is whole."""
    return any(_UNFINISHED.fullmatch(part) for part in PurePosixPath(directory).parts)


def choose(markers: Iterable[tuple[str, float]], preferred: str = PREFERRED) -> ModelChoice | None:
    """Choose the SavedModel by the marker files that a job wrote; None without any.

    Models below ``model/`` come first, since that is where jobs are asked to write; then the newest, since
    estimators write one directory an export; then the one nearest to the top. What an export that did not end left
    comes last.

    :param markers: Path relative to the working directory (with ``/``) and modification time of every marker file.
    :param preferred: The name of the directory that ``MODEL_DIR`` named.
    """
    newest: dict[str, float] = {}
    for path, modified in markers:
        directory = str(PurePosixPath(path).parent)
        newest[directory] = max(modified, newest.get(directory, modified))

    def rank(directory: str) -> tuple[bool, bool, float, int, str]:
        parts = PurePosixPath(directory).parts
        return is_unfinished(directory), parts[:1] != (preferred,), -newest[directory], len(parts), directory

    ranked = sorted(newest, key=rank)
    return ModelChoice(ranked[0], tuple(ranked[1:])) if ranked else None


MOST_FILES = 100_000
"""The most files of one model."""

HEAD_BYTES = 512
"""How many first bytes of a file its kind is recognised by."""


class ModelKind(StrEnum):
    """The kinds of models. A service may name others."""

    SAVED_MODEL = "saved_model"
    MLFLOW = "mlflow"
    SAFETENSORS = "safetensors"
    ONNX = "onnx"
    TORCH = "torch"
    KERAS = "keras"
    XGBOOST = "xgboost"
    LIGHTGBM = "lightgbm"
    PICKLE = "pickle"
    FILES = "files"


class FoundFile(NamedTuple):
    """A file of a model.

    :ivar path: Relative to the model's folder, with ``/``.
    :ivar head: Its first :data:`HEAD_BYTES`; empty where they are not known, and then its name decides.
    """

    path: str
    size: int
    head: bytes = b""


class Rule(NamedTuple):
    """How the files of a kind are recognised.

    :ivar what: What is saved so, for the documentation.
    :ivar names: Patterns of file names.
    :ivar content: Whether a file of such a name, by its first bytes, is of the kind; None where the name is enough.
    :ivar any_name: Whether a file of any name, by its first bytes, is of the kind.
    """

    kind: ModelKind
    what: str
    names: tuple[str, ...]
    content: Callable[[bytes], bool] | None = None
    any_name: Callable[[bytes], bool] | None = None

    def matches(self, file: FoundFile) -> bool:
        """Whether a file is of this kind."""
        if file.head and self.any_name is not None and self.any_name(file.head):
            return True
        if not _compiled(self.names).match(file.path.rpartition("/")[2].lower()):
            return False
        return not file.head or self.content is None or self.content(file.head)


@cache
def _compiled(names: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(translate(name.lower()) for name in names))


_ZIP, _HDF5, _NUMPY = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\x93NUMPY"
_TORCH_BEFORE_1_6 = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The pickled number at the start of a file that PyTorch wrote before it wrote archives."""

_PICKLE = re.compile(rb"\x80[\x02\x03]|\x80[\x04-\x09]\x95|c(copy_reg|__main__|__builtin__)\n")
_XGBOOST = re.compile(rb"\{\s*\"learner\"|\{L\x00{7}\x07learner")
_LIGHTGBM = re.compile(rb"tree\r?\nversion=|\{\s*\"name\":\s*\"tree\",\s*\"version\"")


def _is_torch(head: bytes) -> bool:
    return (head.startswith(_ZIP) and b"/data.pkl" in head) or head.startswith(_TORCH_BEFORE_1_6)


def _is_pickle(head: bytes) -> bool:
    return _PICKLE.match(head) is not None or (head.startswith(_NUMPY) and b"'|O'" in head)


RULES = (
    Rule(ModelKind.MLFLOW, "MLflow", ("MLmodel",)),
    Rule(
        ModelKind.SAFETENSORS,
        "transformers, diffusers and others with safetensors, in one file or in shards",
        ("*.safetensors",),
        content=lambda head: head[8:9] == b"{",
    ),
    Rule(ModelKind.ONNX, "ONNX", ("*.onnx",)),
    Rule(
        ModelKind.TORCH,
        "PyTorch (torch.save, TorchScript), Lightning",
        (
            "*.pt", "*.pth", "*.ckpt", "*.pt2", "*.pth.tar", "*.pt.tar", "*.torchscript",
            "pytorch_model*.bin", "*_pytorch_model*.bin", "adapter_model*.bin",
        ),
        content=lambda head: head.startswith(_ZIP) or _is_pickle(head) or b"ustar" in head,
        any_name=_is_torch,
    ),
    Rule(
        ModelKind.KERAS,
        "Keras (.keras, .h5)",
        ("*.keras", "*.h5", "*.hdf5"),
        content=lambda head: head.startswith((_ZIP, _HDF5)),
    ),
    Rule(
        ModelKind.XGBOOST,
        "XGBoost (JSON, UBJSON)",
        ("*.ubj", "*.xgb", "*.bst", "xgb*.json", "xgb*.model"),
        content=lambda head: _XGBOOST.match(head) is not None,
        any_name=lambda head: _XGBOOST.match(head) is not None,
    ),
    Rule(
        ModelKind.LIGHTGBM,
        "LightGBM (text, JSON)",
        ("*.lgb", "*.lgbm", "lgb*.txt", "lightgbm*.txt"),
        content=lambda head: _LIGHTGBM.match(head) is not None,
        any_name=lambda head: _LIGHTGBM.match(head) is not None,
    ),
    Rule(
        ModelKind.PICKLE,
        "pickle and joblib, as scikit-learn is saved",
        (
            "*.pkl", "*.pickle", "*.joblib", "*.dill", "*.cloudpickle", "*.sav",
            "*.pkl.*", "*.pickle.*", "*.joblib.*",
        ),
        any_name=_is_pickle,
    ),
)  # fmt: skip
"""Told in this order: of the files nearest to the top, the first rule that matches one names the kind."""

UNSAFE_KINDS = frozenset({ModelKind.TORCH, ModelKind.PICKLE})
"""Kinds whose files are pickles, or archives of pickles."""


def kind_of(files: Iterable[FoundFile]) -> ModelKind:
    """Tell the kind of a model by its files.

    A ``saved_model.pb`` at the top makes a SavedModel. Otherwise the files nearest to the top decide, by :data:`RULES`;
    where these match none of them, so do those one folder deeper, and so on. Hidden and empty files decide nothing.
    """
    best: tuple[int, int] | None = None
    for file in _deciding(files):
        if file.path in MARKERS:
            return ModelKind.SAVED_MODEL
        depth = file.path.count("/")
        if best is not None and depth > best[0]:
            continue
        place = next((place for place, rule in enumerate(RULES) if rule.matches(file)), None)
        if place is not None and (best is None or (depth, place) < best):
            best = depth, place
    return ModelKind.FILES if best is None else RULES[best[1]].kind


def is_unsafe(file: FoundFile) -> bool:
    """Whether to load a file can run code in it: whether it is a pickle, or an archive of pickles."""
    return any(rule.matches(file) for rule in RULES if rule.kind in UNSAFE_KINDS)


def unsafe_to_load(kind: str, files: Iterable[FoundFile]) -> bool:
    """Whether to load a model, and what lies beside it, can run code that is in its files.

    It can for pickles, also for one that lies beside a model of another kind, such as a scaler; for PyTorch's files,
    which are archives of pickles, unless ``torch.load`` is called with ``weights_only=True``, the default since PyTorch
    2.6; and for an MLflow model that holds such a file.
    """
    if kind in UNSAFE_KINDS:
        return True
    return any(is_unsafe(each) if kind == ModelKind.MLFLOW else _is_pickled(each) for each in _deciding(files))


def _is_pickled(file: FoundFile) -> bool:
    return any(rule.matches(file) for rule in RULES if rule.kind == ModelKind.PICKLE)


def _deciding(files: Iterable[FoundFile]) -> Iterator[FoundFile]:
    return (each for each in files if each.size and not any(part.startswith(".") for part in each.path.split("/")))
