"""`powfast serve`: a proxy before a model server, or a gate that one asks."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from powfast.cli import output
from powfast.errors import InvalidInput, MissingExtra


def add_to(commands: output.Commands) -> None:
    """Add the command."""
    serve = output.add_command(
        commands,
        "serve",
        _serve,
        "Run the proxy before a model server (--upstream), which prices its answers. Or, without "
        "it, tell a proxy (nginx, Traefik, Caddy, Envoy) at /check whether a request may pass, or "
        "what it has to pay first.",
    )
    serve.add_argument("--upstream", metavar="URL", help="the model server behind the proxy")
    serve.add_argument("--config", type=Path, help="the settings (default: POWFAST_CONFIG)")
    serve.add_argument(
        "--host", default="127.0.0.1", help="listen on this address (default %(default)s)"
    )
    serve.add_argument(
        "--port", type=output.PORT, default=8402, help="listen on this port (default %(default)s)"
    )
    serve.add_argument(
        "--workers",
        type=output.number(int, 1, 1024),
        default=1,
        metavar="N",
        help="processes, which share the store (default %(default)s)",
    )


def _serve(arguments: argparse.Namespace) -> int:
    try:
        import uvicorn
    except ImportError as error:
        raise MissingExtra("serve needs uvicorn: pip install 'powfast[server]'") from error
    from powfast.servers.settings import Settings

    sys.path.insert(0, str(Path.cwd()))  # for settings that name a function, as uvicorn does
    if arguments.config is not None:
        os.environ["POWFAST_CONFIG"] = str(arguments.config.resolve())
    if arguments.upstream is not None:
        os.environ["POWFAST_UPSTREAM"] = arguments.upstream
    settings = Settings.load()  # whatever is wrong is said once, before any worker starts
    if arguments.workers > 1 and settings.store.startswith("memory:"):
        raise InvalidInput("a store in memory serves one worker: name sqlite:// or redis://")
    family = socket.AF_INET6 if ":" in arguments.host else socket.AF_INET
    socket.create_server((arguments.host, arguments.port), family=family).close()  # or says why not
    with TemporaryDirectory() as folder:
        if arguments.workers > 1:  # any of them answers /metrics for all
            os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", folder)
        role = "gateway" if settings.upstream is None else "upstream"
        uvicorn.run(
            f"powfast.servers.{role}:from_environment",
            factory=True,
            host=arguments.host,
            port=arguments.port,
            workers=arguments.workers,
            proxy_headers=False,  # accounts count the proxies they trust themselves
            access_log=False,
            server_header=False,
        )
    return 0
