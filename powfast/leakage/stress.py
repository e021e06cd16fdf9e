"""Inputs that no honest user sends, made of honest ones: whether evidence tells them is a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from powfast.errors import InvalidInput
from powfast.leakage.arrays import Floats
from powfast.leakage.estimator import LeakageEstimator

Model = Callable[[Any], tuple[ArrayLike, ArrayLike]]

_BATCH = 64


def stress_inputs(honest: ArrayLike, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Return three kinds of stress inputs, as many of each as there are honest ones.

    Columns resampled: every value from another query, which leaves each column's distribution.
    Pairs mixed: halfway between two queries. Noise: normal, of each column's mean and spread.
    Integers stay integers within the range that was seen.

    Parameters
    ----------
    honest : (n, ...) numbers, n at least 2

    Raises
    ------
    InvalidInput
        There are fewer than two rows, or they hold something else than numbers.
    """
    data = np.asarray(honest)
    if data.dtype.kind not in "biuf" or data.ndim < 2 or len(data) < 2:
        raise InvalidInput(f"stress inputs need two or more rows of numbers, not {data.shape}")
    rng = np.random.default_rng(seed)
    flat = data.reshape(len(data), -1)
    rows = rng.integers(len(flat), size=flat.shape)
    pairs = 0.5 * flat + 0.5 * flat[rng.permutation(len(flat))]
    noise = flat.mean(axis=0) + flat.std(axis=0) * rng.normal(size=flat.shape)
    kinds = {
        "columns resampled": np.take_along_axis(flat, rows, axis=0),
        "pairs mixed": pairs,
        "noise": noise.clip(flat.min(axis=0), flat.max(axis=0)),
    }
    exact = data.dtype.kind != "f"
    return {
        name: (np.rint(values) if exact else values).astype(data.dtype).reshape(data.shape)
        for name, values in kinds.items()
    }


def stress_evidence(
    estimator: LeakageEstimator, honest: ArrayLike, model: Model | None = None, *, seed: int = 0
) -> dict[str, Floats]:
    """Return the evidence of stress inputs by kind, for `calibrate(..., suspicious=)`.

    Parameters
    ----------
    estimator : LeakageEstimator
        Calibrated.
    honest : (n, ...) numbers
        Honest inputs of `model`, or without one honest features (n, d).
    model : callable, optional
        From a batch of inputs to (features, probabilities): the served model, as the helpers in
        `features` run it. Without it features themselves are disturbed, and the answers are what
        the estimator's teachers vote for them.

    Raises
    ------
    InvalidInput
        As `stress_inputs` and `LeakageEstimator.evidence`.
    """
    run = estimator.imitate if model is None else model
    return {
        name: np.concatenate(
            [
                estimator.evidence(*run(inputs[start : start + _BATCH]))
                for start in range(0, len(inputs), _BATCH)
            ]
        )
        for name, inputs in stress_inputs(honest, seed).items()
    }
