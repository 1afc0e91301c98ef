# SPDX-License-Identifier: Apache-2.0
"""Train images for tests: one that counts rows of data, and one that does what its arguments say."""

from __future__ import annotations

from tests.harness.containers.engine import Engine

MODEL = "/opt/pht_train/model"

COUNTING = b"""
import json, os, pathlib, sys

MODEL = pathlib.Path("/opt/pht_train/model/count.json")


def known():
    return json.loads(MODEL.read_text()) if MODEL.exists() else {"rows": 0, "stations": []}


def list_requirements():
    wanted = {"type": "environmentVariable", "target": "URL", "name": "PATIENTS_URL"}
    return {"requirements": [{"id": 0, "requirement": wanted}], "relations": [{"type": "all", "requirements": [0]}]}


def check_requirements():
    return list_requirements() | {"unmet": [] if os.environ.get("PATIENTS_URL") else [0]}


def print_model_summary():
    return {"content": f"{known()['rows']} rows of {len(known()['stations'])} stations"}


def run_algorithm():
    model = known()
    rows = sum(len(file.read_text().splitlines()) for file in pathlib.Path(os.environ["DATA_DIR"]).rglob("*.csv"))
    print(f"rows={rows}", flush=True)
    print("half way {", file=sys.stderr, flush=True)
    model = {"rows": model["rows"] + rows, "stations": [*model["stations"], os.environ["PATIENTS_URL"]]}
    MODEL.write_text(json.dumps(model))
    tag = f"station.{len(model['stations'])}"
    return {
        "state": "success", "message": f"counted {rows}", "next_train_tag": tag,
        "rebase": {"type": "docker", "from": "localhost/counting:1"}, "export_files": [str(MODEL)],
    }


print(json.dumps(globals()[sys.argv[1]]()))
"""

SCRIPTED = b"""
import json, os, pathlib, sys, time


def answer(**more):
    print(json.dumps({"state": "success", "message": "", **more}), flush=True)


exec(sys.argv[2] if len(sys.argv) > 2 else "answer()")
"""


def make_trains(engine: Engine) -> None:
    """Make the images ``localhost/counting:1`` and ``localhost/scripted:1``."""
    for name, program in (("counting", COUNTING), ("scripted", SCRIPTED)):
        engine.make_image(
            f"localhost/{name}:1", {"/train.py": program, f"{MODEL}/": b""}, 'ENTRYPOINT ["python", "-u", "/train.py"]'
        )
