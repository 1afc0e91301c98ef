# SPDX-License-Identifier: Apache-2.0
"""A torch of numpy, for tests that train with the example of PyTorch where PyTorch is too heavy.

It is what the example uses and no more: layers, gradients, Adam, and files that are zip archives of a pickle, as
``torch.save`` writes them. A job has it as a wheel named torch, under a Python that has numpy.
"""

from __future__ import annotations

import pickle
import zipfile
from contextlib import nullcontext as no_grad
from types import SimpleNamespace

import numpy as np

__all__ = ["load", "manual_seed", "nn", "no_grad", "optim", "randperm", "save", "tensor"]

float32, long = "float32", "int64"
_chance = np.random.RandomState()


class Tensor(np.ndarray):
    def split(self, size):
        return [self[start : start + size] for start in range(0, len(self), size)]

    def nonzero(self):
        return np.argwhere(self.view(np.ndarray)).view(Tensor)

    def float(self):
        return self.astype(float32)

    def backward(self):
        self.gradients()


def tensor(values, dtype=None):
    return np.array(values, dtype=dtype).view(Tensor)


def manual_seed(seed):
    _chance.seed(seed)


def randperm(count):
    return _chance.permutation(count).view(Tensor)


def save(state, file):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(state))


def load(file):
    with zipfile.ZipFile(file) as archive:
        return pickle.loads(archive.read("archive/data.pkl"))  # noqa: S301 -- the job's own checkpoint


class Linear:
    def __init__(self, inputs, outputs):
        bound = inputs**-0.5
        self.weight, self.bias = (
            _chance.uniform(-bound, bound, shape).astype(float32).view(Tensor) for shape in ((outputs, inputs), outputs)
        )

    def __call__(self, x):
        self.x = x
        return x @ self.weight.T + self.bias

    def backward(self, slope):
        self.weight.grad, self.bias.grad = slope.T @ self.x, slope.sum(0)
        return slope @ self.weight


class ReLU:
    def __call__(self, x):
        self.positive = x > 0
        return x * self.positive

    def backward(self, slope):
        return slope * self.positive


class Sequential:
    def __init__(self, *layers):
        self.layers = layers

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        x.net = self
        return x

    def backward(self, slope):
        for layer in reversed(self.layers):
            slope = layer.backward(slope)

    def state_dict(self):
        return {
            f"{number}.{name}": getattr(layer, name)
            for number, layer in enumerate(self.layers)
            for name in ("weight", "bias")
            if hasattr(layer, name)
        }

    def load_state_dict(self, state):
        for name, parameter in self.state_dict().items():
            parameter[...] = state[name]

    def parameters(self):
        return self.state_dict().values()

    def train(self):
        pass

    eval = train


def cross_entropy(scores, targets):
    shifted = scores - scores.max(1, keepdims=True)
    logarithms = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    right = np.eye(scores.shape[1], dtype=float32)[targets]
    loss = tensor(-(logarithms * right).sum() / len(scores))
    loss.gradients = lambda: scores.net.backward((np.exp(logarithms) - right) / len(scores))
    return loss


class Adam:
    def __init__(self, parameters, lr):
        self.parameters, self.lr, self.steps = [*parameters], lr, 0
        self.means, self.squares = ([np.zeros_like(each) for each in self.parameters] for _ in range(2))

    def zero_grad(self):
        pass

    def step(self):
        self.steps += 1
        for number, parameter in enumerate(self.parameters):
            self.means[number] = 0.9 * self.means[number] + 0.1 * parameter.grad
            self.squares[number] = 0.999 * self.squares[number] + 0.001 * parameter.grad**2
            mean, square = self.means[number] / (1 - 0.9**self.steps), self.squares[number] / (1 - 0.999**self.steps)
            parameter[...] = parameter - self.lr * mean / (np.sqrt(square) + 1e-8)

    def state_dict(self):
        return {"steps": self.steps, "means": self.means, "squares": self.squares}

    def load_state_dict(self, state):
        self.steps, self.means, self.squares = state["steps"], state["means"], state["squares"]


nn = SimpleNamespace(
    Linear=Linear, ReLU=ReLU, Sequential=Sequential, functional=SimpleNamespace(cross_entropy=cross_entropy)
)
optim = SimpleNamespace(Adam=Adam)
