"""Hash rates of the browser client and its peers on one thread, in Node.js and in Chromium.

    npm install --prefix FOLDER @mcaptcha/pow-wasm @cap.js/wasm hash-wasm @noble/hashes js-sha256 \\
        altcha-lib
    python benchmarks/web/run.py FOLDER/node_modules [--rounds 15] [--json FILE]

Every solver has its turn in every round, beside the native kernels; ratios are medians over rounds.
A hash is SHA-256 of one block in all of them. (friendly-challenge is not here: it hashes BLAKE2b.)
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))

from kernels import kernels  # noqa: E402
from measure import need, warn_if_busy, write  # noqa: E402

OURS = "powfast, WebAssembly"
NODE = """
import { readFile } from "node:fs/promises";
const [solvers, powfast, peers, rounds] = process.argv.slice(1);
const { measure } = await import(solvers);
const bytes = (url) => readFile(new URL(url));
console.log(JSON.stringify(await measure({ powfast, peers, bytes }, Number(rounds))));
"""
CHROMIUM = """async (rounds) => {
  const { measure } = await import("/web/solvers.mjs");
  const bytes = async (url) => (await fetch(url)).arrayBuffer();
  return measure({ powfast: "/powfast/", peers: "/peers/", bytes }, rounds);
}"""


def in_node(peers: Path, rounds: int) -> dict[str, Any]:
    urls = [(HERE / "solvers.mjs").as_uri(), (ROOT / "powfast/web").as_uri() + "/"]
    command = ["node", "--input-type=module", "-e", NODE, *urls, peers.as_uri() + "/", str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


class Files(SimpleHTTPRequestHandler):
    def __init__(self, folders: dict[str, Path], *rest: Any) -> None:
        self.folders = folders
        super().__init__(*rest)

    def translate_path(self, path: str) -> str:
        first, _, rest = path.lstrip("/").partition("/")
        return str(self.folders.get(first, HERE) / rest)

    def guess_type(self, path: Any) -> str:
        return (
            "text/javascript" if str(path).endswith((".js", ".mjs")) else super().guess_type(path)
        )

    def log_message(self, *_: Any) -> None: ...


def in_chromium(peers: Path, rounds: int) -> dict[str, Any]:
    folders = {"web": HERE, "powfast": ROOT / "powfast/web", "peers": peers}
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, folders))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--headless", "--no-sandbox"]
        )
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/web/")
        measured = page.evaluate(CHROMIUM, rounds)
        browser.close()
    server.shutdown()
    return measured


def report(place: str, measured: dict[str, Any]) -> list[dict[str, Any]]:
    """Print and return one row for each solver; ratios are powfast's rate over the row's."""
    results, rows = measured["results"], []
    print(f"\n{place}\n{'':28}{'million/s':>10}{'powfast is':>12}   quartiles")
    for name in results[0]:
        rate = statistics.median(one[name] for one in results)
        low, ratio, high = statistics.quantiles([one[OURS] / one[name] for one in results], n=4)
        print(f"{name:28}{rate / 1e6:10.3f}{ratio:11.2f}x   {low:.2f} .. {high:.2f}")
        rows.append({"name": name, "rate": rate, "powfast_over": ratio, "quartiles": [low, high]})
    for name, reason in measured["failed"].items():
        print(f"{name}: left out: {reason}", file=sys.stderr)
    return rows


def native(rounds: int) -> dict[str, float]:
    return {
        f"native {name}": statistics.median(rate() for _ in range(rounds))
        for name, rate in kernels().items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("node_modules", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    need("node", "chromium", packages=("playwright",))
    warn_if_busy()
    peers, result = options.node_modules.resolve(), {}
    for place, run in (("Node.js", in_node), ("Chromium", in_chromium)):
        before = native(3)
        measured = run(peers, options.rounds)
        after = native(3)
        for rates in measured["results"]:
            rates.update({name: (before[name] + after[name]) / 2 for name in before})
        result[place] = report(place, measured)
    write(options.json, result)


if __name__ == "__main__":
    main()
