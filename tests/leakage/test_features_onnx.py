"""Features out of real ONNX models: inner tensors by name, and means over the right axis."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from conftest import missing, needs

from powfast.cli import main
from powfast.errors import InvalidInput
from powfast.leakage import features
from powfast.leakage.layers import onnx_layers

onnx, runtime = needs("onnx", "onnxruntime")
helper, FLOAT = onnx.helper, onnx.TensorProto.FLOAT
RNG = np.random.default_rng(0)


def model_of(nodes, inputs, outputs, weights):
    graph = helper.make_graph(
        [helper.make_node(*node[:3], **(node[3] if len(node) > 3 else {})) for node in nodes],
        "net",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in outputs.items()],
        [onnx.numpy_helper.from_array(np.asarray(w), n) for n, w in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


WEIGHTS = {"w": normal(4, 6), "v": normal(6, 3)}


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """x (n, 4) -> wide -> hidden (n, 6) -> logits -> probabilities (n, 3); hidden is an output."""
    model = model_of(
        [
            ("MatMul", ["x", "w"], ["wide"]),
            ("Relu", ["wide"], ["hidden"]),
            ("MatMul", ["hidden", "v"], ["logits"]),
            ("Softmax", ["logits"], ["probabilities"]),
        ],
        {"x": [None, 4]},
        {"hidden": [None, 6], "probabilities": [None, 3]},
        WEIGHTS,
    )
    path = tmp_path_factory.mktemp("onnx") / "dense.onnx"
    onnx.save(model, path)
    return path


def expected(x):
    wide = x @ WEIGHTS["w"]
    hidden = np.maximum(wide, 0)
    logits = np.exp(hidden @ WEIGHTS["v"])
    return wide, hidden, logits / logits.sum(axis=1, keepdims=True)


def test_named_outputs_of_a_session(dense):
    session = runtime.InferenceSession(dense, providers=["CPUExecutionProvider"])
    x = normal(5, 4)
    got, answer = features.from_onnx(session, {"x": x}, ["hidden"], "probabilities")
    _, hidden, probabilities = expected(x)
    np.testing.assert_allclose(got, hidden, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(answer, probabilities, rtol=1e-4, atol=1e-6)
    for layers, name in ((["wide"], "probabilities"), (["hidden"], "logits"), ([], "hidden")):
        with pytest.raises(InvalidInput):
            features.from_onnx(session, {"x": x}, layers, name)


def test_inner_tensors_of_a_file(dense):
    x = normal(5, 4)
    before = dense.read_bytes()
    got, answer = features.from_onnx(dense, {"x": x}, ["wide", "hidden"], "probabilities")
    wide, hidden, probabilities = expected(x)
    np.testing.assert_allclose(got, np.hstack([wide, hidden]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(answer, probabilities, rtol=1e-4, atol=1e-6)
    assert dense.read_bytes() == before, "the model stays as it is"
    for layers in (["nothing"], ["w"], ["x"], [], "wide"):
        with pytest.raises(InvalidInput):
            features.from_onnx(dense, {"x": x}, layers, "probabilities")


def test_a_changed_file_is_read_again(dense, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(dense.read_bytes())
    x = normal(2, 4)
    first, _ = features.from_onnx(str(path), {"x": x}, ["wide"], "probabilities")
    model = onnx.load(dense)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(2 * WEIGHTS["w"], "w"))
    onnx.save(model, path)
    again, _ = features.from_onnx(str(path), {"x": x}, ["wide"], "probabilities")
    np.testing.assert_allclose(again, 2 * first, rtol=1e-5)


def test_weights_in_a_file_of_their_own(dense, tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(
        onnx.load(dense), path, save_as_external_data=True, location="weights", size_threshold=0
    )
    x = normal(2, 4)
    got, _ = features.from_onnx(path, {"x": x}, ["wide"], "probabilities")
    np.testing.assert_allclose(got, x @ WEIGHTS["w"], rtol=1e-4, atol=1e-5)


MAPS = {"k": normal(5, 3, 3, 3), "w": normal(5, 2), "b": normal(5, 1, 1), "o": normal(2)}


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """A convolution, then its map turned over as in models that come from TensorFlow."""
    axes = np.array([1, 2])
    model = model_of(
        [
            ("Conv", ["x", "k"], ["conv"]),
            ("Add", ["conv", "b"], ["biased"]),
            ("Transpose", ["biased"], ["turned"], {"perm": [0, 2, 3, 1]}),
            ("Relu", ["turned"], ["last"]),
            ("MatMul", ["last", "w"], ["tokens"]),
            ("Add", ["tokens", "o"], ["shifted"]),
            ("ReduceMean", ["shifted"], ["answer"], {"axes": axes.tolist(), "keepdims": 0}),
        ],
        {"x": ["n", 3, 8, 6]},
        {"answer": ["n", 2]},
        MAPS,
    )
    path = tmp_path_factory.mktemp("maps") / "maps.onnx"
    onnx.save(model, path)
    return path


def test_maps_are_averaged_over_all_but_their_channels(maps):
    torch = needs("torch")
    x = normal(4, 3, 8, 6)
    conv = torch.nn.functional.conv2d(torch.tensor(x), torch.tensor(MAPS["k"])).numpy()
    biased = conv + MAPS["b"]
    last = np.maximum(biased, 0).transpose(0, 2, 3, 1)
    tokens = last @ MAPS["w"]
    means = {
        "conv": conv.mean(axis=(2, 3)),
        "turned": biased.mean(axis=(2, 3)),
        "last": last.mean(axis=(1, 2)),
        "shifted": (tokens + MAPS["o"]).mean(axis=(1, 2)),
    }
    for name, wanted in means.items():
        got, _ = features.from_onnx(maps, {"x": x}, [name], "answer")
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-5, err_msg=name)
    both, _ = features.from_onnx(maps, {"x": x}, ["conv", "last"], "answer")
    np.testing.assert_allclose(both, np.hstack([means["conv"], means["last"]]), atol=1e-5)
    got, _ = features.from_onnx(maps, {"x": x}, ["last"], "answer", channels={"last": 1})
    np.testing.assert_allclose(got, last.mean(axis=(2, 3)), rtol=1e-3, atol=1e-5)
    for axis in (0, 4, -4):
        with pytest.raises(InvalidInput, match="channels"):
            features.from_onnx(maps, {"x": x}, ["last"], "answer", channels={"last": axis})


def test_the_list_of_layers(maps, dense, capsys):
    found = {layer.name: layer for layer in onnx_layers(maps)}
    assert list(found) == ["conv", "biased", "turned", "last", "tokens", "shifted", "answer"]
    assert found["last"] == ("last", (None, 6, 4, 5), "Relu", 3)
    assert found["conv"] == ("conv", (None, 5, 6, 4), "Conv", 1)
    assert found["answer"] == ("answer", (None, 2), "ReduceMean", None)
    assert main(["leakage", "layers", str(dense), "--json"]) == 0
    names = [layer["name"] for layer in json.loads(capsys.readouterr().out)["layers"]]
    assert names == ["wide", "hidden", "logits", "probabilities"]
    assert main(["leakage", "layers", str(maps)]) == 0
    assert "? x 6 x 4 x 5" in capsys.readouterr().out


def test_tensors_without_a_row_per_query_are_said(tmp_path):
    model = model_of(
        [
            ("Transpose", ["x"], ["turned"], {"perm": [1, 0]}),
            ("Relu", ["x"], ["answer"]),
        ],
        {"x": ["n", 3]},
        {"answer": ["n", 3]},
        {},
    )
    path = tmp_path / "turned.onnx"
    onnx.save(model, path)
    with pytest.raises(InvalidInput, match="queries"):
        features.from_onnx(path, {"x": normal(5, 3)}, ["turned"], "answer")


@pytest.mark.parametrize("content", [None, b"", b"no model", b"\x00" * 100])
def test_what_is_no_model(tmp_path, content, capsys):
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInput):
        features.from_onnx(path, {}, ["x"], "y")
    assert main(["leakage", "layers", str(path)]) == 2
    assert str(path) in capsys.readouterr().err


def shipped(package, pattern):
    """Find a model in an installed package, which need not be importable."""
    spec = find_spec(package)
    if spec is None:
        missing(f"{package} is not installed")
    return next(Path(spec.origin).parent.glob(pattern))


def test_models_that_ship_in_wheels():
    """Exported by others, from PyTorch, Paddle and JAX: every axis of channels is the one meant."""
    model = shipped("magika", "models/*/model.onnx")
    found = {layer.name.partition("MagikaV2/")[2]: layer for layer in onnx_layers(model)}
    assert found["Dense_0/AddV2:0"].channels == 2  # (n, positions, channels)
    assert found["Conv_0/AddV2:0"].channels == 1  # (n, channels, positions)
    assert found["LayerNorm_1/AddV2_1:0"].shape == (None, 512)
    model = shipped("rapidocr_onnxruntime", "models/*_rec_*.onnx")
    reader = {layer.name: layer for layer in onnx_layers(model)}
    assert reader["softmax_11.tmp_0"].channels == 2  # (n, columns, characters)
    assert all(layer.channels == 1 for layer in reader.values() if layer.kind == "Conv")
