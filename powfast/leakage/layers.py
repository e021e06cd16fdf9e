"""What a model computes on the way: its layers by name, with shapes and the axis of channels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from powfast.errors import InvalidInput, MissingExtra

_FIRST = {  # operators whose maps are (n, c, ...)
    "AveragePool",
    "BatchNormalization",
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "DepthToSpace",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "GroupNormalization",
    "InstanceNormalization",
    "MaxPool",
    "QLinearConv",
    "SpaceToDepth",
}
_LAST = {  # and those whose maps are (n, ..., c)
    "Gemm",
    "LayerNormalization",
    "MatMul",
    "MatMulInteger",
    "QLinearMatMul",
    "RMSNormalization",
    "SimplifiedLayerNormalization",
    "SkipLayerNormalization",
}
_MOVING = ("Reshape", "Flatten", "Unsqueeze", "Reduce", "Expand", "Einsum", "Shape")
_KINDS = ("tensor(float)", "tensor(float16)", "tensor(double)")


class Layer(NamedTuple):
    """One layer: what to call it, what it puts out, and which axis of that are channels."""

    name: str
    shape: tuple[int | None, ...]
    """Dimensions, None where they depend on the input."""
    kind: str
    """The operator, or class, that puts it out."""
    channels: int | None
    """Axis of the channels of a map, None for what is no map: (n, d)."""


def onnx_layers(model: str | Path) -> list[Layer]:
    """Return the inner tensors and outputs of an ONNX file that can be features, in its order.

    Parameters
    ----------
    model : path of a .onnx file

    Raises
    ------
    InvalidInput
        It is no model that ONNX Runtime runs.
    MissingExtra
        onnx or onnxruntime is not installed.
    """
    return list(_known(*_version(model)).values())


def torch_layers(module: Any, inputs: Any) -> list[Layer]:
    """Return the layers of a PyTorch module that can be features, in the order in which they ran.

    Parameters
    ----------
    module : torch.nn.Module
    inputs : what the module takes; it is run once, without gradients
    """
    import torch

    seen: dict[str, Layer] = {}

    def keep(name: str) -> Any:
        def hook(layer: Any, _inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and output.ndim >= 2 and output.is_floating_point():
                shape = (None, *output.shape[1:])
                kind = type(layer).__name__
                seen[name] = Layer(name, shape, kind, torch_channels(layer, output.ndim))

        return hook

    hooks = [m.register_forward_hook(keep(name)) for name, m in module.named_modules() if name]
    try:
        with torch.no_grad():
            module(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return list(seen.values())


def torch_channels(module: Any, axes: int) -> int | None:
    """Return the axis of channels in what a PyTorch module puts out, None where it is no map.

    Linear layers and layer norms have them last, and so has a block that is made of them alone
    and puts out (n, tokens, c); everything else has them first, as convolutions do.
    """
    from torch import nn

    dense = (nn.Linear, nn.LayerNorm, nn.Embedding, nn.MultiheadAttention)
    last = isinstance(module, dense)
    if not last and axes == 3:
        kinds = [type(part).__name__ for part in module.modules()]
        conv = any("Conv" in kind or "BatchNorm" in kind for kind in kinds)
        last = any(isinstance(part, dense) for part in module.modules()) and not conv
    return None if axes == 2 else axes - 1 if last else 1


def onnx_session(model: str | Path, layers: Sequence[str]) -> tuple[Any, dict[str, int]]:
    """Return a session that also puts out `layers`, and the axes of channels of those.

    The session is made once for each version of the file and each choice of layers.
    """
    path, modified = _version(model)
    known = _known(path, modified)
    for name in layers:
        if name not in known:
            raise InvalidInput(f"{path} has no layer {name!r}: see `powfast leakage layers {path}`")
    axes = {name: axis for name in layers if (axis := known[name].channels) is not None}
    return _session(path, modified, tuple(layers)), axes


def _version(model: str | Path) -> tuple[Path, int]:
    path = Path(model)
    if not path.is_file():
        raise InvalidInput(f"there is no ONNX model at {path}")
    return path, path.stat().st_mtime_ns


def _load(path: Path) -> Any:
    """Return the model's graph and operators, without weights in files of their own."""
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra("inner tensors need onnx: pip install 'powfast[onnx]'") from error
    try:
        return onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf raises many kinds
        raise InvalidInput(f"{path} is no ONNX model: {error}") from None


def _watched(path: Path, names: Iterable[str], *, optimised: bool = True) -> Any:
    """Return a session of the model whose outputs include `names`."""
    model = _load(path)
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("sessions need onnxruntime: pip install 'powfast[onnx]'") from error
    outputs = {output.name for output in model.graph.output}
    for name in names:
        if name not in outputs:
            model.graph.output.add().name = name
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # of added outputs only their names are known, which it notes
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(path.parent)
    )
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    providers = onnxruntime.get_available_providers()
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
    except Exception as error:  # ONNX Runtime's own kinds have no common base
        raise InvalidInput(f"ONNX Runtime does not run {path}: {error}") from None


@lru_cache(maxsize=8)
def _session(path: Path, modified: int, layers: tuple[str, ...]) -> Any:
    return _watched(path, layers)


@lru_cache(maxsize=8)
def _known(path: Path, modified: int) -> dict[str, Layer]:
    graph = _load(path).graph
    producers = {name: node.op_type for node in graph.node for name in node.output if name}
    axes = _channel_axes(graph)
    session = _watched(path, producers, optimised=False)
    shapes = {out.name: out.shape for out in session.get_outputs() if out.type in _KINDS}
    layers = {}
    for name, kind in producers.items():
        shape = tuple(d if isinstance(d, int) else None for d in shapes.get(name, ()))
        if len(shape) >= 2 and kind != "Constant":
            axis = axes.get(name, _fixed(shape)) % len(shape) if len(shape) > 2 else None
            layers[name] = Layer(name, shape, kind, axis)
    return layers


def _fixed(shape: Sequence[int | None]) -> int:
    """Return the axis whose size no input changes, where there is one; else the second."""
    fixed = [axis for axis, size in enumerate(shape) if axis > 0 and size is not None]
    return fixed[0] if len(fixed) == 1 else 1


def _channel_axes(graph: Any) -> dict[str, int]:
    """Return the axis of channels for every tensor whose operators tell it; -1 is the last."""
    constants = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                constants[node.output[0]] = tuple(attribute.t.dims)
    axes: dict[str, int] = {}
    for node in graph.node:
        axis = _axis(node, axes, constants)
        if axis is not None:
            axes.update(dict.fromkeys(node.output, axis))
    return axes


def _axis(node: Any, axes: dict[str, int], constants: dict[str, tuple[int, ...]]) -> int | None:
    kind, data = node.op_type, node.input
    before = next((axes[name] for name in data if name in axes), None)
    if kind in _FIRST:
        return 1
    if kind in _LAST or (kind == "Gather" and data[0] in constants):  # the latter: an embedding
        return -1
    if kind == "Transpose":
        order = next((list(a.ints) for a in node.attribute if a.name == "perm"), [])
        return order.index(before % len(order)) if before is not None and order else None
    if kind.startswith(_MOVING) or kind == "Gather":
        return None
    if kind == "Squeeze":
        return before  # the axes after a convolution's channels, or before a dense layer's
    if kind in ("Add", "Mul") and before is None:
        return next(filter(None, (_along(constants.get(name, ())) for name in data)), None)
    return before


def _along(shape: tuple[int, ...]) -> int | None:
    """Return the axis, from the end, of a bias or scale: the only one longer than 1."""
    sizes = np.array(shape)
    return int(np.flatnonzero(sizes > 1)[0]) - len(shape) if (sizes > 1).sum() == 1 else None
