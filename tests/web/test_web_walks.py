"""Challenges of algorithm 2 in Node.js and Chromium: WebAssembly solves them, or nothing does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from browsers import Chromium, Node, Site
from chromium import chromium
from served import served

from powfast.challenge import Issuer, token_to_text
from powfast.http import parse_solution
from powfast.puzzle import Algorithm

ISSUER = Issuer({"a": bytes(32)}, algorithms=list(Algorithm))


def text(work: int, **more: Any) -> str:
    return token_to_text(ISSUER.issue(work=work, algorithm=Algorithm.CACHEWALK, **more))


@pytest.fixture(scope="module", params=["node", "chromium"])
def here(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if request.param == "node":
        yield Node(tmp_path_factory.mktemp("node"))
        return
    with served(Site().app) as origin, chromium() as browser:
        here = Chromium(browser, origin)
        with here.page() as here.usual:
            yield here


def test_solutions_are_admitted(here: Any) -> None:
    """Beside one of algorithm 1, in the same workers."""
    tokens = [text(work, parts=parts) for work, parts in ((50, 1), (2000, 16), (3000, 2))]
    tokens.append(token_to_text(ISSUER.issue(work=50_000)))
    script = "() => Promise.all(arg.map((token) => powfast.solve(token, { workers: 2 })))"
    receipts = [ISSUER.redeem(*parse_solution(header)) for header in here.run(script, tokens)]
    assert [(one.algorithm, one.work) for one in receipts] == [
        (2, 50), (2, 2000), (2, 3000), (1, 50_000),
    ]  # fmt: skip


def test_a_walk_counts_as_512_hashes(here: Any) -> None:
    script = """async () => [
      await caught(powfast.solve(arg, { maxWork: 1000 * 512 - 1 })),
      await caught(powfast.solve(arg, { maxTotalWork: 1000 * 512 - 1 })),
      await caught(powfast.solve(arg, { maxWork: 1000 * 512, maxTotalWork: 2 ** 60 })),
    ]"""
    too_much, beyond, solved = here.run(script, text(1000))
    assert too_much["code"] == beyond["code"] == "too-much-work"
    assert "512000 evaluations" in too_much["message"]
    assert ISSUER.redeem(*parse_solution(solved["value"])).work == 1000


def test_measure_counts_walks(here: Any) -> None:
    script = """async () => {
      const options = { algorithm: 2, evaluations: 100, workers: 2 };
      const rows = await powfast.measure(options);
      const wrong = await caught(powfast.measure({ algorithm: 3 }));
      return [rows.map(({ kernel, workers, rate }) => [kernel, workers, rate > 0]), wrong.code];
    }"""
    assert here.run(script) == [[["wasm", 1, True], ["wasm", 2, True]], "invalid-input"]


REFUSED = """async () => {
  const refused = await caught(powfast.solve(arg.walks));
  return { refused, after: await powfast.solve(arg.hashes) };
}"""


def refuses(said: dict[str, Any]) -> None:
    assert said["refused"]["code"] == "no-webassembly"
    assert "algorithm 2 is solved in WebAssembly" in said["refused"]["message"]
    assert ISSUER.redeem(*parse_solution(said["after"])).algorithm == 1


def arguments() -> dict[str, str]:
    return {"walks": text(50), "hashes": token_to_text(ISSUER.issue(work=5000))}


def test_without_webassembly_it_is_a_clear_error(here: Any) -> None:
    if isinstance(here, Node):
        start = "async () => { delete globalThis.WebAssembly;"
        refuses(here.run(REFUSED.replace("async () => {", start, 1), arguments()))
        return
    for options in ({"policy": "no-wasm"}, {"init": "delete globalThis.WebAssembly"}):
        with here.page(**options) as page:
            refuses(here.run(REFUSED, arguments(), page=page))
