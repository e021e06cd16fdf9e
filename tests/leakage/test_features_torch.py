"""Features out of a real PyTorch module, which stays untouched."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import needs

from powfast.errors import InvalidInput
from powfast.leakage import features
from powfast.leakage.layers import torch_layers

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


def test_tokens_are_averaged_not_their_channels():
    nn = torch.nn
    block = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 6), nn.GELU())
    model = nn.Sequential(nn.Linear(3, 4), block, nn.Conv1d(7, 2, 1))
    x = torch.randn(5, 7, 3)  # 5 queries of 7 tokens
    with torch.no_grad():
        first, tokens, maps = model[:1](x), model[:2](x), model(x)
    for name, expected in (
        ("0", first.mean(dim=1)),
        ("1", tokens.mean(dim=1)),
        ("1.1", block[:2](first).mean(dim=1)),
        ("2", maps.mean(dim=2)),
    ):
        got, _ = features.from_torch(model, x, [name])
        np.testing.assert_allclose(got, expected.detach(), rtol=1e-5, atol=1e-6)
    got, _ = features.from_torch(model, x, ["1.2"], channels={"1.2": -1})
    np.testing.assert_allclose(got, tokens.mean(dim=1), rtol=1e-5, atol=1e-6)
    with pytest.raises(InvalidInput, match="channels"):
        features.from_torch(model, x, ["0"], channels={"0": 3})


def test_the_list_of_layers(network):
    found = {layer.name: layer for layer in torch_layers(network, torch.randn(5, 1, 8, 8))}
    assert list(found) == ["0", "1", "2", "3", "4", "5"]
    assert found["0"] == ("0", (None, 4, 6, 6), "Conv2d", 1)
    assert found["3"] == ("3", (None, 6), "Linear", None)
    assert not any(module._forward_hooks for module in network.modules()), "hooks are gone"
