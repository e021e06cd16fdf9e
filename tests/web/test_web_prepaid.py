"""What the client in Node.js and in Chromium solves ahead: for whom, how much, and until when."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from browsers import Chromium, Node, Site
from chromium import chromium
from served import served
from till import MANY, PRICE, Till, asked

from powfast.challenge import token_to_text

KINDS = ["node", "chromium"]

# `settled` waits as long as the worker takes for much more than what was offered, in turn with it.
ASK = """
const ask = async (path, init) => (await powfast.powFetch(arg + path, init)).status;
const settled = async () => (await powfast.solve("TOKEN", { workers: 1 }), await sleep(100));
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Any]:
    site, foreign = Site(), Site()
    with served(site.app) as site.origin, served(foreign.app) as site.elsewhere:
        site.foreign = foreign
        yield site


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def here(request: pytest.FixtureRequest, site: Any, tmp_path: Any) -> Any:
    """Where a script runs that has solved nothing before; `kind` says so."""
    site.till, site.foreign.till = Till(), Till()
    if request.param == "node":
        return Node(tmp_path)
    return Chromium(request.getfixturevalue("browser"), site.origin)


everywhere = pytest.mark.parametrize("here", KINDS, indirect=True)


def run(here: Any, site: Any, script: str, **options: Any) -> Any:
    options = {} if isinstance(here, Node) else {"policy": "open", **options}
    token = token_to_text(site.issuer.issue(work=20 * MANY))
    script = f"async () => {{ {ASK.replace('TOKEN', token)} {script} }}"
    return here.run(script, site.origin + "/till", **options)


@everywhere
def test_credit_refills_by_itself(here: Any, site: Any) -> None:
    script = """
      const statuses = [];
      for (let number = 0; number < 60; number++) {
        statuses.push(await ask("/ask"));
        if ([0, 25, 26, 57, 58].includes(number)) await settled();
      }
      return [statuses, powfast.balance(arg), powfast.balance("http://nobody.example/")];
    """
    statuses, balance, nothing = run(here, site, script)
    assert statuses == [200] * 60
    assert site.till.kinds()[:3] == [None, "own", "ahead"]
    assert site.till.kinds().count("own") == 1
    assert site.till.kinds().count("ahead") == 3
    assert (balance, nothing) == (site.till.balances["anonymous"], None)
    assert balance == PRICE + 3 * MANY - 60 * PRICE


@everywhere
def test_it_is_said_how_far_solving_ahead_is(here: Any, site: Any) -> None:
    script = """
      const own = [], ahead = [], share = ({ tried, expected }) => tried / expected;
      const onProgress = (one) => own.push(share(one));
      const onAhead = (one) => ahead.push(share(one));
      await ask("/ask", { onProgress, onAhead });
      const before = own.length;
      await settled();
      return [own.length === before, own.at(-1), ahead.at(-1)];
    """
    assert run(here, site, script) == [True, 1, 1]


@everywhere
def test_what_is_ready_is_for_one_origin_and_one_account(here: Any, site: Any) -> None:
    script = f"""
      const as = (name) => ({{ headers: {{ authorization: name }} }});
      for (const name of ["a", "b"]) await ask("/ask", as(name));
      await settled();
      const before = await powfast.powFetch("{site.elsewhere}/till/ask", as("a"));
      return [before.status, await ask("/ask", as("c")), await ask("/ask", as("a"))];
    """
    if isinstance(here, Chromium):  # a page may not name its account to other origins here
        script = script.replace('/till/ask", as("a"))', '/till/ask")')
    assert run(here, site, script) == [200, 200, 200]
    assert site.foreign.till.kinds() == [None, "own"]
    assert site.till.kinds() == [None, "own", None, "own", None, "own", "ahead"]


@everywhere
@pytest.mark.parametrize("target", ["other", "same"])
def test_no_redirect_carries_what_is_ready(here: Any, site: Any, target: str) -> None:
    """Nor does it go to where a redirect was before; where there is a new one, GET asks again."""
    leads_to = f"{site.elsewhere if target == 'other' else site.origin}/till/free"
    there = site.foreign.till if target == "other" else site.till
    site.till.leads_to = leads_to
    script = """
      const said = [await ask("/go/before")];
      await ask("/ask");
      await settled();
      return [...said, await ask("/go/before")];
    """
    assert run(here, site, script) == [200, 200]
    ready = [path for path, kind in site.till.seen if kind == "ahead"]
    assert ready == []
    assert there.seen.count(("/free", None)) == 2


@everywhere
@pytest.mark.parametrize(("method", "said"), [("GET", {"value": 200}), ("POST", "redirected")])
def test_a_new_redirect_gets_no_solution(here: Any, site: Any, method: str, said: Any) -> None:
    site.till.leads_to = f"{site.elsewhere}/till/free"
    site.till.moves = "/ask/moved"
    script = f"""
      const init = {{ method: "{method}", body: "{method}" === "POST" ? "x" : undefined }};
      await ask("/ask/moved", init);
      await settled();
      return caught(ask("/ask/moved", init));
    """
    found = run(here, site, script)
    assert found == said if isinstance(said, dict) else found["code"] == said
    assert all(kind is None for _, kind in site.foreign.till.seen)


@everywhere
def test_a_request_answers_its_own_challenge_first(here: Any, site: Any) -> None:
    script = """
      for (const path of ["/free", "/ask"]) await ask(path);
      await settled();
      return [await ask("/free"), await ask("/ask")];
    """
    assert run(here, site, script) == [200, 200]
    assert site.till.kinds() == [None, None, "own", "ahead", None, "own"]


@everywhere
@pytest.mark.parametrize(
    ("limits", "own"),
    [(f"maxWork: {MANY - 1}", 2), (f"maxTotalWork: {PRICE + MANY - 1}", 2), ("prepay: false", 2)],
)
def test_nothing_is_solved_ahead_beyond_the_limits(
    here: Any, site: Any, limits: str, own: int
) -> None:
    script = f"""
      const said = [];
      for (let i = 0; i < 2; i++, await sleep(700)) said.push(await ask("/ask", {{ {limits} }}));
      return said;
    """
    assert run(here, site, script) == [200, 200]
    assert site.till.kinds() == [None, "own"] * own


@everywhere
@pytest.mark.parametrize("offer", ['PoW challenge="AAAA"', "", "Basic", "bound", "dear"])
def test_a_strange_offer_spoils_no_answer(here: Any, site: Any, offer: str) -> None:
    bound = site.till.issuer.issue(work=PRICE, account="anonymous", request=b"another")
    dear = site.till.issuer.issue(work=66 * PRICE, account="anonymous")
    named = {"bound": bound, "dear": dear}
    site.till.offer = lambda account: asked(named[offer]) if offer in named else offer
    script = """
      const said = [await ask("/ask")];
      await settled();
      return [...said, await ask("/ask")];
    """
    assert run(here, site, script) == [200, 200]
    assert site.till.kinds() == [None, "own", None, "own"]


@everywhere
def test_what_has_expired_is_thrown_away(here: Any, site: Any) -> None:
    site.till = Till(ttl=0.5)
    script = """
      await ask("/ask");
      await settled();
      await sleep(700);
      return ask("/ask");
    """
    assert run(here, site, script) == 200
    assert site.till.kinds() == [None, "own", None, "own"]


@everywhere
def test_a_closed_client_solves_nothing_ahead(here: Any, site: Any) -> None:
    script = """
      powfast.close();
      await ask("/ask");
      await settled();
      return ask("/ask");
    """
    assert run(here, site, script) == 200
    assert site.till.kinds() == [None, "own", None, "own"]


@pytest.mark.parametrize("here", ["node"], indirect=True)
@pytest.mark.parametrize("closes", [False, True])
def test_a_process_ends_while_something_is_solved(here: Any, site: Any, closes: bool) -> None:
    """`run` waits for its end; what is offered would take a worker some ten minutes more."""
    price, requests = 2**22, 2000
    site.till = Till(price=price, worth=requests * price)
    script = f"""
      for (let i = 0; i < {requests}; i += 50) {{
        await Promise.all(Array.from({{ length: 50 }}, () => ask("/free")));
      }}
      await powfast.powFetch(arg + "/ask", {{ maxWork: 2 ** 62 }});
      await sleep(200);
      if ({str(closes).lower()}) powfast.close();
      let milliseconds, tries = 0;
      do {{
        await sleep(700);
        const before = process.cpuUsage();
        await sleep(300);
        milliseconds = process.cpuUsage(before).user / 1000;
      }} while ({str(closes).lower()} === milliseconds > 30 && tries++ < 20); // the machine is busy
      return milliseconds > 30;
    """
    assert run(here, site, script) is not closes


@pytest.mark.parametrize("here", ["chromium"], indirect=True)
def test_a_page_without_workers_is_not_kept_busy(here: Any, site: Any) -> None:
    script = """
      await ask("/ask");
      await settled();
      return ask("/ask");
    """
    said = run(here, site, script, policy="no-worker")
    assert said == 200, site.till.seen
    assert site.till.kinds() == [None, "own", None, "own"]
