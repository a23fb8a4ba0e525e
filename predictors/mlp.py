"""The accuracy predictor of the OFA paper: three hidden layers of 400, ReLU, fitted with Adam (needs torch once).

Fitting needs torch; predicting does not. Targets are centred and scaled, so that one learning rate serves all data.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ofa_core.extras import needed_for
from ofa_core.space import Genomes, Space
from predictors.estimator import Floats
from predictors.quadratic import Design, design

__all__ = ["Perceptron", "fit_perceptron"]

WIDTH = 400
EPOCHS = 200
BATCH = 64
FOLDS = 5
CHUNK = 4096


@dataclass(frozen=True)
class Perceptron:
    """A fitted network as arrays.

    Attributes:
        layers: (inputs, outputs) weights and (outputs,) biases, alternating; ReLU between them.
        offset: added to the output.
    """

    layers: tuple[Floats, ...]
    offset: float

    def __call__(self, space: Space, genomes: Genomes) -> Floats:
        """(n,) values of (n, 1 + n_slots) genomes."""
        out = np.empty(len(genomes))
        for start in range(0, len(genomes), CHUNK):
            values = _inputs(design(space, genomes[start : start + CHUNK]))
            for i in range(0, len(self.layers), 2):
                values = values @ self.layers[i] + self.layers[i + 1]
                if i + 2 < len(self.layers):
                    values = np.maximum(values, 0.0)
            out[start : start + CHUNK] = values[:, 0] + self.offset
        return out

    def arrays(self) -> dict[str, Floats]:
        """The parts as arrays, for a file."""
        return {"offset": np.array(self.offset), **{f"layer{i}": layer for i, layer in enumerate(self.layers)}}


def _inputs(rows: Design) -> Floats:
    return np.column_stack([rows.one_hot, rows.log_macs - 19.0, rows.decay])


def fit_perceptron(space: Space, genomes: Genomes, y: Floats, seed: int) -> tuple[Perceptron, Floats]:
    """Fit to n networks; also gives the (n,) errors of five-fold cross-validation.

    Raises:
        MissingPackageError: torch is not installed.
    """
    with needed_for("fitting the accuracy model mlp", extra="torch"):
        import torch  # noqa: F401  (before the inputs are worked out)
    X = _inputs(design(space, genomes))
    fold = np.random.default_rng(seed).permutation(len(y)) % FOLDS
    errors = np.empty(len(y))
    for f in range(FOLDS):
        part = _train(X[fold != f], y[fold != f], seed)
        errors[fold == f] = y[fold == f] - part(space, genomes[fold == f])
    return _train(X, y, seed), errors


def _train(X: Floats, y: Floats, seed: int) -> Perceptron:
    import torch

    offset, scale = float(y.mean()), float(y.std()) or 1.0
    generator = torch.Generator().manual_seed(seed)
    widths = (X.shape[1], WIDTH, WIDTH, WIDTH, 1)
    parameters: list[Any] = []
    for inputs, outputs in pairwise(widths):
        weight = torch.randn(inputs, outputs, generator=generator) * (2.0 / inputs) ** 0.5
        parameters += [weight.requires_grad_(), torch.zeros(outputs, requires_grad=True)]

    def forward(values: torch.Tensor) -> torch.Tensor:
        for i in range(0, len(parameters), 2):
            values = values @ parameters[i] + parameters[i + 1]
            if i + 2 < len(parameters):
                values = torch.relu(values)
        return values[:, 0]

    x = torch.as_tensor(X, dtype=torch.float32)
    targets = torch.as_tensor((y - offset) / scale, dtype=torch.float32)
    optimiser = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=1e-2)
    steps = EPOCHS * -(-len(y) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(EPOCHS):
        order = torch.randperm(len(y), generator=generator)
        for start in range(0, len(y), BATCH):
            rows = order[start : start + BATCH]
            optimiser.zero_grad()
            loss: Any = torch.nn.functional.mse_loss(forward(x[rows]), targets[rows])
            loss.backward()
            optimiser.step()
            schedule.step()
    layers = [parameter.detach().numpy().astype(np.float64) for parameter in parameters]
    layers[-2], layers[-1] = layers[-2] * scale, layers[-1] * scale
    return Perceptron(tuple(layers), offset)
