# SPDX-License-Identifier: Apache-2.0
"""A linear classifier."""

from pathlib import Path

import numpy as np

from .rows import PIXELS


class Softmax:
    """Guesses the class whose weights fit the pixels best."""

    def __init__(self, classes: int, seed: int) -> None:
        self.weights = np.random.default_rng(seed).normal(0, 0.01, (PIXELS + 1, classes))

    def step(self, pixels, digits, rate: float) -> float:
        """Go down the gradient once over all rows; returns the loss before it."""
        guesses = self.probabilities(pixels)
        chosen = guesses[np.arange(len(digits)), digits]
        guesses[np.arange(len(digits)), digits] -= 1
        self.weights -= rate * _with_one(pixels).T @ guesses / len(digits)
        return float(-np.log(chosen).mean())

    def probabilities(self, pixels):
        """How likely each class is, for each row."""
        scores = _with_one(pixels) @ self.weights
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return scores / scores.sum(axis=1, keepdims=True)

    def accuracy(self, pixels, digits) -> float:
        """The part of the rows that is guessed right."""
        return float((self.probabilities(pixels).argmax(axis=1) == digits).mean())

    def save(self, file: Path) -> None:
        """Write the weights."""
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, weights=self.weights)


def _with_one(pixels):
    return np.hstack([pixels, np.ones((len(pixels), 1))])
