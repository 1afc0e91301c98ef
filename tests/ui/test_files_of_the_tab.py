# SPDX-License-Identifier: Apache-2.0
"""The files of the Training tab, without a browser."""

from __future__ import annotations

import re
from pathlib import Path

import airflow_provider_jobapi

STATIC = Path(airflow_provider_jobapi.__file__).parent / "ui" / "static"


def test_every_module_that_another_one_imports_is_in_the_package():
    imported = {name for file in STATIC.glob("*.js") for name in re.findall(r'"\./([\w.]+)"', file.read_text())}
    assert {"api.js", "training.css"} <= imported
    assert imported <= {file.name for file in STATIC.iterdir()}


def test_no_module_writes_html_or_loads_from_elsewhere():
    sinks = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|dangerouslySetInnerHTML|\beval\(|new Function|https?://\w"
    found = {(file.name, word) for file in STATIC.glob("*.*s*") for word in re.findall(sinks, file.read_text())}
    assert found <= {("icon.svg", "http://w"), ("icon_dark.svg", "http://w")}
