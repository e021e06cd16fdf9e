"""What `powfast` says of itself without a command: its version, and where its library is."""

from __future__ import annotations

import argparse

import powfast
from powfast.cli import output

PLACES = {
    "--cflags": "what compiles a C program on the library in this package",
    "--libs": "what links it",
    "--pkgconfigdir": "the folder of powfast.pc",
}


def version(arguments: argparse.Namespace) -> int:
    """Print the version and the kernel in use."""
    from powfast.kernel import active_kernel

    kernel = active_kernel()
    if arguments.json:
        output.print_json({"version": powfast.__version__, "kernel": kernel})
    else:
        print(f"powfast {powfast.__version__} (kernel {kernel})")
    return 0


def places(arguments: argparse.Namespace) -> int:
    """Print where the C library is, in the order asked for, for a compiler's command line."""
    words = {
        "--cflags": f"-I{powfast.get_include()}",
        "--libs": powfast.get_library(),
        "--pkgconfigdir": powfast.get_pkgconfig(),
    }
    if arguments.json:
        output.print_json({option.lstrip("-"): words[option] for option in arguments.places})
    else:
        print(*(words[option] for option in arguments.places))
    return 0
