"""`powfast leakage`: does leakage mean anything for this model."""

from __future__ import annotations

import argparse
from pathlib import Path

from powfast.cli import output


def add_to(commands: output.Commands) -> None:
    """Add the actions."""
    text = "Does leakage mean anything for this model, and which layers could tell?"
    actions = output.add_group(commands, "leakage", text)

    report = output.add_command(
        actions, "report", _report, "Compare honest with suspicious queries, score by score."
    )
    report.add_argument("training", type=Path, help=".npz with features and labels")
    report.add_argument("honest", type=Path, help=".npz with features and probabilities")
    report.add_argument("suspicious", type=Path, help=".npz with features and probabilities")
    report.add_argument("--plot", type=output.picture, help="also draw it into this file")

    layers = output.add_command(
        actions,
        "layers",
        _layers,
        "List the tensors of an ONNX model that can be features, with their shapes.",
    )
    layers.add_argument("model", type=Path, help=".onnx file")


def _report(arguments: argparse.Namespace) -> int:
    from powfast.leakage.report import report_files

    found = report_files(arguments.training, arguments.honest, arguments.suspicious)
    if arguments.plot:
        found.plot(arguments.plot)
    if arguments.json:
        output.print_json(found.to_dict())
    else:
        print(found)
    return 0


def _layers(arguments: argparse.Namespace) -> int:
    from powfast.leakage.layers import onnx_layers

    found = onnx_layers(arguments.model)
    if arguments.json:
        output.print_json({"layers": [layer._asdict() for layer in found]})
        return 0
    rows = [
        (
            layer.name,
            layer.kind,
            " x ".join("?" if size is None else str(size) for size in layer.shape),
            "" if layer.channels is None else str(layer.channels),
        )
        for layer in found
    ]
    output.print_table(("layer", "operator", "shape", "axis of channels"), rows)
    return 0
