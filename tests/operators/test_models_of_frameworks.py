# SPDX-License-Identifier: Apache-2.0
"""Models that real frameworks save come back whole through one DAG, and load as they did in the job.

They run under ``JOBAPI_TEST_FRAMEWORKS_PYTHON``, where that names a Python, else under this one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.frameworks

PYTHON = os.environ.get("JOBAPI_TEST_FRAMEWORKS_PYTHON", sys.executable)

TORCH = """
import inspect, torch
model = torch.nn.Linear(3, 1)

def save(folder):
    torch.save(model.state_dict(), folder + "/net.pt")

def load(folder):
    safe = {"weights_only": True} if "weights_only" in inspect.signature(torch.load).parameters else {}
    model.load_state_dict(torch.load(folder + "/net.pt", **safe))

def output():
    return float(model(torch.ones(1, 3)))
"""

SCRIPTED = """
import torch
model = torch.jit.script(torch.nn.Linear(3, 1))

def save(folder):
    model.save(folder + "/net.torchscript")

def load(folder):
    global model
    model = torch.jit.load(folder + "/net.torchscript")

def output():
    return float(model(torch.ones(1, 3)))
"""

ONNX = """
import numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
weights = numpy_helper.from_array(np.random.rand(3, 1).astype("float32"), "w")
x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])
y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])
graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "net", [x], [y], [weights])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)

def save(folder):
    onnx.save(model, folder + "/net.onnx")

def load(folder):
    global model
    model = onnx.load(folder + "/net.onnx")

def output():
    return float(ReferenceEvaluator(model).run(None, {"x": np.ones((1, 3), "float32")})[0][0, 0])
"""

JOBLIB = """
import joblib, numpy as np
from sklearn.linear_model import LinearRegression
x = np.random.rand(9, 3)
model = LinearRegression().fit(x, x.sum(axis=1) * np.random.rand())

def save(folder):
    joblib.dump(model, folder + "/model.joblib", compress=3)

def load(folder):
    global model
    model = joblib.load(folder + "/model.joblib")

def output():
    return float(model.predict(np.ones((1, 3)))[0])
"""

TRANSFORMERS = """
import torch
from transformers import AutoModel, BertConfig, BertModel
sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, max_position_embeddings=16)
model = BertModel(BertConfig(vocab_size=32, **sizes)).eval()

def save(folder):
    model.save_pretrained(folder, safe_serialization=True)

def load(folder):
    global model
    model = AutoModel.from_pretrained(folder).eval()

def output():
    with torch.no_grad():
        return float(model(torch.ones(1, 4, dtype=torch.long)).last_hidden_state.sum())
"""

MLFLOW = """
import os
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
import mlflow.sklearn, numpy as np
from sklearn.linear_model import LinearRegression
x = np.random.rand(9, 3)
model = LinearRegression().fit(x, x.sum(axis=1) * np.random.rand())

def save(folder):
    mlflow.sklearn.save_model(model, folder, serialization_format="cloudpickle", pip_requirements=[])

def load(folder):
    global model
    model = mlflow.sklearn.load_model(folder)

def output():
    return float(model.predict(np.ones((1, 3)))[0])
"""

IN_THE_JOB = "\nimport os\nsave(os.environ['MODEL_DIR'])\nprint(f'final_loss={output():.6f}')\n"
IN_THE_TEST = "\nimport sys\nload(sys.argv[1])\nprint(f'{output():.6f}')\n"


@pytest.mark.parametrize(
    ("kind", "unsafe", "source"),
    [
        pytest.param("torch", True, TORCH, id="torch"),
        pytest.param("torch", True, SCRIPTED, id="torchscript"),
        pytest.param("onnx", False, ONNX, id="onnx"),
        pytest.param("pickle", True, JOBLIB, id="joblib"),
        pytest.param("safetensors", False, TRANSFORMERS, id="transformers"),
        pytest.param("mlflow", True, MLFLOW, id="mlflow"),
    ],
)
def test_a_model_of_a_framework_comes_back_whole(inline, connected, tmp_path, kind, unsafe, source):
    job = f"import os\nos.execv({PYTHON!r}, [{PYTHON!r}, 'job.py'])\n"
    conf = {"models": str(tmp_path / "models"), "script": job, "data_input": {"job.py": source + IN_THE_JOB}}
    run = inline.run("stub_any_kind", conf)
    assert run.state == "success"
    result = run.xcom("train")
    assert (result["model_kind"], result["model_unsafe"]) == (kind, unsafe)
    folder = Path(run.xcom("fetch").removeprefix("file://"))
    assert folder == tmp_path / "models" / "7"
    loaded = subprocess.run(
        [PYTHON, "-c", source + IN_THE_TEST, str(folder)], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert loaded.returncode == 0, loaded.stderr
    assert float(loaded.stdout.split()[-1]) == pytest.approx(result["metrics"]["final_loss"], abs=1e-5)
