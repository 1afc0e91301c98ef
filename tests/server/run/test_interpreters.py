# SPDX-License-Identifier: Apache-2.0
"""Several Pythons on one server: which one a job gets, and jobs on old ones."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from airflow_provider_jobapi.server.config import Settings, SettingsError
from airflow_provider_jobapi.server.run.interpreters import Interpreter, Interpreters
from tests.harness.bench import Bench
from tests.harness.packages import Index, write_wheel
from tests.harness.python import installed

INSTALL = "pip3 install -r requirements.txt && python3 train.py"
INSTALL_2 = "pip install -r requirements.txt && python train.py"


def interpreters(*versions: str) -> Interpreters:
    found = object.__new__(Interpreters)
    found.all = [Interpreter(f"/python{version}", f"{version}.1") for version in versions]
    found.default = found.all[0]
    return found


@pytest.mark.parametrize(
    ("image", "requirements", "version"),
    [
        ("", "", "3.12"),
        ("tensorflow/tensorflow:latest", "", "3.12"),
        ("tensorflow/tensorflow:1.4.0", "", "3.6"),
        ("registry.example:5000/tensorflow/tensorflow:1.12.0-gpu-py3", "", "3.6"),
        ("tensorflow/tensorflow:1.15.2-py3", "", "3.7"),
        ("tensorflow/tensorflow:2.11.0-gpu", "", "3.9"),
        ("tensorflow/tensorflow:2.16.1", "", "3.12"),
        ("python:3.6-slim", "", "3.6"),
        ("registry.example/python:3.9.2@sha256:" + 64 * "a", "", "3.9"),
        ("python:3.10", "", "3.12"),  # there is none
        ("pytorch/x:1.13-py37-cuda", "", "3.7"),
        ("ours:cuda11-python3.9-v2", "", "3.9"),
        ("ours:happy31", "", "3.12"),
        ("", "numpy\ntensorflow==1.4.0\n", "3.6"),
        ("tensorflow/tensorflow:latest", "tensorflow-gpu == 2.4.1", "3.7"),
        ("tensorflow/tensorflow:1.4.0", "tensorflow==2.16.1", "3.12"),
    ],
)
def test_the_image_or_the_requirements_name_the_python(image, requirements, version):
    chosen = interpreters("3.12", "3.6", "2.7", "3.7", "3.9").choose("python3 train.py", image, requirements)
    assert chosen.version == f"{version}.1"


@pytest.mark.parametrize(
    ("command", "version"),
    [
        ("python train.py", "2.7"),
        ("pip install -r requirements.txt && python2 train.py", "2.7"),
        ("pip3 install -r requirements.txt && python3 train.py", "3.12"),
        ("python3.6 train.py", "3.6"),
        ("cd x; /usr/bin/env python3.6 train.py", "3.6"),
        ("python3 train.py --with=python3.6", "3.12"),
    ],
)
def test_the_command_names_the_python(command, version):
    assert interpreters("3.12", "3.6", "2.7").choose(command, "python:3.12", "").version == f"{version}.1"


@pytest.mark.parametrize(
    ("wanted", "command", "version"),
    [
        (">=3.8", "python3 train.py", "3.12"),
        (">=3.8,<3.12", "python3 train.py", "3.9"),
        ("==3.7.*", "python3 train.py", "3.7"),
        ("<3.12", "python3.7 train.py", "3.7"),
        (">=3.9", "python3.7 train.py", "3.12"),
        (">=2.7", "python train.py", "2.7"),
        (">=3.13", "python3 train.py", "3.12"),  # such a job is refused when it is submitted
    ],
)
def test_requires_python_chooses_among_the_pythons(wanted, command, version):
    requirements = f"# jobapi: requires-python {wanted}\nsix\n"
    chosen = interpreters("3.12", "3.6", "2.7", "3.7", "3.9").choose(command, "", requirements)
    assert chosen.version == f"{version}.1"


def test_without_python_2_a_command_that_calls_it_gets_the_default():
    assert interpreters("3.12", "3.6").choose("python train.py", "", "").version == "3.12.1"


def old_python(tmp_path: Path, version: str) -> Path:
    """A program that says that it is some Python."""
    program = tmp_path / f"python{version}"
    program.write_text(f'#!/bin/sh\necho \'["{program}", "{version}"]\'\n')
    program.chmod(0o755)
    return program


def test_a_python_that_is_too_old_is_refused_by_its_version(tmp_path):
    with pytest.raises(SettingsError, match=r"is Python 3\.5\.2; jobs need Python 2\.7, or 3\.6 or newer\."):
        Interpreter.find(old_python(tmp_path, "3.5.2"))
    assert Interpreter.find(old_python(tmp_path, "2.7.18")).minor == (2, 7)


def test_a_server_needs_a_python_3(tmp_path):
    with pytest.raises(SettingsError, match="--python names no Python 3"):
        Interpreters((old_python(tmp_path, "2.7.18"),))


def test_the_error_of_a_python_that_does_not_run_is_its_last_line(tmp_path):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho 'pyenv: python: command not found' >&2\nexit 127\n")
    program.chmod(0o755)
    with pytest.raises(SettingsError, match=r"does not run as Python \(pyenv: python: command not found\)"):
        Interpreter.find(program)


def test_pythons_are_named_by_path_name_and_version(tmp_path, monkeypatch):
    for version in ("3.6.9", "3.6.15", "2.7.18"):
        (tmp_path / "versions" / version / "bin").mkdir(parents=True)
        (tmp_path / "versions" / version / "bin" / "python").touch()
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    read = Settings.load({"python": f"{sys.executable}, 3.6 ,2.7.18,python3.6.9"}, {}).python
    versions = tmp_path / "versions"
    assert read == (
        Path(sys.executable),
        versions / "3.6.15" / "bin" / "python",
        versions / "2.7.18" / "bin" / "python",
        versions / "3.6.9" / "bin" / "python",
    )
    for text, why in (("a,,b", "it is one or more interpreters"), ("python3,3.4", r"there is no python3\.4 in PATH")):
        with pytest.raises(SettingsError, match=f"--python cannot be '{text}': {why}"):
            Settings.load({"python": text}, {})


def test_python_2_is_refused_at_the_submit_where_the_server_has_none(tmp_path):
    with Bench(tmp_path) as bench, pytest.raises(Exception, match=r"or name a Python 2\.7 in the server's --python"):
        bench.submit(command="python train.py")


def real(version: str) -> Path:
    """A real Python that is installed here, by uv, pyenv or the system."""
    place = installed(version)
    return place or pytest.skip(f"there is no Python {version} here")


@pytest.mark.slow
def test_jobs_run_on_python_2_and_3_6(tmp_path):
    """Each in an environment of its own, with its own pip, its packages and their programs."""
    with Bench(tmp_path, python=(Path(sys.executable), real("3.6"), real("2.7"))) as bench:
        script = "import sys, six, wheel\nprint('%s %s' % (sys.version_info[:2], six.__version__))"
        files = {"requirements.txt": "six==1.16.0\nwheel==0.37.1\n"}
        old = bench.submit(script, files=files, command=f"{INSTALL_2} && wheel version")
        new = bench.submit(script, files=files, command=f"{INSTALL} && wheel version", image="python:3.6")
        for submitted, version in ((old, "(2, 7)"), (new, "(3, 6)")):
            job = bench.wait(submitted, timeout=600)
            assert job.state == "SUCCESSFUL", bench.log(job)
            assert bench.log(job).splitlines()[-2:] == [f"{version} 1.16.0", "wheel 0.37.1"]
        for python in ("python", "python3.6"):
            job = bench.wait(bench.submit(command=f"{python} -m pip install numpy", files=files), timeout=600)
            assert "pip can only do" in bench.log(job)
            assert job.exit_code == 2


@pytest.mark.slow
def test_python_2_installs_from_an_index_with_credentials(tmp_path, monkeypatch):
    """Its pip gets the same relay as uv."""
    (tmp_path / "packages").mkdir()
    with Index(tmp_path / "packages", credentials="user:tr0ub4dor") as index:
        monkeypatch.setenv("UV_EXTRA_INDEX_URL", index.url)
        with Bench(tmp_path / "bench", python=(Path(sys.executable), real("2.7"))) as bench:
            write_wheel(tmp_path / "packages", "tiny", tag="py2.py3-none-any")
            files = {"requirements.txt": "tiny\n"}
            job = bench.submit("import tiny", files=files, command=INSTALL_2)
            job = bench.wait(job, timeout=600)
            assert job.state == "SUCCESSFUL", bench.log(job)
            assert "tr0ub4dor" not in bench.log(job) + (job.directory / "spec.json").read_text()


WIDE_DEEP = """
import argparse, os, random, shutil, sys
import tensorflow as tf

parser = argparse.ArgumentParser()
parser.add_argument("--train_epochs", type=int, default=2)
parser.add_argument("--data_dir", default=".")
parser.add_argument("--model_dir", default="estimator")
flags, _ = parser.parse_known_args()

COLUMNS, DEFAULTS = ["age", "workclass", "hours", "income"], [[0], [""], [0], [""]]
age = tf.feature_column.numeric_column("age")
hours = tf.feature_column.numeric_column("hours")
workclass = tf.feature_column.categorical_column_with_vocabulary_list("workclass", ["Private", "State-gov"])
buckets = tf.feature_column.bucketized_column(age, boundaries=[25, 40, 55])
wide = [workclass, buckets, tf.feature_column.crossed_column([buckets, "workclass"], hash_bucket_size=100)]
deep = [age, hours, tf.feature_column.indicator_column(workclass)]

def input_fn(path, epochs):
    def parse(line):
        columns = dict(zip(COLUMNS, tf.decode_csv(line, record_defaults=DEFAULTS)))
        return columns, tf.equal(columns.pop("income"), ">50K")
    lines = tf.data.TextLineDataset(path).map(parse).shuffle(100).repeat(epochs).batch(20)
    return lines.make_one_shot_iterator().get_next()

model = tf.estimator.DNNLinearCombinedClassifier(
    model_dir=flags.model_dir, linear_feature_columns=wide, dnn_feature_columns=deep, dnn_hidden_units=[20, 10])
data = os.path.join(flags.data_dir, "adult.data")
for _ in range(flags.train_epochs):
    model.train(lambda: input_fn(data, 1))
    results = model.evaluate(lambda: input_fn(data, 1))
    for key in sorted(results):
        print("%s: %s" % (key, results[key]))
spec = tf.feature_column.make_parse_example_spec(wide[:2] + deep)
serving = tf.estimator.export.build_parsing_serving_input_receiver_fn(spec)
model.export_savedmodel(os.environ["MODEL_DIR"], serving)
print("python", sys.version_info[:2], "tensorflow", tf.__version__)
"""
"""Of the shape of the model that the documents of SAP's client name: TensorFlow 1.4, Estimators, a table of people."""

SEED = {"image": "tensorflow/tensorflow:1.4.0", "completionTime": "20h"}


@pytest.mark.slow
@pytest.mark.parametrize(("version", "command"), [("3.6", INSTALL), ("2.7", INSTALL_2)])
def test_the_training_of_the_documents_runs_with_tensorflow_1_4(tmp_path, version, command):
    rows = [f"{20 + n % 50},{'Private' if n % 3 else 'State-gov'},{30 + n % 20},{'>50K' if n % 2 else '<=50K'}"
            for n in range(200)]  # fmt: skip
    with Bench(tmp_path, python=(Path(sys.executable), real(version))) as bench:
        files = {"requirements.txt": "tensorflow==1.4.0", "adult.data": "\n".join(rows) + "\n"}
        job = bench.submit(WIDE_DEEP, files=files, command=f"{command} --train_epochs=2", **SEED)
        job = bench.wait(job, timeout=1200)
        assert job.state == "SUCCESSFUL", bench.log(job)
        log = bench.log(job)
        assert "accuracy: " in log
        assert "1.4.0" in log.splitlines()[-1]
        assert job.model is not None
        assert {"saved_model.pb", "variables/variables.index"} <= {file["path"] for file in job.model["files"]}
