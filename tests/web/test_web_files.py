"""What stands in powfast/web: its kernels hold the vectors, its built files are what is built."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from browsers import WEB, Chromium, Node, Site
from chromium import chromium
from conftest import ROOT, missing
from served import served

import powfast

VECTORS = json.loads((ROOT / "tests/vectors/puzzle.json").read_text())
WALKS = json.loads((ROOT / "tests/vectors/cachewalk.json").read_text())
TOKENS = [
    {**one, "algorithm": algorithm}
    for name, algorithm in (("token.json", 1), ("walking-token.json", 2))
    for one in json.loads((ROOT / "tests/vectors" / name).read_text())
]


def run(*command: str | Path, **options: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=["node", "chromium"])
def here(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    if request.param == "node":
        yield Node(tmp_path_factory.mktemp("node"))
        return
    with served(Site().app) as origin, chromium() as browser:
        here = Chromium(browser, origin)
        with here.page() as here.usual:
            yield here


# The module is read from the folder that the tests import the rest from.
KERNELS = """async () => {
  const { kernels } = await load("kernels.js");
  const module = await WebAssembly.compile(unhex(arg.module));
  const each = (solve) => Object.values(kernels(module)).map(solve);
  const puzzle = ({ seed, work, parts, algorithm = 1 }) => (
    { seed: unhex(seed), work: BigInt(work), parts, algorithm }
  );
  return BODY;
}"""
MODULE = (WEB / "powfast.wasm").read_bytes().hex()


def in_kernels(here: Any, body: str, cases: list[Any]) -> list[Any]:
    """Return what wasm and js make of `cases`."""
    return here.run(KERNELS.replace("BODY", body), {"module": MODULE, "cases": cases})


def test_kernels_find_the_first_solutions(here: Any) -> None:
    body = """each((kernel) => arg.cases.map((one) => {
      const search = kernel(puzzle(one));
      return one.first.map((_, part) => {
        let from = 0, nonce;
        while ((nonce = search(part, from, 1000)) < 0) from += 1000;
        return nonce;
      });
    }))"""
    cases = [{**one, "work": str(one["work"])} for one in VECTORS["solutions"]]
    assert in_kernels(here, body, cases) == [[one["first"] for one in cases]] * 2


def test_kernels_decide_every_digest(here: Any) -> None:
    """At each vector's nonce, the dearest puzzle that its digest solves and the next dearer one."""
    cases, expected = [], []
    for one in VECTORS["digests"]:
        parts, digest = one["part"] + 1, one["digest64"]
        for work, solved in ((2**64 // (digest + 1), True), (2**64 // digest + 1, False)):
            if work * parts < 2**64 and parts <= 1024 and one["nonce"] < 2**53:
                cases.append({**one, "parts": parts, "work": str(work * parts)})
                expected.append(one["nonce"] if solved else -1)
    assert len(cases) > 60
    body = """each((kernel) => arg.cases.map((one) =>
      kernel(puzzle(one))(one.part, one.nonce, 1)))"""
    assert in_kernels(here, body, cases) == [expected] * 2


def test_webassembly_walks_as_the_vectors_say(here: Any) -> None:
    """The first solutions, and at each digest the dearest puzzle it solves and the next dearer."""
    body = """[kernels(module).wasm].map((kernel) => arg.cases.map((one) => {
      const search = kernel(puzzle(one));
      return [one.first.map((_, part) => search(part, 0, 1000)), search(one.part, one.nonce, 1)];
    }))"""
    cases: list[dict[str, Any]] = []
    expected: list[Any] = []
    for one in WALKS["solutions"]:
        cases.append({**one, "work": str(one["work"]), "part": 0, "nonce": one["first"][0]})
        expected.append([one["first"], one["first"][0]])
    for one in WALKS["digests"]:
        parts, digest = one["part"] + 1, one["digest64"]
        for work, solved in ((2**64 // (digest + 1), True), (2**64 // digest + 1, False)):
            if work * parts < 2**64 and parts <= 1024 and one["nonce"] < 2**53:
                cases.append({**one, "parts": parts, "work": str(work * parts), "first": []})
                expected.append([[], one["nonce"] if solved else -1])
    assert len(cases) > 15
    cases = [{**one, "algorithm": 2} for one in cases]
    assert in_kernels(here, body, cases) == [expected]


def test_kernels_agree_across_the_edge_of_24_bits(here: Any) -> None:
    body = """each((kernel) => arg.cases.map((one) => {
      const search = kernel(puzzle(one)), found = [], end = 2 ** 24 + 3000;
      for (let at = 2 ** 24 - 3000, nonce; (nonce = search(1, at, end - at)) >= 0; at = nonce + 1) {
        found.push(nonce);
      }
      return found;
    }))"""
    seed, part = bytes(range(32)), 1
    expected = []
    for nonce in range(2**24 - 3000, 2**24 + 3000):
        message = seed + b"powfast/v1:" + part.to_bytes(4, "big") + nonce.to_bytes(8, "big")
        if int.from_bytes(hashlib.sha256(message).digest()[:8], "big") < 2**64 // 100:
            expected.append(nonce)
    cases = [{"seed": seed.hex(), "work": "200", "parts": 2}]
    assert in_kernels(here, body, cases) == [[expected]] * 2


def test_digests_of_messages(here: Any) -> None:
    messages = [bytes(range(n)) for n in range(0, 200, 3)] + [b"\xff" * 1109]
    script = """async () => {
      const { sha256 } = await load("sha256.js");
      return arg.map((message) => [...sha256(unhex(message))]);
    }"""
    said = here.run(script, [message.hex() for message in messages])
    assert [bytes(one) for one in said] == [hashlib.sha256(m).digest() for m in messages]


def test_tokens_are_read_as_the_vectors_say(here: Any) -> None:
    script = """async () => {
      const { read } = await load("token.js");
      return arg.map((text) => {
        const { seed, work, parts, algorithm } = read(text);
        return [[...seed], String(work), parts, algorithm];
      });
    }"""
    texts = [
        base64.urlsafe_b64encode(bytes.fromhex(one["token"])).rstrip(b"=").decode()
        for one in TOKENS
    ]
    said = here.run(script, texts)
    assert [(bytes(seed).hex(), int(work), *rest) for seed, work, *rest in said] == [
        (one["seed"], one["work"], one["parts"], one["algorithm"]) for one in TOKENS
    ]


def test_a_module_that_fails_its_self_test_is_not_used(here: Any) -> None:
    script = """async () => {
      const { kernels } = await load("kernels.js");
      const broken = await WebAssembly.compile(unhex(arg));
      return [broken, null, {}].map((module) => Object.keys(kernels(module)));
    }"""
    setup_says_seven = (
        "0061736d01000000" "010801" "60037f7e7f017f" "03020100" "070901" "05736574757000" "00"
        "0a0601" "04" "0041070b"
    )  # fmt: skip
    assert here.run(script, setup_says_seven) == [["js"]] * 3


# -- built files, which are committed


def test_the_module_is_what_is_built(tmp_path: Path) -> None:
    clang = shutil.which("clang-19") or missing("no clang-19 here")
    built = tmp_path / "powfast.wasm"
    environment = {**os.environ, "CC": clang}
    run("sh", ROOT / "csrc/wasm/build.sh", built, env=environment)
    same = built.read_bytes() == (WEB / "powfast.wasm").read_bytes()
    assert same, "csrc has changed: CC=clang-19 sh csrc/wasm/build.sh powfast/web/powfast.wasm"


@pytest.mark.parametrize(
    ("script", "name"), [("javascript.py", "rounds.js"), ("layout.py", "layout.js")]
)
def test_what_is_generated_is_what_is_written(tmp_path: Path, script: str, name: str) -> None:
    run(sys.executable, ROOT / "csrc/wasm" / script, tmp_path / name)
    assert (tmp_path / name).read_text() == (WEB / name).read_text()


# -- the package


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Return a project that has the package in its node_modules."""
    shutil.copytree(WEB, tmp_path / "node_modules" / "powfast")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    return tmp_path


def test_node_imports_the_package_by_name(installed: Path) -> None:
    node = shutil.which("node") or missing("no node here")
    script = 'import("powfast").then((module) => console.log(Object.keys(module).sort().join(" ")))'
    said = run(node, "-e", script, cwd=installed)
    assert said == "PowError answer balance close measure powFetch solve\n"


def test_the_package_has_the_licence_of_powfast() -> None:
    assert (WEB / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_package_has_the_version_of_powfast() -> None:
    assert json.loads((WEB / "package.json").read_text())["version"] == powfast.__version__


TYPED = """
import { answer, balance, close, measure, powFetch, solve, PowError, type Progress } from "powfast";

const seen: Progress[] = [];
const header: string = await solve("token", { onProgress: (now) => seen.push(now), maxWork: 10n });
const last: string = await solve("token", { maxTotalWork: 2 ** 40 });
const again: string = await solve({ challenge: "token" }, { signal: new AbortController().signal });
const response: Response = await powFetch("/v1", { method: "POST", body: "x", maxWork: 2 ** 30 });
const free: Response = await powFetch("/v1", { prepay: false });
const left: number | null = balance(new URL("https://model.example/"));
close();
const maybe: string | null = await answer(response, { workers: 2 });
for (const { kernel, rate } of await measure({ seconds: 1 })) console.log(kernel, rate * 2);
const code: string = new PowError("worker", "no").code;
// @ts-expect-error
await solve(7);
// @ts-expect-error
await solve("token", { maxwork: 1 });
// @ts-expect-error
const wrong: number = header;
"""


def test_types(installed: Path) -> None:
    compiler = shutil.which("tsc") or missing("no tsc here")
    (installed / "use.ts").write_text(TYPED)
    flags = [
        "--strict",
        "--noEmit",
        "--target",
        "es2022",
        "--module",
        "esnext",
        "--lib",
        "es2022,dom",
    ]
    run(compiler, *flags, "--moduleResolution", "nodenext", "use.ts", cwd=installed)
