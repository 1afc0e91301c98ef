# SPDX-License-Identifier: Apache-2.0
"""Learns to read handwritten digits with XGBoost, and continues after the last tree that was saved."""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import xgboost

parser = argparse.ArgumentParser()
parser.add_argument("--rounds", type=int, default=30)
parser.add_argument("--depth", type=int, default=4)
arguments = parser.parse_args()

lines = [line for file in sorted(Path("rows").glob("*.csv")) for line in file.read_text().split()]
if not lines:
    sys.exit(
        "No rows/*.csv is here: give files of rows in data_input, such as {'rows/digits.csv': Path('digits.csv')}."
    )
rows = np.loadtxt(lines, delimiter=",", ndmin=2)
held_out = np.random.default_rng(1).random(len(rows)) < 0.2
training, validation = (xgboost.DMatrix(part[:, :64], label=part[:, 64]) for part in (rows[~held_out], rows[held_out]))
print(f"{len(rows)} rows, {held_out.sum()} of them held out")

# Both folders are given by the job service; without it, the script runs on your machine as well.
checkpoint = Path(os.environ.get("CHECKPOINT_DIR", "."), "booster.ubj")
models = Path(os.environ.get("MODEL_DIR", "model"))


class Report(xgboost.callback.TrainingCallback):
    """Prints a line a round and saves the trees so far."""

    def after_iteration(self, model, epoch, evals_log):
        values = " ".join(
            f"{name}-{metric}:{numbers[-1]:.5f}"
            for name, metrics in evals_log.items()
            for metric, numbers in metrics.items()
        )
        print(f"[{first + epoch}] {values}", flush=True)
        # Under another name first, so that what has this one is whole.
        model.save_model(checkpoint.with_name("booster.tmp.ubj"))
        checkpoint.with_name("booster.tmp.ubj").replace(checkpoint)


booster, first = None, 0
if checkpoint.exists():
    booster = xgboost.Booster(model_file=checkpoint)
    first = booster.num_boosted_rounds()
    print(f"Continues after {first} rounds.")
booster = xgboost.train(
    {
        "objective": "multi:softprob",
        "num_class": 10,
        "max_depth": arguments.depth,
        "eval_metric": ["mlogloss", "merror"],
    },
    training,
    max(0, arguments.rounds - first),
    evals=[(training, "train"), (validation, "validation")],
    xgb_model=booster,
    verbose_eval=False,  # Report prints the rounds, counted from the first job on
    callbacks=[Report()],
)
models.mkdir(exist_ok=True)
booster.save_model(models / "digits.ubj")
