"""`powfast demo`: see it, in a terminal or in a browser."""

from __future__ import annotations

import argparse
import json
import socket
from pathlib import Path

from powfast.cli import output
from powfast.cli.files import read_fleet
from powfast.errors import MissingExtra


def add_to(commands: output.Commands) -> None:
    """Add the command."""
    demo = output.add_command(
        commands,
        "demo",
        _demo,
        "Serve a model, use it, try to copy it, and compare what both cost.",
    )
    demo.add_argument(
        "--seed",
        type=output.number(int, 0, 2**32 - 1),
        default=0,
        help="of all that is drawn at random (default %(default)s)",
    )
    demo.add_argument(
        "--budget",
        type=output.number(float, 0.1, 3600),
        default=2.0,
        metavar="SECONDS",
        help="how long each extractor really solves; what it would pay after that is computed "
        "(default %(default)s)",
    )
    demo.add_argument(
        "--out",
        type=Path,
        default=Path(),
        help="folder for demo.json and demo.png (default %(default)s)",
    )
    demo.add_argument(
        "--serve", action="store_true", help="serve a page to try it in a browser, until Ctrl-C"
    )
    demo.add_argument("--host", default="127.0.0.1", help="of the page (default %(default)s)")
    demo.add_argument(
        "--port", type=output.PORT, default=8402, help="of the page (default %(default)s)"
    )
    demo.add_argument(
        "--profile",
        type=Path,
        help="client profile of the page's visitors (default: an estimate from this machine)",
    )


def _demo(arguments: argparse.Namespace) -> int:
    try:
        if arguments.serve:
            return _serve(arguments)
        from powfast.demo import report, run
    except ModuleNotFoundError as error:
        raise MissingExtra(f"the demo needs {error.name}: pip install 'powfast[demo]'") from error

    arguments.out.mkdir(parents=True, exist_ok=True)  # says before a minute is over that it cannot
    with output.status("starting") as say:
        result = run.run(seed=arguments.seed, budget=arguments.budget, say=say)
    text = json.dumps(result.as_dict(), indent=1)
    (arguments.out / "demo.json").write_text(text + "\n")
    report.plot(result, arguments.out / "demo.png")
    if arguments.json:
        print(text)
    else:
        console = output.console()
        console.print(report.table(result))
        console.print(report.sentence(result))
        console.print("The same figures are in demo.json, the picture in demo.png.")
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    """Prepare first, but find out before that whether the port is free."""
    from powfast.demo import shop, site

    family = socket.AF_INET6 if ":" in arguments.host else socket.AF_INET
    with socket.create_server((arguments.host, arguments.port), family=family) as listening:
        with output.status("measuring this machine") as say:
            rate = _slowest(arguments.profile) if arguments.profile else shop.worker_rate()
            goods = shop.prepared(rate, arguments.seed, say)
        host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
        url = f"http://{host}:{listening.getsockname()[1]}/"
        if arguments.json:
            print(json.dumps({"url": url, "base_work": goods.tariff.base_work}), flush=True)
        else:
            print(f"{url} (Ctrl-C ends it)", flush=True)
        site.serve(site.site(goods), listening)
    return 0


def _slowest(file: Path) -> float:
    """Return the slowest client's hashes a second."""
    return float(read_fleet(file).hash_rate[0])
