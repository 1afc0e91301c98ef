# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys

import pytest

from airflow_provider_jobapi.training.missing_module import advice, advice_for
from airflow_provider_jobapi.training.status import JobStatus

TRACE = ["Traceback (most recent call last):", '  File "train.py", line 1, in <module>', "    import x"]


def error(name: str) -> list[str]:
    return [*TRACE, f"ModuleNotFoundError: No module named '{name}'"]


def printed(*arguments: str, folder) -> list[str]:
    python = [sys.executable, "-S"]  # without the packages of the tests
    done = subprocess.run([*python, *arguments], check=False, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    return done.stderr.splitlines()


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("sklearn", "add its package, scikit-learn, to requirements."),
        ("cv2", "add its package, opencv-python-headless, to requirements."),
        ("PIL", "add its package, Pillow, to requirements."),
        ("yaml", "add its package, PyYAML, to requirements."),
        ("torch", "no module torch: add its package, which usually has the same name, to requirements; a module of"),
        ("google.protobuf", "add its package, protobuf, to requirements."),
        ("numpy._core", "no numpy._core in it: name another version of its package in requirements"),
        ("distutils", "add setuptools, which has one, to requirements"),
        ("_tkinter", "choose another one, by requires-python or the image"),
    ],
)
def test_a_module_that_is_not_installed_names_its_package(module, said):
    assert said in advice_for(["step 1", *error(module)])
    assert said in advice_for([f"[job-worker-0] {line}" for line in error(module)])
    assert said in advice_for([f"\x1b[31m[rank0]: {line}\x1b[0m" for line in error(module)])
    assert said in advice_for([*error(module)[:-1], f"{error(module)[-1]}. Did you mean: 'other'?"])
    assert said in advice_for([*error(module), "", "[Modelarts Service Log]exit with 1", "jobapi: 3 lines"])


def test_what_python_itself_prints(tmp_path):
    (tmp_path / "own.py").write_text("")
    (tmp_path / "train.py").write_text("try:\n    import skimage\nexcept ImportError:\n    import sklearn\n")
    (tmp_path / "start.py").write_text(
        "import subprocess, sys\nsubprocess.check_call([sys.executable, '-S', 'train.py'])\n"
    )
    for script in ("train.py", "start.py"):
        assert "scikit-learn" in advice_for(printed(script, folder=tmp_path))
    for module in ("lightning_none", "lightning_none.run"):
        assert "has no module lightning_none: add its package" in advice_for(printed("-m", module, folder=tmp_path))
    assert advice_for(printed("-c", "import own.sub", folder=tmp_path)) == (
        "A file or folder own of the job hides the package own: give it another name."
    )
    assert "PyYAML" in advice_for(["Traceback …", "ImportError: No module named yaml"])  # of Python 2


TORCHRUN = """\
E0101 10:00:00.000000 7 torch/distributed/elastic/multiprocessing/api.py:984] failed (exitcode: 1) local_rank: 0
Traceback (most recent call last):
  File "/venv/bin/torchrun", line 10, in <module>
    sys.exit(main())
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
train.py FAILED
------------------------------------------------------------
Root Cause (first observed failure):
  exitcode  : 1 (pid: 9)
============================================================"""


def test_a_launcher_that_says_that_the_script_failed_is_not_the_cause():
    assert "scikit-learn" in advice_for([*error("sklearn"), *TORCHRUN.splitlines()])
    assert advice_for(TORCHRUN.splitlines()) == ""


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [*error("sklearn"), "going on without scikit-learn"],
        [*error("sklearn"), "", "During handling of the above exception, …", "", *TRACE, "ValueError: 3"],
        [*TRACE, "ImportError: cannot import name 'a' from 'sklearn'"],
        ["ModuleNotFoundError: No module named 'sklearn' was seen"],
        ["epoch 1 loss 0.3"],
    ],
)
def test_what_is_not_the_cause_gives_no_advice(lines):
    assert advice_for(lines) == ""


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        ("FAILED", "NonZeroExit", True),
        ("FAILED", None, True),
        ("FAILED", "ModelArts.4005", True),
        ("FAILED", "OutOfMemory", False),
        ("FAILED", "CompletionTimeExceeded", False),
        ("FAILED", "EnvironmentFailed", False),
        ("STOPPED", "Stopped", False),
        ("SUCCESSFUL", None, False),
    ],
)
def test_only_a_job_that_failed_by_itself_gets_advice(status, reason, expected):
    assert bool(advice(JobStatus(status=status, reason=reason), error("sklearn"))) is expected
