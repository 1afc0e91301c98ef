# SPDX-License-Identifier: Apache-2.0
"""Under ``CI`` a test that is skipped fails, since what CI promised to test must not be left out silently.

A test that is for another version of Airflow may be skipped: its reason begins with :data:`OTHER_VERSION`.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

OTHER_VERSION = "another Airflow: "
"""How the reason of a skip begins that holds on every machine with this version of Airflow."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a skipped test."""
    report = yield
    _keep_promise(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail a module that skips itself."""
    report = yield
    _keep_promise(report)
    return report


def _keep_promise(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not report.skipped or hasattr(report, "wasxfail") or not os.environ.get("CI"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if OTHER_VERSION in reason:
        return
    report.outcome = "failed"
    report.longrepr = f"CI runs every test, and this one was skipped: {reason}"
