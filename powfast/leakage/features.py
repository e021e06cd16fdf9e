"""Features from models as they are: PyTorch modules, scikit-learn pipelines, ONNX sessions.

Each function runs the model once and returns (features, answer): features (n, d) float64 of all
named layers side by side, the answer as the model gives it. Maps of channels (n, c, ...) become
their means per channel. Take an early layer, a middle and the last but one: early layers tell
unusual inputs, late ones unusual classes.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from powfast.errors import InvalidInput
from powfast.leakage.arrays import Floats


def from_torch(module: Any, inputs: Any, layers: Sequence[str]) -> tuple[Floats, Any]:
    """Run a PyTorch module without gradients, watching its named layers.

    Hooks exist only during the call and see only the calling thread, so that one module may
    serve many threads. Mode (train or eval) and device stay as they are.

    Parameters
    ----------
    module : torch.nn.Module
    inputs : what the module takes
    layers : names as in `module.named_modules()`

    Raises
    ------
    InvalidInput
        A layer does not exist, or did not run.
    """
    import torch  # type: ignore[import-not-found, unused-ignore]

    known = dict(module.named_modules())
    for name in _names(layers):
        if name not in known:
            raise InvalidInput(f"the module has no layer {name!r}, but {', '.join(known)}")
    seen: dict[str, Floats] = {}
    thread = threading.get_ident()

    def keep(name: str, _module: Any, _inputs: Any, output: Any) -> None:
        if threading.get_ident() == thread:
            seen[name] = _flat(output.detach().cpu().numpy(), name)

    with ExitStack() as stack:
        for name in layers:
            hook = known[name].register_forward_hook(partial(keep, name))
            stack.callback(hook.remove)
        stack.enter_context(torch.no_grad())
        answer = module(inputs)
    missing = [name for name in layers if name not in seen]
    if missing:
        raise InvalidInput(f"layer {missing[0]!r} did not run")
    return np.hstack([seen[name] for name in layers]), answer


def from_pipeline(
    pipeline: Any, X: Any, steps: Sequence[str] | None = None
) -> tuple[Floats, Floats]:
    """Run a fitted scikit-learn pipeline, watching what its named steps put out.

    Parameters
    ----------
    pipeline : sklearn.pipeline.Pipeline whose last step has predict_proba
    X : what it takes
    steps : names of transforming steps; the last of them unless given

    Raises
    ------
    InvalidInput
        There is no such transforming step, or the last one has no predict_proba.
    """
    if not hasattr(pipeline.steps[-1][1], "predict_proba"):
        raise InvalidInput("the pipeline's last step has no predict_proba")
    transforms = pipeline.steps[:-1]
    wanted = [transforms[-1][0]] if steps is None and transforms else _names(steps or ())
    seen: dict[str, Floats] = {}
    for name, transform in transforms:
        X = X if transform in (None, "passthrough") else transform.transform(X)
        if name in wanted:
            seen[name] = _flat(X.toarray() if hasattr(X, "toarray") else X, name)
    missing = [name for name in wanted if name not in seen]
    if missing:
        raise InvalidInput(f"the pipeline has no transforming step {missing[0]!r}")
    return np.hstack([seen[name] for name in wanted]), pipeline.steps[-1][1].predict_proba(X)


def from_onnx(
    session: Any, feed: Mapping[str, Any], layers: Sequence[str], answer: str
) -> tuple[Floats, Any]:
    """Run an ONNX Runtime session, watching named outputs.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    feed : inputs by name
    layers, answer : names of outputs; a layer has to be an output of the graph

    Raises
    ------
    InvalidInput
        There is no such output.
    """
    known = [output.name for output in session.get_outputs()]
    for name in (*_names(layers), answer):
        if name not in known:
            raise InvalidInput(f"the session has no output {name!r}, but {', '.join(known)}")
    *values, result = session.run([*layers, answer], dict(feed))
    flat = [_flat(value, name) for name, value in zip(layers, values, strict=True)]
    return np.hstack(flat), result


def _names(layers: Sequence[str]) -> list[str]:
    if isinstance(layers, str) or not layers:
        raise InvalidInput("layers must be a list of at least one name")
    return list(layers)


def _flat(values: ArrayLike, name: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim < 2:
        raise InvalidInput(f"layer {name!r} puts out {array.shape}, not (n, d) or (n, c, ...)")
    return array if array.ndim == 2 else array.reshape(*array.shape[:2], -1).mean(axis=2)
