"""From the file of a model that others made, and real inputs alone, to a verdict."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from conftest import missing, needs
from sklearn.datasets import load_digits

from powfast.leakage import LeakageEstimator, stress_evidence
from powfast.leakage.features import from_onnx
from powfast.tariff import calibrate, judge

needs("onnx", "onnxruntime")


def test_an_optical_reader_is_guarded_from_nothing_but_its_file():
    """Which way up is a line of text? Asked of handwritten digits, half of them upside down."""
    spec = find_spec("rapidocr_onnxruntime")
    if spec is None:
        missing("rapidocr_onnxruntime is not installed")
    model = next(Path(spec.origin).parent.glob("models/*_cls_*.onnx"))
    layers, answer = ["elementwise_add_1", "pool2d_10.tmp_0"], "save_infer_model/scale_0.tmp_1"

    def run(inputs):
        batches = np.array_split(inputs, -(-len(inputs) // 50))
        parts = [from_onnx(model, {"x": batch}, layers, answer) for batch in batches]
        return tuple(np.concatenate(part) for part in zip(*parts, strict=True))

    rng = np.random.default_rng(0)
    digits = np.kron(load_digits().images, np.ones((6, 6)))
    lines = np.stack([np.hstack(digits[rng.integers(len(digits), size=4)]) for _ in range(700)])
    lines[::2] = lines[::2, ::-1, ::-1]
    inputs = np.repeat(1.0 - lines[:, None] / 8.0, 3, axis=1).astype(np.float32)
    features, answers = run(inputs)
    assert features.shape == (700, 16 + 200), "maps of 16 channels, and pooled ones"
    estimator = LeakageEstimator(20).fit(features[:250], answers[:250].argmax(axis=1))
    estimator.calibrate(features[250:550], answers[250:550])
    honest = estimator.evidence(features[550:], answers[550:])
    attacks = stress_evidence(estimator, inputs[550:], run)
    accounts = [rng.choice(honest, 1000) for _ in range(60)]
    found = judge(
        calibrate(accounts, service_time=0.02, hash_rate=20e6, suspicious=attacks),
        missing=estimator.missing(),
    )
    assert {"columns resampled", "noise"} <= set(found.defended)
    assert all(found.attacks[name] > 5.0 for name in ("columns resampled", "noise"))
