"""Standardised features, the same way for everything that is fitted on them."""

from __future__ import annotations

import numpy as np

from powfast.leakage.arrays import Floats


def mean_and_spread(data: Floats) -> tuple[Floats, Floats]:
    """Return (d,) means and standard deviations of (n, d); constant columns get spread 1."""
    mean, spread = data.mean(axis=0), data.std(axis=0)
    varies = spread > 1e-12 * (1.0 + np.abs(mean))
    return mean, np.where(varies, spread, 1.0)
