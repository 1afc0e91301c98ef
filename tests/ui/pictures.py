# SPDX-License-Identifier: Apache-2.0
"""The pictures of the documentation: ``tox run -e pictures``, or ``python -m tests.ui.pictures docs/images``.

Starts a jobAPI server and an Airflow on free ports of this machine, trains a small network, and photographs the
Training tab in a real Chromium. Nothing is left running.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from tests.harness.airflow import Airflow
from tests.harness.server import running
from tests.harness.waiting import wait_for
from tests.ui.tab import Tab, find_chromium, obstacle

DAG = "two_moons"
TOO_FAST = [40, 16]
"""Learning rates with which the training fails."""

COLOURS = 128


def main(folder: Path) -> None:
    """Make every picture.

    :param folder: Where they go.
    """
    from playwright.sync_api import sync_playwright

    if obstacle():
        raise SystemExit(f"No picture can be made: {obstacle()}.")
    folder.mkdir(parents=True, exist_ok=True)
    dags = Path(__file__).parent / "dags"
    with (
        tempfile.TemporaryDirectory(prefix="jobapi-pictures-", ignore_cleanup_errors=True) as home,
        running(Path(home) / "jobapi", "--grace", "2s") as server,
        Airflow(Path(home) / "airflow", dags) as airflow,
        sync_playwright() as playwright,
    ):
        airflow.connect("jobapi_default", server.connection)
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        Pictures(airflow, browser, folder, Path(home) / "models").take()
        browser.close()


class Pictures:
    """Trains, and photographs what is seen of it.

    :param browser: Playwright's browser.
    :param folder: Where the pictures go.
    :param models: Where the models go.
    """

    def __init__(self, airflow: Airflow, browser: Any, folder: Path, models: Path) -> None:
        self._airflow, self._browser, self._folder, self._models = airflow, browser, folder, models

    def take(self) -> None:
        """Take them all."""
        tries = self._train(TOO_FAST)
        self._ended(tries, "success")
        self.earlier_tries(tries)
        self.phone(tries)
        failed = self._train([*TOO_FAST, 25])
        self._ended(failed, "failed")
        self.failed(failed)
        self.training(self._train([0.1], pause=0.6))

    def training(self, run_id: str) -> None:
        """The tab as a part of Airflow's page, while the job trains."""
        tab = self._open(run_id, 1440, 1000)
        enough = tab.chart("loss").get_by_text("Values (3")
        enough.wait_for(timeout=120_000)
        self._save(tab.page, "training-tab")

    def earlier_tries(self, run_id: str) -> None:
        """The end of a third try, its curves over those of the two before it, in the dark."""
        tab = self._open(run_id, 1400, 1500, color_scheme="dark")
        tab.root.get_by_role("switch", name="Log scale").check()
        plot = tab.chart("loss").get_by_role("slider")
        box = plot.bounding_box()
        tab.page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 90)
        tab.chart("loss").locator(".jt-tip").wait_for()
        self._save(tab.root, "earlier-tries")

    def failed(self, run_id: str) -> None:
        """A failure and its reason."""
        tab = self._open(run_id, 1400, 1500)
        self._save(tab.root, "failed")

    def phone(self, run_id: str) -> None:
        """On a phone."""
        tab = self._open(run_id, 375, 1000, device_scale_factor=2, has_touch=True, is_mobile=True)
        self._save(tab.page, "phone")

    def _train(self, rates: list[float], pause: float = 0.02) -> str:
        return self._airflow.run(DAG, {"rates": rates, "pause": pause, "models": str(self._models)})

    def _ended(self, run_id: str, state: str) -> None:
        def ended() -> bool:
            return str(self._airflow.task(DAG, run_id, "train")["state"]) == state

        wait_for(f"the training ends in {state}", ended, 300, 0.5)

    def _open(self, run_id: str, width: int, height: int, **options: Any) -> Tab:
        context = self._browser.new_context(
            viewport={"width": width, "height": height}, reduced_motion="reduce", **options
        )
        tab = Tab(context.new_page(), self._airflow.url).open(DAG, run_id)
        tab.root.locator(".jt-log").wait_for()
        return tab

    def _save(self, seen: Any, name: str) -> None:
        path = self._folder / f"{name}.png"
        seen.screenshot(path=path, animations="disabled")
        with Image.open(path) as picture:  # in few colours: a third of the bytes, and nobody sees it
            picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
        print(f"{path}: {path.stat().st_size // 1000} KB")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"))
