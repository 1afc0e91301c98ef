# SPDX-License-Identifier: Apache-2.0
"""The Training tab in a real browser, on a real Airflow."""

from __future__ import annotations

import re

import pytest

from tests.harness.waiting import wait_for
from tests.ui.tab import expect, obstacle
from tests.ui.told import JOB, curve, training

pytestmark = pytest.mark.skipif(bool(obstacle()), reason=obstacle())

EXPECTED = r"Values \((\d+) points?\)"


@pytest.fixture
def told(airflow):
    """Runs a task that tells what it is told to tell; answers its place when it has ended."""

    def run(dag_id: str = "told", *, ends: str | None = "success", **conf) -> tuple[str, str, str]:
        run_id = airflow.run(dag_id, conf)
        if ends:
            airflow.wait_for_state(dag_id, run_id, "train", ends)
        return dag_id, run_id, "train"

    return run


def points(tab, title: str = "loss") -> int:
    """How many points a chart has, as it says itself."""
    found = re.search(EXPECTED, tab.chart(title).text_content())
    return int(found[1]) if found else 0


@pytest.mark.slow
def test_a_curve_gains_points_while_the_job_trains_and_the_timeline_ends_in_success(airflow, open_tab, tmp_path):
    middle, gate = tmp_path / "middle", tmp_path / "gate"
    run_id = airflow.run("stub_metrics", {"env": {"STEPS": 40, "MIDDLE": str(middle), "GATE": str(gate)}})
    tab = open_tab().open("stub_metrics", run_id)
    tab.page.evaluate("window.loaded = 'once'")
    tab.chart("loss").wait_for(timeout=90_000)
    wait_for("the first half is drawn", lambda: points(tab) == 20, 60)
    drawn = tab.chart("loss").locator(".jt-line path").first.get_attribute("d")
    middle.touch()
    wait_for("every point is drawn", lambda: points(tab) == 40, 90)
    assert tab.chart("loss").locator(".jt-line path").first.get_attribute("d") != drawn
    expect(tab.badge()).to_have_text("Training")
    assert tab.phases() == ["Queued, over", "Running, now", "Storing, to come", "Done, to come"]
    assert airflow.task("stub_metrics", run_id, "train")["state"] == "deferred"
    links = airflow.api("GET", f"dags/stub_metrics/dagRuns/{run_id}/taskInstances/train/links")["extra_links"]
    assert set(links) == {"Training", "Model"}
    gate.touch()
    tab.says("The job was successful.", 120)
    assert tab.phases() == ["Queued, over", "Running, over", "Storing, over", "Done, reached"]
    tab.says("step=40 rate=0.5")
    assert tab.page.evaluate("window.loaded") == "once"
    # The link, which a user clicks on the task's Details page, leads here.
    tab.page.goto(f"{tab.url}/{links['Training']}")
    assert points(tab) == 40


def test_a_failed_job_shows_why(airflow, open_tab):
    run_id = airflow.run("stub", {"env": {"EXIT": 3, "LINES": 25}})
    airflow.wait_for_state("stub", run_id, "train", "failed")
    tab = open_tab().open("stub", run_id)
    expect(tab.badge()).to_have_text("Failed")
    why = tab.root.get_by_role("region", name="Why it failed")
    assert "NonZeroExit · exit code 3" in why.inner_text()
    assert "3" in why.locator(".jt-reason").inner_text()
    assert why.locator(".jt-quote").text_content() == "The job's last line: line 24 of 100% {} %s"
    assert tab.phases()[1:] == ["Running, failed", "Storing, not reached", "Failed, failed"]
    assert "line 24 of 100% {} %s" in tab.root.locator(".jt-log").inner_text()
    assert "No metric was found" in tab.root.inner_text()
    recognised = tab.root.get_by_role("link", name="Which lines are recognised").get_attribute("href")
    assert "fastai" in tab.page.request.get(recognised).text()
    # The task after it was never run.
    tab.open("stub", run_id, "fetch")
    assert "fetches the model" in tab.root.inner_text()


def test_a_failure_before_the_job_is_told_as_well(airflow, open_tab):
    run_id = airflow.run("stub", {"jobAPI": "https://elsewhere"})
    airflow.wait_for_state("stub", run_id, "train", "failed")
    tab = open_tab().open("stub", run_id)
    tab.says("The task failed before it submitted a job.")
    why = tab.root.get_by_role("region", name="Why it failed")
    assert "config cannot hold jobAPI" in why.locator(".jt-reason").inner_text()


def test_what_is_no_training_says_so(open_tab, told):
    tab = open_tab().open(*told())
    expect(tab.badge()).to_have_text("No training")
    tab.says("This task is not a training")
    expect(tab.root.locator("section")).to_have_count(0)


def test_what_never_ran_says_so(airflow, open_tab, told, tmp_path):
    gate = tmp_path / "gate"
    dag_id, run_id, _ = told(gate=str(gate), ends=None)
    try:
        tab = open_tab().open(dag_id, run_id, "after")
        tab.says("The training has not begun")
    finally:
        gate.touch()
    dag_id, run_id, _ = told(error="no", ends="failed")
    airflow.wait_for_state(dag_id, run_id, "after", "upstream_failed")
    tab.open(dag_id, run_id, "after")
    tab.says("A task before this one failed, so nothing was trained.")


def test_how_far_a_training_is_and_how_long_it_will_take(airflow, open_tab, told, tmp_path):
    gate, xcoms = tmp_path / "gate", training(loss=curve(20))
    xcoms["trainingStatus"] |= {"status": "RUNNING", "storingTime": None, "finishTime": None, "exitCode": None}
    xcoms["trainingStatus"] |= {"progress": 0.456, "remaining": 720.0}
    dag_id, run_id, _ = told(gate=str(gate), ends=None, xcoms=xcoms)
    try:
        airflow.wait_for_state(dag_id, run_id, "train", "running")
        for scheme, width in (("light", 1280), ("dark", 360)):
            tab = open_tab(width, 800, color_scheme=scheme).open(dag_id, run_id)
            bar = tab.root.get_by_role("progressbar", name="Progress of the training")
            expect(bar).to_have_attribute("aria-valuetext", "45 %, about 12 min left", timeout=90_000)
            tab.says("45 % · about 12 min left")
            inner, outer = bar.locator("div").bounding_box(), bar.bounding_box()
            assert inner["width"] == pytest.approx(0.456 * outer["width"], abs=2)
    finally:
        gate.touch()


def test_each_task_of_a_mapped_one_is_its_own(open_tab, told, airflow):
    run_id = airflow.run("told_mapped", {"xcoms": training(loss=curve(5)), "result": None})

    def ended() -> bool:
        path = f"dags/told_mapped/dagRuns/{run_id}/taskInstances"
        return [task["state"] for task in airflow.api("GET", path)["task_instances"]] == ["success"] * 2

    wait_for("both have ended", ended, 90, 0.5)
    tab = open_tab()
    for index in (0, 1):
        tab.open("told_mapped", run_id, map_index=index)
        assert points(tab) == 5
        assert f"/mapped/{index}" in tab.root.get_by_role("link", name="Whole log").get_attribute("href")
    tab.open("told_mapped", run_id)
    tab.says("This task is mapped")


HOSTILE = ['<img src=x onerror="alert(1)">', "__proto__", "constructor", "</script><script>alert(2)</script>", "a" * 90]


def test_hostile_names_and_numbers_are_only_shown(open_tab, told):
    wild = ["NaN", 1, "Infinity", 2, "-Infinity", 3, "nonsense", None, {}, 1e308, -1e308]
    metrics = {name: curve(20) for name in HOSTILE} | {f"metric {index}": curve(9) for index in range(95)}
    metrics["loss"] = {"steps": [*range(9), None, "x"], "values": wild, "times": "none", "count": "many"}
    xcoms = training(**metrics)
    xcoms["training_facts"] |= {
        "name": HOSTILE[0],
        "requirements": [HOSTILE[0], 7],
        "data": [None, {"name": HOSTILE[3]}],
    }
    xcoms["trainingStatus"] |= {"message": HOSTILE[0], "status": "FAILED", "reason": HOSTILE[3], "exitCode": "9"}
    tab = open_tab().open(*told(xcoms=xcoms, lines=[HOSTILE[0], "\x1b[31mred", "%s {}"]))
    expect(tab.root.locator("img, script, iframe")).to_have_count(0)
    expect(tab.root.get_by_role("article")).to_have_count(24)
    tab.root.get_by_role("button", name="Show all 101 charts").click()
    expect(tab.root.get_by_role("article")).to_have_count(101)
    for name in HOSTILE:
        expect(tab.chart(name).locator(".jt-line path")).to_have_count(1)
    tab.root.get_by_role("searchbox").fill("loss")
    expect(tab.root.get_by_role("article")).to_have_count(1)
    for sentence in ("loss is NaN at step 0.", "loss is Infinity at step 2.", "loss is −Infinity at step 4."):
        expect(tab.chart("loss")).to_contain_text(sentence)
    expect(tab.chart("loss").locator(".jt-marks")).to_have_count(3)
    assert "NaN" not in tab.chart("loss").locator(".jt-line path").get_attribute("d")
    expect(tab.root.get_by_role("region", name="Why it failed")).to_contain_text(HOSTILE[0])


ODD = [
    *(None, 1, "text", [], {}, [[]], {"job_id": JOB}),
    {"job_id": JOB, "metrics": [], "data": 1, "status": 1, "name": {}, "submitted": [], "image": {}, "model": {}},
    {"job_id": JOB, "metrics": {"x": None, "y": {"values": {}}, "z": {"values": [[], {}]}}, "message": []},
    {"job_id": JOB, "metrics": {"x": {"values": [1] * 9_000, "steps": [0] * 9_000}}, "resources": "big", "name": 7},
]


@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_odd_values_never_make_a_blank_page(open_tab, told_once, value):
    tab = open_tab()
    for key in ("training_facts", "trainingStatus", "training_metrics", "return_value"):
        tab.page.route(f"**/xcomEntries/{key}?*", lambda route: route.fulfill(json={"value": value, "timestamp": "1"}))
    tab.open(*told_once)
    assert tab.badge().inner_text() not in {"", "Not shown"}
    assert len(tab.root.inner_text()) > 20


@pytest.fixture(scope="module")
def told_once(airflow):
    """A training that was told well, for the tests that then put something in its way."""
    metrics = {"loss": curve(500), "val_loss": curve(500, 1.4)} | {f"metric {index}": curve(500) for index in range(6)}
    run_id = airflow.run("told", {"xcoms": training(**metrics), "lines": ["one", "two"], "result": None})
    airflow.wait_for_state("told", run_id, "train", "success")
    return "told", run_id, "train"


def test_an_xcom_of_another_job_is_left_aside(open_tab, told):
    xcoms = training(loss=curve(5))
    xcoms["training_metrics"]["job_id"] = "11111111-1111-1111-1111-111111111111"
    tab = open_tab().open(*told(xcoms=xcoms))
    tab.says("Ignored, because it belongs to another job: training_metrics.")
    expect(tab.root.get_by_role("article")).to_have_count(0)


def test_what_was_cleared_says_so(open_tab, told_once):
    tab = open_tab()
    task = "**/taskInstances/train"
    tab.page.route(task, lambda route: route.fulfill(json=route.fetch().json() | {"state": None, "try_number": 2}))
    tab.open(*told_once)
    expect(tab.badge()).to_have_text("Cleared")
    expect(tab.root.get_by_role("article")).to_have_count(0)


def test_earlier_tries_lie_over_the_curve(open_tab, told_once):
    tab = open_tab()
    earlier = {"try": 1, "job_id": "another", "status": "FAILED", "metrics": {"loss": curve(40)}}
    store = {"task_state_store": [{"key": "training_metrics_1", "value": earlier}, {"key": "else", "value": 1}]}
    tab.page.route("**/state-store?*", lambda route: route.fulfill(json=store))
    tab.page.route("**/taskInstances/train", lambda route: route.fulfill(json=route.fetch().json() | {"try_number": 2}))
    tab.open(*told_once)
    expect(tab.chart("loss").locator(".jt-line path")).to_have_count(3)
    expect(tab.chart("loss")).to_contain_text("loss, try 1")
    tab.root.get_by_role("switch", name="Earlier try").click()
    expect(tab.chart("loss").locator(".jt-line path")).to_have_count(2)


def test_no_permission_is_said_and_the_rest_is_shown(open_tab, told_once):
    tab = open_tab()
    for what in ("xcomEntries", "logs"):
        tab.page.route(
            re.compile(f"/{what}[/?]"), lambda route: route.fulfill(status=403, json={"detail": "Forbidden"})
        )
    tab.open(*told_once)
    tab.says("You may not read the XComs of this DAG")
    tab.says("You may not read the logs of this DAG.")


def test_an_airflow_that_does_not_answer_is_asked_again(open_tab, told_once):
    tab = open_tab()
    tab.page.route("**/taskInstances/train", lambda route: route.abort())
    tab.open(*told_once)
    tab.says("Airflow does not answer; trying again in some seconds")
    tab.page.unroute("**/taskInstances/train")
    tab.badge().get_by_text("Trained").wait_for()


def test_a_log_that_cannot_be_read_is_asked_for_again(open_tab, told_once):
    tab = open_tab()
    logs = re.compile("/logs/")
    tab.page.route(logs, lambda route: route.fulfill(status=500, json={"detail": "busy"}))
    tab.open(*told_once)
    tab.says("The log cannot be read now")
    tab.page.unroute(logs)
    expect(tab.root.locator(".jt-log")).to_contain_text("two")


def test_a_fault_of_the_page_is_a_sentence(open_tab, told_once):
    tab = open_tab()
    broken = (
        "export const Facts = () => { throw new Error('on purpose') }; export const Model = Facts, LastLines = Facts;"
    )
    tab.page.route("**/facts.js", lambda route: route.fulfill(body=broken, content_type="text/javascript"))
    tab.open(*told_once)
    expect(tab.badge()).to_have_text("Not shown")
    tab.says("on purpose")
    expect(tab.root.get_by_role("button", name="Try again")).to_be_visible()


def let_minutes_pass(tab) -> None:
    """Two minutes for the page; what it asks in them has the time of twelve answers to be asked."""
    for _ in range(12):
        tab.page.clock.run_for(10_000)
        tab.page.evaluate("fetch('/api/v2/monitor/health').then((answer) => answer.text())")


def test_nothing_is_asked_after_the_end_or_while_hidden(open_tab, told_once):
    tab = open_tab()
    tab.page.clock.install()
    asked: list[str] = []
    tab.open(*told_once)
    tab.page.on("request", lambda request: asked.append(request.url) if "xcomEntries" in request.url else None)
    let_minutes_pass(tab)
    assert not asked
    tab.page.route(
        "**/taskInstances/train", lambda route: route.fulfill(json=route.fetch().json() | {"state": "deferred"})
    )
    tab.page.reload()
    wait_for("it polls", lambda: tab.page.clock.run_for(3_000) or len(asked) > 2, 30)
    tab.page.evaluate("Object.defineProperty(document, 'hidden', {value: true})")

    def quiet() -> bool:
        asked.clear()
        let_minutes_pass(tab)
        return not asked

    # Only the look that was under way may still ask; a tab that went on would ask in every two minutes.
    wait_for("the hidden tab asks nothing", quiet, 60)


def test_the_curve_is_read_by_keyboard_and_by_pointer(open_tab, told_once):
    tab = open_tab().open(*told_once)
    plot = tab.chart("loss").get_by_role("slider")
    plot.focus()
    tab.page.keyboard.press("Home")
    expect(plot).to_have_attribute("aria-valuetext", re.compile(r"^step 1, loss [\d.]+, val_loss [\d.]+$"))
    tab.page.keyboard.press("ArrowRight")
    expect(plot).to_have_attribute("aria-valuetext", re.compile("^step 2,"))
    tab.page.keyboard.press("PageUp")
    expect(tab.chart("loss").locator(".jt-tip")).to_contain_text("step 12")
    tab.page.keyboard.press("Escape")
    expect(tab.chart("loss").locator(".jt-tip")).to_have_count(0)
    tab.page.keyboard.press("Tab")
    tab.page.keyboard.press("Enter")
    expect(tab.chart("loss").get_by_role("row")).to_have_count(501)
    box = plot.bounding_box()
    tab.page.mouse.move(box["x"] + box["width"] - 14, box["y"] + 60)
    expect(tab.chart("loss").locator(".jt-tip")).to_contain_text("step 500")
    line = tab.chart("loss").locator(".jt-line path").last
    before = line.get_attribute("d")
    tab.root.get_by_role("switch", name="Log scale").press("Space")
    expect(line).not_to_have_attribute("d", before)


MOVES = """async (plot) => {
    const box = plot.getBoundingClientRect(), times = [[], []];
    for (let index = 0; index < 122; index += 1) {
        const began = performance.now(), moves = index % 2;
        const at = {bubbles: true, clientX: box.x + 60 + index * 2, clientY: box.y + 50};
        if (moves) plot.dispatchEvent(new PointerEvent("pointermove", at));
        await new Promise(requestAnimationFrame);
        times[moves].push(performance.now() - began);
    }
    return times.map((each) => each.sort((one, other) => one - other)[30]);
}"""
"""Medians of the milliseconds to the next picture, each second time after a move of the pointer."""


def test_many_points_stay_smooth(open_tab, told):
    metrics = {f"metric {index}": curve(500) for index in range(32)}
    tab = open_tab().open(*told(xcoms=training(**metrics)))
    expect(tab.root.get_by_role("article")).to_have_count(24)
    plot = tab.chart("metric 0").get_by_role("slider")
    still, moved = plot.evaluate(MOVES)
    assert moved < 3 * still, f"{moved} ms after a move, {still} ms without one"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_is_accessible_and_fits(open_tab, told_once, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    tab = open_tab(width, 800, color_scheme=scheme).open(*told_once)
    tab.chart("loss").get_by_text(re.compile("^Values")).click()
    tab.chart("loss").get_by_role("slider").focus()
    found = axe.Axe().run(tab.page, context=".jobapi-training").response["violations"]
    told = [(each["id"], each["help"], [node["html"][:200] for node in each["nodes"]][:3]) for each in found]
    assert not told
    assert tab.page.evaluate("document.documentElement.classList.contains('dark')") == (scheme == "dark")
    wide = tab.root.evaluate("""(root) => [...root.querySelectorAll('*')]
        .filter((each) => !each.closest('.jt-scroll, .jt-log, .jt-hidden, svg'))
        .filter((each) => each.getBoundingClientRect().right > root.getBoundingClientRect().right + 1)
        .map((each) => each.outerHTML.slice(0, 120))""")
    assert not wide
    seen = tab.root.bounding_box()
    assert seen["x"] >= 0
    assert seen["x"] + seen["width"] <= width, "one has to scroll sideways to see it"
