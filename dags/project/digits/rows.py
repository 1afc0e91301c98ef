# SPDX-License-Identifier: Apache-2.0
"""Rows of 64 pixels and a digit."""

import sys
from pathlib import Path

import numpy as np

PIXELS = 64


def read_rows(folder: Path, held_out: float):
    """The pixels and the digits of all files: those to train on, and the last part, which is held out."""
    files = sorted(folder.glob("*.csv"))
    if not files:
        sys.exit(f"No *.csv is in {folder}: give files of rows in data_input, such as [Path('rows/*.csv')].")
    rows = np.concatenate([np.loadtxt(file, delimiter=",", ndmin=2) for file in files])
    pixels, digits = rows[:, :PIXELS] / 16, rows[:, PIXELS].astype(int)
    border = int(len(rows) * (1 - held_out))
    print(f"{len(rows)} rows, {len(rows) - border} of them held out")
    return (pixels[:border], digits[:border]), (pixels[border:], digits[border:])
