# SPDX-License-Identifier: Apache-2.0
"""A DAG file of a test, and its script run as the job service runs it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap

import pytest


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Imports a file of this source and answers its ``train``; what it imports of yours is forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def load(source: str, name: str = "digits.py"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(textwrap.dedent(source).encode())
        spec = importlib.util.spec_from_file_location("digits_under_test", file)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "digits_under_test", module)
        spec.loader.exec_module(module)
        return module.train

    yield load
    for name, module in list(sys.modules.items()):
        if str(tmp_path) in repr(getattr(module, "__spec__", None)):
            del sys.modules[name]


@pytest.fixture
def ran():
    """What a script prints."""

    def ran(script: str) -> list[str]:
        command = [sys.executable, "-I", "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert not done.returncode, f"{done.stderr}\n{script}"
        return done.stdout.splitlines()

    return ran
