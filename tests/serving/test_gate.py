"""The gate over both drivers, and over nodes that share a store."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from service import BASE, KEYS, Service, served

from powfast.challenge import Issuer, decode, solve
from powfast.errors import AlreadyRedeemed, InvalidInput, MalformedToken, WrongRequest
from powfast.gate import Asked, Gate, run
from powfast.http import challenge_in, format_solution
from powfast.stores import MemoryLedger, SQLiteLedger
from powfast.tariff import EvidenceTariff

ASKED = Asked("alice", "", b"digest")


class Awaited:
    """A memory ledger whose methods are coroutines."""

    def __init__(self) -> None:
        self._ledger = MemoryLedger(EvidenceTariff(base_work=BASE))

    async def charge(self, *arguments: Any) -> int:
        await asyncio.sleep(0)
        return self._ledger.charge(*arguments)

    async def claim(self, *arguments: Any) -> bool:
        await asyncio.sleep(0)
        return self._ledger.claim(*arguments)


def drive(gate: Gate, flow: Any) -> Any:
    return asyncio.run(flow) if isinstance(gate.ledger, Awaited) else run(flow)


@pytest.fixture(params=[lambda: MemoryLedger(EvidenceTariff(base_work=BASE)), Awaited])
def gate(request: pytest.FixtureRequest) -> Gate:
    return Gate(Issuer(KEYS), request.param())


def test_charge_challenge_redeem(gate: Gate) -> None:
    work = drive(gate, gate.charge(ASKED, [1.0, 1.0]))
    assert work == 2 * BASE
    token = gate.challenge(ASKED, work)
    said = decode(token)
    assert (said.account, said.request, said.work) == ("alice", b"digest", work)
    header = format_solution(token, solve(token))
    with pytest.raises(WrongRequest):
        drive(gate, gate.redeem(Asked("alice", "", b"other"), header))
    assert drive(gate, gate.redeem(ASKED, header)).work == work
    with pytest.raises(AlreadyRedeemed):
        drive(gate, gate.redeem(ASKED, header))


def test_errors_come_through_both_drivers(gate: Gate) -> None:
    with pytest.raises(InvalidInput):
        drive(gate, gate.charge(ASKED, [-1.0]))
    with pytest.raises(MalformedToken):
        drive(gate, gate.redeem(ASKED, "rubbish"))


@pytest.mark.parametrize("name", ["a" * 256, "ä" * 128, "\ud800", 7])
def test_a_name_fits_into_a_token(name: Any) -> None:
    with pytest.raises(InvalidInput, match="255"):
        Asked(name, "", b"")
    with pytest.raises(InvalidInput, match="255"):
        Asked("", name, b"")


def test_two_nodes_admit_one_of_64_copies_and_charge_once(tmp_path: Path) -> None:
    tariff = EvidenceTariff(base_work=BASE)
    nodes = [
        Service(ledger=SQLiteLedger(tmp_path / "shared.db", tariff, timeout=60)) for _ in range(2)
    ]
    body = {"x": 1, "evidence": [1.0, 1.0]}
    with served(nodes[0].app) as one, served(nodes[1].app) as two, httpx.Client() as http:
        asked = [http.post(url + "/v1/predict", json=body) for url in (one, two, one)]
        tokens = [challenge_in(r.status_code, r.headers["www-authenticate"]) for r in asked]
        assert {decode(token or b"").work for token in tokens} == {2 * BASE}
        token = tokens[0] or b""
        headers = {"pow-solution": format_solution(token, solve(token))}
        with ThreadPoolExecutor(64) as pool:
            copies = [
                pool.submit(http.post, url + "/v1/predict", json=body, headers=headers)
                for url in (one, two) * 32
            ]
            statuses = [copy.result().status_code for copy in copies]
    assert sorted(statuses) == [200] + [402] * 63
    state = nodes[0].ledger.state(decode(token).account)
    assert state[0] == 2
