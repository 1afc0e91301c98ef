"""A train that averages the body mass index of the patients of all stations that it has visited."""

import csv
import io
import json
import os
import sys
from pathlib import Path
from urllib.request import urlopen

MODEL = Path("/opt/pht_train/model/bmi.json")
BASE = "registry.example.com/trains/bmi:base"


def list_requirements():
    variable = {"type": "environmentVariable", "target": "URL", "name": "PATIENTS_URL"}
    return {"requirements": [{"id": 0, "requirement": variable}], "relations": [{"type": "all", "requirements": [0]}]}


def check_requirements():
    is_set = bool(os.environ.get("PATIENTS_URL", "").strip())
    return {**list_requirements(), "unmet": [] if is_set else [0]}


def print_model_summary():
    model = json.loads(MODEL.read_text())
    mean = model["sum"] / model["patients"] if model["patients"] else None
    return {"content": {"patients": model["patients"], "stations": model["stations"], "mean_bmi": mean}}


def run_algorithm():
    model = json.loads(MODEL.read_text())
    with urlopen(os.environ["PATIENTS_URL"]) as answer:
        rows = list(csv.DictReader(io.StringIO(answer.read().decode())))
    for row in rows:
        model["sum"] += float(row["weight"]) / float(row["height"]) ** 2
    model["patients"] += len(rows)
    model["stations"] += 1
    MODEL.write_text(json.dumps(model))
    print(f"{len(rows)} patients here", flush=True)
    return {
        "state": "success",
        "message": f"{model['patients']} patients so far.",
        "next_train_tag": f"station.{model['stations']}",
        "rebase": {"type": "docker", "from": BASE},
        "export_files": [str(MODEL)],
    }


if __name__ == "__main__":
    commands = (list_requirements, check_requirements, print_model_summary, run_algorithm)
    print(json.dumps({command.__name__: command for command in commands}[sys.argv[1]]()))
