"""`powfast leakage`: does leakage mean anything for this model."""

from __future__ import annotations

import argparse
from pathlib import Path

from powfast.cli import output


def add_to(commands: output.Commands) -> None:
    """Add the actions."""
    text = (
        "Find out whether leakage tells honest from suspicious queries of this model, and which of "
        "its layers can be features."
    )
    actions = output.add_group(commands, "leakage", text)

    report = output.add_command(
        actions,
        "report",
        _report,
        "Compare honest with suspicious queries, score by score: what of them stands apart?",
    )
    report.add_argument(
        "training", type=Path, help=".npz with the training set's features and labels"
    )
    report.add_argument(
        "honest", type=Path, help=".npz with honest queries' features and probabilities"
    )
    report.add_argument("suspicious", type=Path, help="the same of suspicious queries")
    report.add_argument(
        "--plot", type=output.picture, help="also draw it into this file: .png, .svg or .pdf"
    )

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
