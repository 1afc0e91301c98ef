# SPDX-License-Identifier: Apache-2.0
"""The Training tab in a real Chromium without a window: opened, read and found."""

from __future__ import annotations

import importlib.util
import os
import shutil
from typing import Any
from urllib.parse import quote

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


class Tab:
    """A page of the browser that shows the Training tab of a task instance.

    :ivar page: Playwright's page.
    :ivar faults: What the page complained of: errors that nobody caught, and dialogs.
    """

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url = page, url
        self.faults: list[str] = []
        self._known = False
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: self.faults.append(f"error {error}"))
        page.on("dialog", lambda dialog: (self.faults.append(f"dialog {dialog.message}"), dialog.dismiss()))

    @property
    def root(self) -> Any:
        """The tab itself."""
        return self.page.locator(".jobapi-training")

    def open(self, dag_id: str, run_id: str, task_id: str = "train", map_index: int | None = None) -> Tab:
        """Load the tab, and wait until it shows something."""
        mapped = "" if map_index is None else f"/mapped/{map_index}"
        path = f"dags/{dag_id}/runs/{quote(run_id)}/tasks/{task_id}{mapped}/plugin/jobapi-training"
        if not self._known:  # to log in, Airflow 3.1 leads to its home page, whatever was asked for
            self.page.goto(self.url)
            self.page.get_by_text("Dags", exact=True).first.wait_for(timeout=60_000)
            self._known = True
        self.page.goto(f"{self.url}/{path}")
        self.root.locator("header").wait_for(timeout=60_000)
        return self

    def badge(self) -> Any:
        """The headline's word."""
        return self.root.locator(".jt-badge")

    def says(self, text: str, seconds: float = 60) -> None:
        """Wait until the tab holds a text."""
        self.root.get_by_text(text).first.wait_for(timeout=seconds * 1_000)

    def phases(self) -> list[str]:
        """The timeline as a screen reader hears it: ``Queued, over`` and so on."""
        return [text.strip() for text in self.root.locator(".jt-phase .jt-label").all_text_contents()]

    def chart(self, title: str) -> Any:
        """A chart."""
        return self.root.get_by_role("article", name=title, exact=True)


def expect(found: Any) -> Any:
    """Playwright's assertions, which wait for what a page shows a moment later."""
    from playwright.sync_api import expect as waiting

    waiting.set_options(timeout=30_000)
    return waiting(found)


def find_chromium() -> str | None:
    """The browser of this machine; ``JOBAPI_TEST_CHROMIUM`` may name another one."""
    return os.environ.get("JOBAPI_TEST_CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)), None)


def obstacle() -> str:
    """Why no tab can be opened here; empty where one can."""
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed"
    return "" if find_chromium() else f"there is no Chromium: none of {', '.join(CHROMIUM)} was found"
