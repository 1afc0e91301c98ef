# SPDX-License-Identifier: Apache-2.0
"""Learns to read handwritten digits with a forest of trees, and saves it with joblib."""

import argparse
import os
import sys
from pathlib import Path

import joblib
import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

parser = argparse.ArgumentParser()
parser.add_argument("--trees", type=int, default=100)
arguments = parser.parse_args()

lines = [line for file in sorted(Path("rows").glob("*.csv")) for line in file.read_text().split()]
if not lines:
    sys.exit(
        "No rows/*.csv is here: give files of rows in data_input, such as {'rows/digits.csv': Path('digits.csv')}."
    )
rows = np.loadtxt(lines, delimiter=",", ndmin=2)
training, held_out = train_test_split(rows, test_size=0.2, random_state=1)
forest = RandomForestClassifier(arguments.trees, random_state=1).fit(training[:, :64], training[:, 64])
print(f"{len(rows)} rows, {len(held_out)} of them held out")
print(f"accuracy={forest.score(held_out[:, :64], held_out[:, 64]):.4f}")
folder = Path(os.environ["MODEL_DIR"])
folder.mkdir(exist_ok=True)
joblib.dump(forest, folder / "trees.joblib")
