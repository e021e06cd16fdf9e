"""Features out of a real ONNX Runtime session."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import needs

from powfast.errors import InvalidInput
from powfast.leakage import features

onnx, runtime = needs("onnx", "onnxruntime")


@pytest.fixture(scope="module")
def session():
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(4, 6)), "v": rng.normal(size=(6, 3))}
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["wide"]),
            helper.make_node("Relu", ["wide"], ["hidden"]),
            helper.make_node("MatMul", ["hidden", "v"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"]),
        ],
        "net",
        [helper.make_tensor_value_info("x", kind, [None, 4])],
        [
            helper.make_tensor_value_info("hidden", kind, [None, 6]),
            helper.make_tensor_value_info("probabilities", kind, [None, 3]),
        ],
        [onnx.numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session, weights


def test_named_outputs(session):
    session, weights = session
    x = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    got, answer = features.from_onnx(session, {"x": x}, ["hidden"], "probabilities")
    hidden = np.maximum(x @ weights["w"], 0)
    logits = hidden @ weights["v"]
    np.testing.assert_allclose(got, hidden, rtol=1e-4, atol=1e-5)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-6)
    for layers, name in ((["wide"], "probabilities"), (["hidden"], "logits"), ([], "hidden")):
        with pytest.raises(InvalidInput):
            features.from_onnx(session, {"x": x}, layers, name)
