"""Conversions against Google's dp-accounting, on Gaussian events."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import needs

from powfast.leakage import gnmax

dp, pld, rdp_accountant = needs("dp_accounting", "dp_accounting.pld", "dp_accounting.rdp")


@pytest.mark.parametrize("noise, count", [(0.8, 1), (0.8, 30), (2.0, 1), (2.0, 300), (10.0, 1000)])
@pytest.mark.parametrize("delta", [1e-5, 1e-9])
def test_gaussian_events(noise, count, delta):
    event = dp.SelfComposedDpEvent(dp.GaussianDpEvent(noise), count)
    composed = count * gnmax.ORDERS / (2 * noise**2)
    ours = max(0.0, (composed + gnmax.conversion("eps", delta)[1]).min())
    classic = (composed + np.log(1 / delta) / (gnmax.ORDERS - 1)).min()

    accountant = rdp_accountant.RdpAccountant(list(gnmax.ORDERS))
    accountant.compose(event)
    theirs = accountant.get_epsilon(delta)
    assert ours == pytest.approx(theirs, rel=1e-9)

    loss = pld.PLDAccountant(value_discretization_interval=1e-3)
    loss.compose(event)
    assert loss.get_epsilon(delta) <= ours * (1 + 1e-2)
    assert ours <= classic
