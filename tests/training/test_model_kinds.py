# SPDX-License-Identifier: Apache-2.0
"""Kinds of models, by names and first bytes as the frameworks write them."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_jobapi.services.base import FetchedModel, Model, ModelFile
from airflow_provider_jobapi.training.model import RULES, FoundFile, ModelKind, is_unsafe, kind_of, unsafe_to_load

TORCH = b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x0f\0\x12\0archive/data.pklFB\x0e\0ZZ\x80\x02}q\0."
TORCH_1_5 = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
KERAS = b"PK\x03\x04\x14\0\0\0\0\0\0\0!\0metadata.json"
HDF5 = b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0"
SAFETENSORS = b'8\0\0\0\0\0\0\0{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
ONNX = b"\x08\x0e:7\n\x10\n\x01x\x12\x01y"
UBJ = b"{L\0\0\0\0\0\0\0\x07learner{L\0\0\0\0\0\0\0\nattributes{}"
XGB = b'{"learner":{"attributes":{},"feature_names":[]'
LGB = b"tree\nversion=v4\nnum_class=1\n"
LGB_JSON = b'{"name": "tree", "version": "v4", "num_class": 1'
SKLEARN = b"\x80\x04\x95\x03\x02\0\0\0\0\0\0\x8c\x1esklearn.linear_model._logistic\x94\x8c\x12LogisticRegression"
JOBLIB_ZLIB = b"x^}\x93\xcfk\x13A\x14\xc7\xb3I7"
OBJECTS = b"\x93NUMPY\x01\0v\0{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
NUMBERS = b"\x93NUMPY\x01\0v\0{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }"
ZIP = b"PK\x03\x04\x14\0\0\0\x08\0report.csv"
TEXT = b"hello\n"


def found(files: dict[str, bytes]) -> list[FoundFile]:
    return [FoundFile(path, max(len(head), 1), head) for path, head in files.items()]


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("saved_model", {"saved_model.pb": b"", "variables/variables.index": b"", "extra/model.onnx": ONNX}),
        ("saved_model", {"saved_model.pbtxt": b""}),
        ("mlflow", {"MLmodel": b"flavors:", "model.pkl": SKLEARN, "conda.yaml": b"", "python_env.yaml": b""}),
        ("mlflow", {"metrics.json": b"{}", "clf/MLmodel": b"flavors:", "clf/model.pkl": SKLEARN}),
        ("safetensors", {"config.json": b"{}", "model.safetensors": SAFETENSORS, "training_args.bin": TORCH}),
        ("safetensors", {"model.safetensors.index.json": b"{}", "model-00001-of-00002.safetensors": SAFETENSORS}),
        ("safetensors", {"checkpoint-500/optimizer.pt": TORCH, "checkpoint-500/model.safetensors": SAFETENSORS}),
        ("safetensors", {"model.safetensors": SAFETENSORS, "pytorch_model.bin": TORCH}),
        ("torch", {"model.safetensors": b"version https://git-lfs", "pytorch_model.bin": TORCH}),
        ("onnx", {"best.onnx": ONNX, "best.pt": TORCH}),
        ("onnx", {"decoder.onnx": ONNX, "decoder.onnx.data": b"\0\0"}),
        ("torch", {"model.pt": TORCH}),
        ("torch", {"model.pth": TORCH_1_5}),
        ("torch", {"epoch=3-step=100.ckpt": TORCH, "hparams.yaml": b"a: 1"}),
        ("torch", {"checkpoint.pth.tar": TORCH}),
        ("torch", {"weights": TORCH}),
        ("torch", {"model.pkl": TORCH}),
        ("torch", {"config.json": b"{}", "pytorch_model-00001-of-00002.bin": b""}),
        ("keras", {"digits.keras": KERAS}),
        ("keras", {"weights.h5": HDF5, "history.csv": b"a,b"}),
        ("xgboost", {"model.json": XGB}),
        ("xgboost", {"model.ubj": UBJ}),
        ("xgboost", {"booster.bin": UBJ}),
        ("xgboost", {"model.bst": UBJ}),
        ("xgboost", {"xgboost_model.json": b""}),
        ("lightgbm", {"model.txt": LGB}),
        ("lightgbm", {"model.bst": LGB}),
        ("lightgbm", {"model.json": LGB_JSON}),
        ("lightgbm", {"lightgbm_model.txt": b""}),
        ("pickle", {"model.joblib": SKLEARN}),
        ("pickle", {"model.joblib": JOBLIB_ZLIB}),
        ("pickle", {"clf.joblib.gz": b"\x1f\x8b"}),
        ("pickle", {"model.PKL": b"(dp0\nVa\n"}),
        ("pickle", {"finalized_model.sav": b"ccopy_reg\n_reconstructor\np0\n"}),
        ("pickle", {"model": SKLEARN}),
        ("pickle", {"words.npy": OBJECTS}),
        ("pickle", {"scaler.pkl": SKLEARN, "net/model.onnx": ONNX}),
        ("files", {}),
        ("files", {"model.cbm": b"CBM1", "labels.txt": TEXT, "weights.npy": NUMBERS}),
        ("files", {"report.zip": ZIP, "metrics.json": b'{"accuracy": 1}'}),
        ("files", {"paths.pth": TEXT, "notes.ckpt": TEXT, "table.h5": TEXT, "tree.txt": b"tree\n"}),
        ("files", {".cache/hub/model.safetensors": SAFETENSORS, "a/.git/x.pkl": SKLEARN}),
        ("files", {"1/saved_model.pb": b""}),
    ],
)
def test_kinds_are_told_by_what_lies_there(kind, files):
    assert kind_of(found(files)) == kind
    assert kind_of(reversed(found(files))) == kind


def test_an_empty_file_is_of_no_kind():
    assert kind_of([FoundFile("model.pt", 0), FoundFile("model.onnx", 0)]) == "files"


def test_without_first_bytes_the_names_decide():
    names = ["model.safetensors", "model.onnx", "model.pt", "model.keras", "model.ubj", "model.lgb", "model.joblib"]
    kinds = ["safetensors", "onnx", "torch", "keras", "xgboost", "lightgbm", "pickle"]
    assert [kind_of([FoundFile(name, 10)]) for name in names] == kinds


def test_every_kind_has_a_rule_or_none_on_purpose():
    assert {rule.kind for rule in RULES} == set(ModelKind) - {ModelKind.SAVED_MODEL, ModelKind.FILES}
    assert [kind for kind in ModelKind if kind in {rule.kind for rule in RULES}] == [rule.kind for rule in RULES]


@pytest.mark.parametrize(
    ("unsafe", "files"),
    [
        (True, {"model.pkl": SKLEARN}),
        (True, {"model.pt": TORCH}),
        (True, {"MLmodel": b"f", "model.pkl": SKLEARN}),
        (True, {"MLmodel": b"f", "data/model.pth": TORCH}),
        (False, {"MLmodel": b"f", "model.xgb": UBJ}),
        (False, {"model.safetensors": SAFETENSORS, "training_args.bin": TORCH}),
        (True, {"model.onnx": ONNX, "pre/encoder.joblib": SKLEARN}),
        (True, {"model.onnx": ONNX, "encoder": SKLEARN}),
        (False, {"model.onnx": ONNX}),
        (False, {"model.ubj": UBJ}),
        (False, {"labels.txt": TEXT}),
    ],
)
def test_models_that_are_unsafe_to_load(unsafe, files):
    assert unsafe_to_load(kind_of(found(files)), found(files)) is unsafe


def test_a_pickle_is_recognised_and_not_loaded(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        content = pickle.dumps(Bomb(), protocol)
        for name in ("model.pkl", "model", "model.pt"):
            file = FoundFile(name, len(content), content)
            assert is_unsafe(file)
            assert kind_of([file]) in {"pickle", "torch"}
    assert not Path(tmp_path, "ran").exists()


@settings(max_examples=30)
@given(st.lists(st.tuples(st.text(min_size=1, max_size=9), st.integers(0, 9), st.binary(max_size=9)), max_size=4))
def test_nothing_that_lies_there_is_an_error(files):
    assert kind_of(FoundFile(*each) for each in files) in set(ModelKind)


def test_a_fetched_model_knows_its_kind_also_of_a_service_that_does_not_say():
    pickled = (ModelFile("model.joblib", 5, None),)
    assert FetchedModel("file:///m/1", pickled).kind == "pickle"
    assert FetchedModel("file:///m/1", pickled).unsafe_to_load
    assert FetchedModel("file:///m/1", pickled, "gguf").kind == "gguf"
    assert Model("pickle", pickled).unsafe_to_load
    assert not Model("onnx", (ModelFile("m.onnx", 5, None),)).unsafe_to_load
