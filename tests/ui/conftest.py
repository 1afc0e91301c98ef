# SPDX-License-Identifier: Apache-2.0
"""A real Chromium without a window, for the tests of the Training tab."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.harness.airflow import Airflow
from tests.ui.tab import Tab, find_chromium


# Of a module and not of the session: while Playwright runs, no other test could run an event loop in this thread.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_tab(browser: Any, airflow: Airflow) -> Iterator[Callable[..., Tab]]:
    """Opens a tab in a window of its own; a page that met an error which nobody caught fails the test."""
    tabs: list[Tab] = []

    def opened(width: int = 1280, height: int = 1000, url: str | None = None, **options: Any) -> Tab:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        tabs.append(Tab(context.new_page(), url or airflow.url))
        return tabs[-1]

    yield opened
    for tab in tabs:
        tab.page.unroute_all(behavior="ignoreErrors")
        tab.page.context.close()
    assert not [fault for tab in tabs for fault in tab.faults]
