"""Features from models as they are: PyTorch modules, scikit-learn pipelines, ONNX sessions.

Each function runs the model once and returns (features, answer): features (n, d) float64 of all
named layers side by side, the answer as the model gives it. Maps, (n, c, ...) or (n, ..., c),
become their means per channel; `layers` says which axis is taken for the channels. Take an early
layer, a middle and the last but one: early layers tell unusual inputs, late ones unusual classes.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from powfast.errors import InvalidInput
from powfast.leakage.arrays import Floats
from powfast.leakage.layers import onnx_session, torch_channels


def from_torch(
    module: Any, inputs: Any, layers: Sequence[str], *, channels: Mapping[str, int] | None = None
) -> tuple[Floats, Any]:
    """Run a PyTorch module without gradients, watching its named layers.

    Hooks exist only during the call and see only the calling thread, so that one module may
    serve many threads. Mode (train or eval) and device stay as they are.

    Parameters
    ----------
    module : torch.nn.Module
    inputs : what the module takes
    layers : names as in `module.named_modules()`; `layers.torch_layers` lists them with shapes
    channels : axis of a layer's channels, by name, where it is not what that list says

    Raises
    ------
    InvalidInput
        A layer does not exist, did not run, or has no row per row of the others.
    """
    import torch  # type: ignore[import-not-found, unused-ignore]

    known = dict(module.named_modules())
    for name in _names(layers):
        if name not in known:
            raise InvalidInput(f"the module has no layer {name!r}, but {', '.join(known)}")
    seen: dict[str, Floats] = {}
    given = channels or {}
    thread = threading.get_ident()

    def keep(name: str, layer: Any, _inputs: Any, output: Any) -> None:
        if threading.get_ident() == thread:
            axis = given.get(name, torch_channels(layer, output.ndim))
            seen[name] = _flat(output.detach().cpu().numpy(), name, axis)

    with ExitStack() as stack:
        for name in layers:
            hook = known[name].register_forward_hook(partial(keep, name))
            stack.callback(hook.remove)
        stack.enter_context(torch.no_grad())
        answer = module(inputs)
    missing = [name for name in layers if name not in seen]
    if missing:
        raise InvalidInput(f"layer {missing[0]!r} did not run")
    return _side_by_side({name: seen[name] for name in layers}), answer


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
    model: Any,
    feed: Mapping[str, Any],
    layers: Sequence[str],
    answer: str,
    *,
    channels: Mapping[str, int] | None = None,
) -> tuple[Floats, Any]:
    """Run an ONNX model, watching its named tensors.

    Parameters
    ----------
    model : path of a .onnx file, or onnxruntime.InferenceSession
        From a file any inner tensor can be watched: a session that puts it out is made once, and
        kept. A session of yours watches its outputs.
    feed : inputs by name
    layers : names of tensors; `layers.onnx_layers` lists a file's with their shapes
    answer : name of an output
    channels : axis of a layer's channels, by name, where it is not what that list says

    Raises
    ------
    InvalidInput
        There is no such tensor, or a layer has no row per row of the answer.
    MissingExtra
        The model is a file, and onnx or onnxruntime is not installed.
    """
    axes: dict[str, int] = {}
    if isinstance(model, str | Path):
        model, axes = onnx_session(model, _names(layers))
    axes.update(channels or {})
    known = [output.name for output in model.get_outputs()]
    for name in (*_names(layers), answer):
        if name not in known:
            raise InvalidInput(f"the session has no output {name!r}, but {', '.join(known)}")
    *values, result = model.run([*layers, answer], dict(feed))
    pairs = zip(layers, values, strict=True)
    flat = {name: _flat(value, name, axes.get(name, 1)) for name, value in pairs}
    return _side_by_side(flat, len(result)), result


def _names(layers: Sequence[str]) -> list[str]:
    if isinstance(layers, str) or not layers:
        raise InvalidInput("layers must be a list of at least one name")
    return list(layers)


def _flat(values: ArrayLike, name: str, channels: int | None = 1) -> Floats:
    """Return (n, d), of a map the means per channel."""
    array: Floats = np.asarray(values, dtype=np.float64)
    if array.ndim < 2:
        raise InvalidInput(f"layer {name!r} puts out {array.shape}, not (n, d) or (n, c, ...)")
    if array.ndim == 2:
        return array
    axis = 1 if channels is None else channels
    if not 0 < axis % array.ndim == (axis if axis > 0 else axis + array.ndim):
        raise InvalidInput(f"layer {name!r} puts out {array.shape}: axis {axis} has no channels")
    array = np.moveaxis(array, axis, 1)
    means: Floats = array.reshape(*array.shape[:2], -1).mean(axis=2)
    return means


def _side_by_side(features: Mapping[str, Floats], rows: int | None = None) -> Floats:
    """Return the features of all layers, each with a row per query."""
    for name, values in features.items():
        rows = len(values) if rows is None else rows
        if len(values) != rows:
            raise InvalidInput(
                f"layer {name!r} puts out {len(values)} rows for {rows} queries: its first axis "
                "is not that of the queries"
            )
    return np.hstack(list(features.values()))
