"""Features out of a real PyTorch module, which stays untouched."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import needs

from powfast.errors import InvalidInput
from powfast.leakage import features

torch = needs("torch")


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 36, 6),
        nn.ReLU(),
        nn.Linear(6, 3),
    )


def test_named_layers_pooled_and_side_by_side(network):
    x = torch.randn(5, 1, 8, 8)
    got, answer = features.from_torch(network, x, ["1", "4"])
    with torch.no_grad():
        maps, hidden = network[:2](x), network[:5](x)
        expected = torch.hstack([maps.mean(dim=(2, 3)), hidden]).numpy()
        np.testing.assert_allclose(answer, network(x))
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert got.dtype == np.float64 and not answer.requires_grad
    assert not any(module._forward_hooks for module in network.modules()), "hooks are gone"
    assert network.training and all(p.grad is None for p in network.parameters())


def test_hooks_are_gone_after_an_error(network):
    with pytest.raises(RuntimeError):
        features.from_torch(network, torch.randn(5, 2, 8, 8), ["4"])
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("layers", [["9"], [], "4"])
def test_unknown_layers_raise(network, layers):
    with pytest.raises(InvalidInput):
        features.from_torch(network, torch.randn(1, 1, 8, 8), layers)


def test_threads_do_not_see_each_other(network):
    inputs = [torch.randn(3, 1, 8, 8) for _ in range(64)]
    alone = [features.from_torch(network, x, ["4"])[0] for x in inputs]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda x: features.from_torch(network, x, ["4"])[0], inputs))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
