"""The client in Node.js and in Chromium, under a strict policy, against a real service."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from browsers import BASE, Chromium, Node, Site
from chromium import chromium
from served import served

from powfast import errors
from powfast.challenge import MAX_TOKEN_BYTES, decode, token_to_text
from powfast.http import parse_solution

KINDS = ["node", "chromium"]
INSECURE = "--host-resolver-rules=MAP insecure.test 127.0.0.1"  # an origin that is not localhost


@pytest.fixture(scope="module")
def site() -> Iterator[Any]:
    site, foreign = Site(), Site()
    with served(site.app) as site.origin, served(foreign.app) as site.elsewhere:
        site.foreign = foreign
        yield site


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium(INSECURE) as browser:
        yield browser


@pytest.fixture(scope="module")
def chromium_here(browser: Any, site: Any) -> Iterator[Chromium]:
    here = Chromium(browser, site.origin)
    with here.page() as here.usual:
        yield here


@pytest.fixture
def here(request: pytest.FixtureRequest, site: Any, tmp_path: Any) -> Any:
    """Where a script runs; `kind` says so."""
    site.seen.clear()
    site.foreign.seen.clear()
    if request.param == "node":
        return Node(tmp_path)
    return request.getfixturevalue("chromium_here")


everywhere = pytest.mark.parametrize("here", KINDS, indirect=True)
in_chromium = pytest.mark.parametrize("here", ["chromium"], indirect=True)


def text(site: Any, work: int, **more: Any) -> str:
    return token_to_text(site.issuer.issue(work=work, **more))


def work_of(site: Any, header: str) -> int:
    """Return the work that the issuer admits a header for."""
    return site.issuer.redeem(*parse_solution(header)).work


def alone(here: Any, script: str, arg: object) -> Any:
    """Run where nothing was solved before, and where a page may ask other origins."""
    return here.run(script, arg, **({} if isinstance(here, Node) else {"policy": "open"}))


# -- solving


@everywhere
def test_solutions_are_admitted(here: Any, site: Any) -> None:
    asked = [(1, 1), (1, 16), (300, 1), (5000, 16), (100_000, 1024), (400_000, 16)]
    tokens = [text(site, work, parts=parts, account="é", group="g") for work, parts in asked]
    script = """async () => {
      const headers = [];
      for (const token of arg) headers.push(await powfast.solve(token));
      return headers;
    }"""
    for (work, _), header in zip(asked, here.run(script, tokens), strict=True):
        token, solution = parse_solution(header)
        assert site.issuer.redeem(token, solution, account="é").work == work


@everywhere
def test_several_at_once_share_the_workers(here: Any, site: Any) -> None:
    tokens = [text(site, 200_000) for _ in range(6)]
    script = "() => Promise.all(arg.map((token) => powfast.solve(token, { workers: 2 })))"
    assert [work_of(site, header) for header in here.run(script, tokens)] == [200_000] * 6


@everywhere
def test_a_problem_document_is_a_challenge(here: Any, site: Any) -> None:
    document = {"challenge": text(site, 2000), "work": 1}
    assert work_of(site, here.run("() => powfast.solve(arg)", document)) == 2000


@everywhere
def test_progress_grows_to_one(here: Any, site: Any) -> None:
    script = """async () => {
      const seen = [];
      await powfast.solve(arg, { onProgress: (progress) => seen.push(progress) });
      return seen;
    }"""
    seen = here.run(script, text(site, 3_000_000))
    shares = [one["tried"] / one["expected"] for one in seen]
    assert len(seen) > 1
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert seen[-1]["left"] == 0
    assert all(one["left"] > 0 and one["seconds"] > 0 for one in seen[:-1])


@everywhere
def test_abort_rejects_with_the_reason(here: Any, site: Any) -> None:
    script = """async () => {
      let signal, stopped, waited = Infinity;
      for (let i = 0; i < 20 && waited >= 50; i++) {  // the machine may be busy
        const controller = new AbortController();
        signal = controller.signal;
        const solving = caught(powfast.solve(arg.huge, { signal, maxWork: 2 ** 64 }));
        await sleep(200);
        const before = performance.now();
        controller.abort();
        stopped = await solving;
        waited = performance.now() - before;
      }
      const early = await caught(powfast.solve(arg.small, { signal }));
      const after = await powfast.solve(arg.small);
      return { stopped, waited, early, after };
    }"""
    said = here.run(script, {"huge": text(site, 2**63), "small": text(site, 2000)})
    assert said["stopped"]["name"] == said["early"]["name"] == "AbortError"
    assert said["waited"] < 50
    assert work_of(site, said["after"]) == 2000


@pytest.mark.parametrize("here", ["node"], indirect=True)
def test_workers_stop_after_an_abort(here: Any, site: Any) -> None:
    script = """async () => {
      const signal = AbortSignal.timeout(300);
      const stopped = await caught(powfast.solve(arg, { signal, maxWork: 2 ** 64, workers: 2 }));
      let milliseconds = Infinity;
      for (let i = 0; i < 20 && milliseconds >= 60; i++) {  // a busy machine stops them later
        await sleep(50);
        const before = process.cpuUsage();
        await sleep(300);
        milliseconds = process.cpuUsage(before).user / 1000;
      }
      return { name: stopped.name, milliseconds };
    }"""
    said = here.run(script, text(site, 2**63))
    assert said["name"] == "TimeoutError"
    assert said["milliseconds"] < 60  # of 300, of each of two


@everywhere
def test_limits(here: Any, site: Any) -> None:
    script = """async () => {
      const options = [
        { maxWork: 4999 }, { maxWork: 4999n }, { maxWork: 0 }, { maxWork: NaN }, { workers: 0 },
        { workers: 1.5 }, { workers: 2000 },
      ];
      const usual = await caught(powfast.solve(arg.dear));
      const solve = (each) => caught(powfast.solve(arg.cheap, each));
      return [usual, ...await Promise.all(options.map(solve))];
    }"""
    said = here.run(script, {"cheap": text(site, 5000), "dear": text(site, 2**30 + 1)})
    assert {one["name"] for one in said} == {"PowError"}
    assert [one["code"] for one in said] == ["too-much-work"] * 3 + ["invalid-input"] * 5


@everywhere
def test_a_budget_for_all_challenges(here: Any, site: Any) -> None:
    script = """async () => {
      const most = (maxTotalWork) => ({ maxTotalWork });
      const solve = (token, options) => caught(powfast.solve(token, options));
      const signal = AbortSignal.abort();
      const said = [await solve(arg.thousand, { ...most(2500), signal })]; // is given back
      for (let i = 0; i < 3; i++) said.push(await solve(arg.thousand, most(2500n)));
      said.push(await solve(arg.thousand, { maxWork: 999 }), await solve(arg.thousand));
      said.push(await solve(arg.thousand, most(2500)), await solve(arg.thousand, most(0)));
      return said.map(({ name, message }) => name && `${name} ${message}`);
    }"""
    aborted, *said = alone(here, script, {"thousand": text(site, 1000)})
    asked = "PowError 1000 evaluations; "
    spent = "of maxTotalWork, 2500, {} are spent and {} are left"
    assert aborted.startswith("AbortError")
    assert said == [
        *(None, None, asked + spent.format(2000, 500)),
        *(asked + "maxWork is 999", None, asked + spent.format(3000, 0)),
        "PowError maxTotalWork must be a positive number",
    ]


def hostile(site: Any) -> list[bytes]:
    """Return tokens with a byte changed, inserted or lost, and whole ones."""
    rng = random.Random(2026)
    tokens = []
    for _ in range(400):
        token = bytearray(
            site.issuer.issue(work=50, account="ü" * rng.randrange(4), group="g", request=b"\xff")
        )
        at = rng.randrange(len(token)) if rng.random() < 0.5 else rng.randrange(10, 75)
        change = rng.randrange(4)
        if change == 0:
            token[at] = rng.choice([0, 1, 2, 127, 128, 255, rng.randrange(256)])
        elif change == 1:
            token.insert(at, rng.randrange(256))
        elif change == 2:
            del token[at : at + rng.randrange(1, 60)]
        tokens.append(bytes(token))
    return [*tokens, b"", bytes(96), bytes(MAX_TOKEN_BYTES + 1), bytes(100_000)]


@pytest.mark.parametrize("here", ["node"], indirect=True)
def test_tokens_are_read_as_the_c_library_reads_them(here: Any, site: Any) -> None:
    def judged(token: bytes) -> list[Any]:
        try:
            challenge = decode(token)
        except errors.Refused as error:
            return [error.code]
        return [challenge.puzzle.seed.hex(), str(challenge.work), challenge.parts]

    tokens = hostile(site)
    script = """async () => {
      const { read } = await load("token.js");
      return arg.map((text) => {
        try {
          const { seed, work, parts } = read(text);
          return [Buffer.from(seed).toString("hex"), String(work), parts];
        } catch (error) { return [error.code]; }
      });
    }"""
    said = here.run(script, [token_to_text(token) for token in tokens])
    expected = [judged(token) for token in tokens]
    assert said == expected
    assert {1, 3} == {len(one) for one in expected}
    assert ["unsupported-algorithm"] in expected


@everywhere
def test_what_is_no_challenge(here: Any) -> None:
    script = "() => Promise.all(arg.map((challenge) => caught(powfast.solve(challenge))))"
    challenges = ["", "A", "AA=", "A A", "é", 7, None, {}, {"challenge": 7}, []]
    said = here.run(script, challenges)
    assert [one["code"] for one in said] == ["malformed-token"] * len(challenges)


@pytest.mark.parametrize("here", ["node"], indirect=True)
@pytest.mark.parametrize(
    "fails",
    ['worker.onerror({ message: "gone" })', 'worker.onmessage({ data: { id, error: "trap" } })'],
)
def test_a_worker_that_fails(here: Any, site: Any, fails: str) -> None:
    """A platform whose first worker begins, and then fails; the next one is the page itself."""
    script = f"""async () => {{
      const {{ client }} = await load("client.js");
      let started = 0;
      const start = () => {{
        if (started++ > 0) throw new Error("no more of them");
        const worker = {{ terminate() {{}} }};
        worker.postMessage = ({{ id, puzzle, module }}) => {{
          if (module !== undefined) worker.onmessage({{ data: {{ ready: ["js"] }} }});
          if (puzzle) setTimeout(() => {fails});
        }};
        return worker;
      }};
      const wasm = () => Promise.reject(new Error("offline"));
      const {{ solve }} = client({{ worker: start, wasm, cores: () => 1 }});
      return [await caught(solve(arg)), await caught(solve(arg))];
    }}"""
    first, second = here.run(script, text(site, 2000))
    assert (first["name"], first["code"]) == ("PowError", "worker")
    if "onerror" in fails:
        assert work_of(site, second["value"]) == 2000


# -- fetching


def api(here: Any, site: Any, path: str) -> str:
    return site.origin + path if isinstance(here, Node) else path


@everywhere
@pytest.mark.parametrize(
    ("init", "received"),
    [
        ("{}", b"nothing"),
        ('{ method: "POST", body: "text é" }', "text é".encode()),
        ('{ method: "POST", body: new Uint8Array([0, 255, 7]) }', b"\x00\xff\x07"),
        ('{ method: "POST", body: new URLSearchParams({ a: "b c" }) }', b"a=b+c"),
        ('{ method: "POST", body: new Blob(["blob"]) }', b"blob"),
        ('{ method: "POST" }', b"nothing"),
    ],
)
def test_fetch_pays_once_for_the_same_bytes(
    here: Any, site: Any, init: str, received: bytes
) -> None:
    script = f"""async () => {{
      const response = await powfast.powFetch(arg, {init});
      const bytes = new Uint8Array(await response.arrayBuffer());
      return [response.status, response.headers.get("pow-receipt"), [...bytes]];
    }}"""
    status, receipt, body = here.run(script, api(here, site, "/v1/echo"))
    assert (status, bytes(body)) == (200, received)
    assert receipt.startswith("work=")
    sent = [(solution is not None, body) for path, solution, body in site.seen if "v1" in path]
    assert [paid for paid, _ in sent] == [False, True]
    assert sent[0][1] == sent[1][1]


@everywhere
def test_forms_and_requests_keep_their_headers(here: Any, site: Any) -> None:
    script = """async () => {
      const form = new FormData();
      form.set("field", "value");
      const first = await powfast.powFetch(arg, { method: "POST", body: form });
      const url = new URL(arg, globalThis.location?.href);
      const request = new Request(url, { method: "POST", body: "{}", headers: { "x-mine": "1" } });
      const second = await powfast.powFetch(request);
      return [first.status, await first.text(), second.status, await second.text()];
    }"""
    first, form, second, body = here.run(script, api(here, site, "/v1/echo"))
    assert (first, second, body) == (200, 200, "{}")
    assert "value" in form


@everywhere
def test_a_second_challenge_without_a_receipt_is_handed_over(here: Any, site: Any) -> None:
    script = """async () => {
      const response = await powfast.powFetch(arg, { method: "POST", body: "x" });
      return [response.status, (await response.json()).type];
    }"""
    assert here.run(script, api(here, site, "/greedy")) == [402, "urn:powfast:payment-required"]
    assert len([1 for path, *_ in site.seen if path == "/greedy"]) == 2


@everywhere
def test_what_an_answer_costs_beyond_its_floor_is_paid_as_well(here: Any, site: Any) -> None:
    script = """async () => {
      const headers = { authorization: `Bearer ${arg.key}` };
      const response = await powfast.powFetch(arg.url, { method: "POST", body: "x", headers });
      return [response.status, response.headers.get("pow-receipt"), await response.text()];
    }"""
    arg = {"url": api(here, site, "/dear/echo"), "key": type(here).__name__}
    # the opening and one query, then the other one
    assert here.run(script, arg) == [200, f"work={BASE}, balance=0", "x"]
    sent = [solution for path, solution, _ in site.seen if path == "/dear/echo"]
    works = [decode(parse_solution(solution)[0]).work for solution in sent if solution]
    assert (len(sent), works) == (3, [2 * BASE, BASE])


@everywhere
def test_streams_are_refused_before_anything_is_sent(here: Any, site: Any) -> None:
    script = """() => caught(powfast.powFetch(arg, {
      method: "POST", duplex: "half", body: new Blob(["x"]).stream(),
    }))"""
    said = here.run(script, api(here, site, "/v1/echo"))
    assert said["code"] == "body-not-replayable"
    assert not [path for path, *_ in site.seen if "v1" in path]


@everywhere
@pytest.mark.parametrize(("path", "paid"), [("/away", 0), ("/paid-away", 1), ("/paid-home", 1)])
def test_a_solution_follows_no_redirect(here: Any, site: Any, path: str, paid: int) -> None:
    script = """async () => {
      const said = [];
      for (const status of [301, 302, 303, 307, 308]) {
        for (const init of [{ method: "GET" }, { method: "POST", body: "x" }]) {
          const url = `${arg}/${status}?${init.method}`; // browsers remember redirects
          said.push((await caught(powfast.powFetch(url, init))).code);
        }
      }
      return said;
    }"""
    assert alone(here, script, api(here, site, path)) == ["redirected"] * 10
    statuses = [301, 302, 303, 307, 308]
    assert site.solutions() == [f"{path}/{status}" for status in statuses for _ in range(2 * paid)]
    assert site.foreign.solutions() == []


@in_chromium
def test_another_origin_that_exposes_no_header(here: Any, site: Any) -> None:
    script = """async () => {
      const response = await powfast.powFetch(arg, { method: "POST", body: "x" });
      return [response.status, await response.text()];
    }"""
    asked = here.run(script, site.elsewhere + "/v1/echo", policy="open")
    assert asked == [200, "x"]
    assert site.foreign.solutions() == ["/v1/echo"]


@everywhere
@pytest.mark.parametrize(
    ("path", "said"),
    [("/malformed", {"code": "malformed-token"}), ("/large", {"value": 402}),
     ("/nowhere", {"value": 404})],
)  # fmt: skip
def test_strange_answers(here: Any, site: Any, path: str, said: dict[str, Any]) -> None:
    script = "() => caught(powfast.powFetch(arg).then(({ status }) => status))"
    assert said.items() <= here.run(script, api(here, site, path)).items()


@everywhere
def test_fetch_takes_the_options_and_the_signal(here: Any, site: Any) -> None:
    script = """async () => {
      const dear = await caught(powfast.powFetch(arg, { maxWork: 10 }));
      const poor = await caught(powfast.powFetch(arg, { maxTotalWork: 10 }));
      const stopped = await caught(powfast.powFetch(arg, { signal: AbortSignal.abort() }));
      let progress;
      await powfast.powFetch(arg, { onProgress: (now) => (progress = now) });
      return [dear.code, poor.code, stopped.name, progress.tried / progress.expected];
    }"""
    said = here.run(script, api(here, site, "/v1/echo"))
    assert said == ["too-much-work", "too-much-work", "AbortError", 1]


@everywhere
def test_answer_leaves_the_response_readable(here: Any, site: Any) -> None:
    script = """async () => {
      const response = await fetch(arg);
      const header = await powfast.answer(response);
      const paid = await fetch(arg, { headers: { "PoW-Solution": header } });
      return [(await response.json()).work, paid.status, await powfast.answer(paid)];
    }"""
    assert here.run(script, api(here, site, "/v1/echo")) == [BASE, 200, None]


# -- where it runs

KERNELS = """async () => {
  const rows = await powfast.measure({ evaluations: 20000, workers: 2 });
  return rows.map(({ kernel, workers, rate }) => [kernel, workers, rate > 0]);
}"""
JS = [["js", 1, True], ["js", 2, True]]
WASM = [["wasm", 1, True], ["wasm", 2, True]]
SOLVE = "() => powfast.solve(arg)"


@everywhere
def test_measure(here: Any) -> None:
    assert here.run(KERNELS) == WASM + JS


@everywhere
def test_measure_refuses(here: Any) -> None:
    script = """() => Promise.all(
      [{ seconds: 0 }, { evaluations: NaN }, { workers: 2000 }].map((options) =>
        caught(powfast.measure(options))))"""
    assert [one["code"] for one in here.run(script)] == ["invalid-input"] * 3


@in_chromium
@pytest.mark.parametrize(
    ("options", "kernels"),
    [
        ({"policy": "no-wasm"}, JS),
        ({"policy": "no-worker"}, [["wasm", 1, True], ["wasm", 1, True], JS[0], JS[0]]),
        ({"init": "delete globalThis.WebAssembly"}, JS),
        ({"init": "delete globalThis.crypto"}, WASM + JS),
    ],
    ids=["no-wasm-unsafe-eval", "no-worker", "no-webassembly", "no-crypto"],
)
def test_poorer_places(here: Any, site: Any, options: Any, kernels: Any) -> None:
    with here.page(**options) as page:
        assert here.run(KERNELS, page=page) == kernels
        assert work_of(site, here.run(SOLVE, text(site, 5000), page=page)) == 5000


@in_chromium
def test_an_insecure_context(here: Any, site: Any) -> None:
    origin = site.origin.replace("127.0.0.1", "insecure.test")
    with here.page(origin=origin) as page:
        assert page.evaluate("[isSecureContext, crypto.subtle === undefined]") == [False, True]
        assert work_of(site, here.run(SOLVE, text(site, 5000), page=page)) == 5000


@in_chromium
def test_offline(here: Any, site: Any) -> None:
    script = (
        """async () => [await caught(powfast.powFetch("/v1/echo")), await powfast.solve(arg)]"""
    )
    with here.page() as page:
        here.run("() => null", page=page)
        page.context.set_offline(True)
        failed, header = here.run(script, text(site, 5000), page=page)
    assert failed["name"] == "TypeError"
    assert work_of(site, header) == 5000
