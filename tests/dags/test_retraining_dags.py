# SPDX-License-Identifier: Apache-2.0
"""The DAGs that close the loop, run on the real server, with a model that needs no TensorFlow."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from airflow.sdk.definitions.deadline import AsyncCallback

TINY = (Path(__file__).parents[1] / "harness" / "dags" / "scripts" / "tiny_model.py").read_text()
LIGHT = {"script": TINY, "requirements": ""}


@pytest.fixture
def place(tmp_path):
    rows = tmp_path / "rows"
    rows.mkdir()
    (rows / "a.csv").write_text("".join(f"{number},{number % 7}\n" for number in range(400)))
    return {"rows": rows.as_uri(), "models": (tmp_path / "models").as_uri()}


@pytest.fixture
def retrain(inline, connected, place):
    def run(skill: int, **more):
        return inline.run("retrain_on_new_data", {**LIGHT, **place, "env": {"SKILL": skill}, **more})

    return run


def versions(tmp_path, folder="serving") -> list[Path]:
    return sorted(tmp_path.glob(f"models/{folder}/*"), key=lambda version: int(version.name))


def evaluation(model: Path) -> dict:
    return json.loads((model / "assets.extra" / "evaluation.json").read_text())


def test_only_a_better_model_goes_into_service(retrain, tmp_path):
    first = retrain(50)
    assert first.states == dict.fromkeys(("files", "train", "fetch", "compare", "promote"), "success") | {
        "approve": "skipped"
    }
    (old,) = versions(tmp_path)
    assert evaluation(old)["in_service"] is None

    worse = retrain(20)
    assert (worse.state, worse.states["promote"]) == ("success", "skipped")
    assert versions(tmp_path) == [old]
    measured = evaluation(versions(tmp_path, "candidates")[-1])
    assert measured["candidate"] < measured["in_service"] == evaluation(old)["candidate"]

    equal = retrain(50)
    assert equal.states["promote"] == "skipped"

    (tmp_path / "rows" / "b.csv").write_text("".join(f"{number},{number % 5}\n" for number in range(400, 800)))
    better = retrain(100)
    assert better.states["promote"] == "success"
    assert versions(tmp_path)[0] == old
    new = versions(tmp_path)[-1]
    assert evaluation(new)["candidate"] > evaluation(new)["in_service"]
    assert better.xcom("promote") == new.as_uri()
    assert len(versions(tmp_path)) == 2


@pytest.mark.slow
def test_its_own_script_measures_both_models_on_the_same_rows(inline, connected, place, tmp_path):
    chance = random.Random(1)  # noqa: S311 -- for rows, not for secrets
    prototypes = [[chance.randrange(17) for _ in range(64)] for _ in range(10)]
    with (tmp_path / "rows" / "a.csv").open("w") as rows:
        for _ in range(1_500):
            digit = chance.randrange(10)
            pixels = [min(16, max(0, pixel + chance.randint(-6, 6))) for pixel in prototypes[digit]]
            print(*pixels, digit, sep=",", file=rows)
    measured = []
    for epochs, promoted in ((15, "success"), (1, "skipped")):
        run = inline.run("retrain_on_new_data", {**place, "env": {"EPOCHS": epochs, "WIDTH": 32}})
        assert run.states["promote"] == promoted
        measured.append(run.xcom("train")["metrics"])
    assert len(versions(tmp_path)) == 1
    first, second = measured
    assert second["candidate_accuracy"] < second["in_service_accuracy"] == first["candidate_accuracy"]
    assert "in_service_accuracy" not in first
    assert second["in_service_accuracy"] > 0.8


PICKLED = """
import os, pickle, sys
from pathlib import Path

skill = float(os.environ["SKILL"])
folder = Path(os.environ["MODEL_DIR"])
(folder / "model.pkl").write_bytes(pickle.dumps(skill))
(folder / "labels").mkdir()
(folder / "labels" / "words.txt").write_text("a")
print(f"candidate_accuracy={skill / 100:.4f}")
if Path("in_service").is_dir():
    assert Path("in_service/labels/words.txt").read_text() == "a"
    print(f"in_service_accuracy={pickle.loads(Path('in_service/model.pkl').read_bytes()) / 100:.4f}")
"""


def test_a_model_of_any_kind_is_promoted(retrain, tmp_path):
    first = retrain(50, script=PICKLED)
    (old,) = versions(tmp_path)
    assert sorted(path.relative_to(old).as_posix() for path in old.rglob("*") if path.is_file()) == [
        "labels/words.txt",
        "model.pkl",
    ]
    result = first.xcom("train")
    assert (result["model"], result["model_kind"], result["model_unsafe"]) == (None, "pickle", True)
    told = first.xcom("promote", "training_result")
    assert (told["model"], told["model_kind"], told["model_unsafe"]) == (old.as_uri(), "pickle", True)
    worse = retrain(20, script=PICKLED)
    assert (worse.state, worse.states["promote"]) == ("success", "skipped")
    assert worse.xcom("train")["metrics"] == {"candidate_accuracy": 0.2, "in_service_accuracy": 0.5}
    better = retrain(60, script=PICKLED)
    assert better.xcom("promote") == versions(tmp_path)[-1].as_uri() != old.as_uri()


def test_a_script_that_measures_nothing_promotes_nothing(retrain, tmp_path, capfd):
    run = retrain(50, script=PICKLED.replace("candidate_accuracy", "candidate"))
    assert (run.states["compare"], run.states["promote"]) == ("failed", "upstream_failed")
    assert "let the script print candidate_accuracy=" in "".join(capfd.readouterr())
    assert versions(tmp_path) == []


def test_a_promotion_that_is_repeated_changes_nothing(retrain, tmp_path):
    from airflow_provider_jobapi.operators.model import FetchSavedModelOperator

    run = retrain(50)
    (model,) = versions(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in model.rglob("*")}
    again = FetchSavedModelOperator(
        task_id="again", job=run.xcom("train"), destination=(tmp_path / "models" / "serving").as_uri()
    )
    assert again.execute({}) == model.as_uri()
    assert {path: path.stat().st_mtime_ns for path in model.rglob("*")} == before
    assert versions(tmp_path) == [model]


KILLED = """
import os, signal, sys
from pathlib import Path
from airflow_provider_jobapi.operators.model import FetchSavedModelOperator

rename = Path.rename

def or_die(path, target):
    if Path(target).parent.name == "serving":
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(path, target)

Path.rename = or_die
FetchSavedModelOperator(task_id="promote", job=sys.argv[1], destination=sys.argv[2]).execute({})
"""


def test_a_promotion_that_is_killed_is_repeated(retrain, tmp_path):
    from airflow_provider_jobapi.operators.model import FetchSavedModelOperator

    better = retrain(50).xcom("train")
    (old,) = versions(tmp_path)
    serving = tmp_path / "other" / "serving"
    shutil.copytree(old, serving / "1")
    killed = subprocess.run([sys.executable, "-c", KILLED, better["job_id"], str(serving)], check=False)
    assert killed.returncode == -signal.SIGKILL
    # TensorFlow Serving looks at names that are numbers.
    assert [path.name for path in serving.glob("[0-9]*")] == ["1"]
    again = FetchSavedModelOperator(task_id="promote", job=better, destination=serving.as_uri())
    assert again.execute({}) == (serving / old.name).as_uri()
    assert sorted(path.name for path in serving.iterdir()) == ["1", old.name]
    assert evaluation(serving / old.name) == evaluation(old)


def test_a_reader_sees_the_whole_model_or_none(retrain, tmp_path):
    expected = {"saved_model.pb", "variables/variables.index", "assets.extra/evaluation.json"}
    seen: set[frozenset[str]] = set()
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            for version in tmp_path.glob("models/serving/[0-9]*"):
                seen.add(
                    frozenset(path.relative_to(version).as_posix() for path in version.rglob("*") if path.is_file())
                )

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert retrain(50).states["promote"] == "success"
    finally:
        over.set()
        reader.join()
    assert seen == {frozenset(expected)}


def test_a_training_that_fails_leaves_the_old_model(retrain, tmp_path):
    retrain(50)
    (old,) = versions(tmp_path)
    failed = retrain(0)
    assert (failed.state, failed.states["train"], failed.states["promote"]) == ("failed", "failed", "upstream_failed")
    assert versions(tmp_path) == [old]


def test_the_best_of_a_sweep_wins_though_one_of_it_fails(inline, connected, place, tmp_path):
    run = inline.run("sweep", {**LIGHT, **place, "widths": [1], "epochs": [30, 0, 80, 50]})
    states = [run.states["train", index] for index in range(4)]
    assert states == ["success", "failed", "success", "success"]
    assert run.states["best"] == run.states["keep"] == "success"
    (kept,) = versions(tmp_path, "best")
    assert run.xcom("best") == run.xcom("train", map_index=2)
    candidates = [evaluation(path)["candidate"] for path in tmp_path.glob("models/candidates/*/*/*")]
    assert len(candidates) == 3
    assert evaluation(kept)["candidate"] == max(candidates)


def test_a_sweep_of_which_nothing_is_left_keeps_nothing(inline, connected, place, tmp_path):
    run = inline.run("sweep", {**LIGHT, **place, "script": "raise SystemExit(1)", "widths": [1], "epochs": [1]})
    assert (run.state, run.states["best"], run.states["keep"]) == ("failed", "upstream_failed", "upstream_failed")
    assert not list(tmp_path.glob("models/best/*"))


def test_retrain_weekly_has_a_deadline_and_partitions(inline):
    dag = inline.dags["retrain_weekly"]
    (deadline,) = dag.deadline if isinstance(dag.deadline, list) else [dag.deadline]
    assert isinstance(deadline.callback, AsyncCallback)
    assert deadline.callback.path == "airflow_provider_jobapi.alerts.slow_training"
    try:
        from airflow.sdk import CronPartitionTimetable
    except ImportError:
        return
    assert isinstance(dag.timetable, CronPartitionTimetable)
