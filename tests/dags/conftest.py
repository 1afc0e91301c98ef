# SPDX-License-Identifier: Apache-2.0
"""The example DAGs as people copy them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.harness.inline import Inline
from tests.harness.python import under

EXAMPLES = Path(__file__).parents[2] / "dags"
LIGHT = '''
"""In place of TensorFlow: a model that is a count of the rows."""
from pathlib import Path

rows = [line for file in sorted(Path("rows").glob("*.csv")) for line in file.read_text().splitlines()]
assert {len(row.split(",")) for row in rows} == {65}
Path("model").mkdir(exist_ok=True)
Path("model", "saved_model.pb").write_text(str(len(rows)))
print("candidate_accuracy=1.0")
print(f"{len(rows)} rows")
'''


@pytest.fixture
def copied(tmp_path, monkeypatch, connected):
    """A home with a copy of the examples; answers what reads them, which may change them before."""
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "airflow" / "dags"
    shutil.copytree(EXAMPLES, folder)

    def read(*, light: bool = False, rows: bool = True, python: str = "") -> Inline:
        """``light`` has no TensorFlow; ``python`` is one that has what the examples need."""
        if not rows:
            shutil.rmtree(folder / "rows")
        if light:
            for script in (folder / "scripts").iterdir():
                script.write_text(LIGHT)
            for dag in folder.glob("*.py"):
                dag.write_text(re.sub(r'requirements="tensorflow-cpu==[\d.]+"', 'requirements=""', dag.read_text()))
        if python:
            for script in (folder / "scripts").iterdir():
                script.write_text(under(python, script.read_text()))
            for dag in folder.glob("*.py"):
                dag.write_text(re.sub(r"requirements=(\".*\"|\[.*\])", 'requirements=""', dag.read_text()))
        return Inline(folder)

    return read
