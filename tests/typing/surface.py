"""What users of the package see: checked by mypy and pyright, never run."""

from typing import assert_type

import httpx
import numpy as np
import numpy.typing as npt
from fastapi import FastAPI

import powfast
from powfast.challenge import Challenge, Issuer, Receipt
from powfast.clients.httpx import PowAuth
from powfast.puzzle import Puzzle, solve_counted
from powfast.servers.asgi import PowMiddleware
from powfast.servers.fastapi import Charge
from powfast.stores import MemoryLedger
from powfast.tariff import EvidenceTariff


def issues_and_redeems() -> None:
    issuer = powfast.Issuer({"a": bytes(32)}, ttl=120.0)
    token = issuer.issue(work=1000, account="alice", request=b"digest")
    assert_type(token, bytes)
    solution = powfast.solve(token)
    assert_type(solution, tuple[int, ...])
    assert_type(powfast.verify(token, solution), bool)
    assert_type(powfast.decode(token), Challenge)
    receipt = issuer.redeem(token, solution, account="alice", request=b"digest")
    assert_type(receipt, Receipt)
    assert_type(receipt.work, int)
    assert_type(solve_counted(Puzzle(bytes(32), 1000, 4)), tuple[tuple[int, ...], int])
    issuer.issue(work="much", account="alice")  # type: ignore[arg-type]
    powfast.solve("a token's text")  # type: ignore[arg-type]


def prices() -> None:
    tariff = EvidenceTariff(base_work=1000, opening_work=500_000)
    work, state = tariff.work([0.4, 0.9])
    assert_type(work, npt.NDArray[np.float64])
    assert_type(state, npt.NDArray[np.float64])
    EvidenceTariff("cheap")  # type: ignore[arg-type]


def serves(issuer: Issuer, tariff: EvidenceTariff) -> None:
    gate = powfast.Gate(issuer, MemoryLedger(tariff))
    app = FastAPI()
    app.add_middleware(PowMiddleware, gate=gate, paths=("/v1/",))

    @app.post("/v1/predict")
    async def predict(pow: Charge) -> list[float]:
        assert_type(await pow.charge([1.0, 2.0]), None)
        return [0.5]


def calls() -> None:
    client = httpx.Client(auth=PowAuth(max_work=2**30, max_total_work=2**40))
    assert_type(client.get("/"), httpx.Response)


def embeds() -> None:
    assert_type(powfast.get_include(), str)
    assert_type(powfast.get_library(), str)
    assert_type(powfast.get_pkgconfig(), str)
