# SPDX-License-Identifier: Apache-2.0
"""The files of the Training tab, without a browser."""

from __future__ import annotations

import html
import re
from pathlib import Path

from starlette.testclient import TestClient

import airflow_provider_jobapi
from airflow_provider_jobapi.training.metrics.patterns import documented
from airflow_provider_jobapi.ui.files import Files

STATIC = Path(airflow_provider_jobapi.__file__).parent / "ui" / "static"


def test_every_module_that_another_one_imports_is_in_the_package():
    imported = {name for file in STATIC.glob("*.js") for name in re.findall(r'"\./([\w.]+)"', file.read_text())}
    assert {"api.js", "training.css"} <= imported
    assert imported <= {file.name for file in STATIC.iterdir()}


def test_no_module_writes_html_or_loads_from_elsewhere():
    sinks = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|dangerouslySetInnerHTML|\beval\(|new Function|https?://\w"
    found = {(file.name, word) for file in STATIC.glob("*.*s*") for word in re.findall(sinks, file.read_text())}
    assert found <= {("icon.svg", "http://w"), ("icon_dark.svg", "http://w")}


def test_the_page_that_the_tab_links_to_shows_each_rule():
    assert 'new URL("metrics.html", import.meta.url)' in (STATIC / "no_metrics.js").read_text()
    answer = TestClient(Files()).get("/metrics.html")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-cache"
    shown = html.unescape(answer.text)
    for rule, measured in documented():
        assert f"<td>{rule.printed_by}<td><pre>{rule.example}</pre>" in shown
        assert all(name in shown for name in measured.values)
    assert r"(?P<step>\d+)" in shown
    assert "https://" not in shown
