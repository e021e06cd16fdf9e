"""Everything that reads bytes from outside, as functions of bytes: for hypothesis and for atheris.

Each returns or raises a `PowfastError`; one that may admit somebody raises `Admitted` if it does.
"""

from __future__ import annotations

import asyncio
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from powfast import accounts, keyring
from powfast.challenge import Issuer, decode, solve, token_to_text
from powfast.gate import Gate
from powfast.http import challenge_in, format_solution, parse_solution, payment_required
from powfast.leakage import HonestReference
from powfast.paper import hashcash
from powfast.profile import ClientProfile, Fleet
from powfast.servers.asgi import PowMiddleware, bill_of
from powfast.servers.settings import Settings
from powfast.stores import MemoryLedger
from powfast.tariff import Calibration, EvidenceTariff, Iclr2022Tariff, from_json, load_traces
from powfast.tariff.traces import save_traces

KEY = bytes(range(32))
ISSUER = Issuer({"a": KEY})
STRANGER = Issuer({"a": bytes(32)})
TARIFF = EvidenceTariff(base_work=1000.0)
TOKEN = STRANGER.issue(work=100, account="alice", request=b"digest")
SOLUTION = format_solution(TOKEN, solve(TOKEN, threads=1))
CHECKER = hashcash.Checker("powfast", bits=20)


class Admitted(BaseException):
    """Something was let in that has not been paid for."""


def token(data: bytes) -> None:
    decode(data)


def verification(data: bytes) -> None:
    """No token that this key has not signed is right, whatever its nonces."""
    ISSUER.redeem(data, (0,) * 16, account="alice", request=b"digest")
    raise Admitted(data)


def solution_header(data: bytes) -> None:
    given, nonces = parse_solution(data.decode("latin-1"))
    ISSUER.redeem(given, nonces, account="alice", request=b"digest")
    raise Admitted(data)


def www_authenticate(data: bytes) -> None:
    challenge_in(402, data.decode("latin-1"))


def stamp(data: bytes) -> None:
    hashcash.parse(data.decode("latin-1"))


def stamp_check(data: bytes) -> None:
    """A stamp of twenty zero bits is not found by chance."""
    CHECKER.check(data.decode("latin-1"))
    raise Admitted(data)


def tariff(data: bytes) -> None:
    from_json(data)


def calibration(data: bytes) -> None:
    Calibration.from_json(data)


def profile(data: bytes) -> None:
    ClientProfile.from_json(data)


def fleet(data: bytes) -> None:
    Fleet.from_json(data)


def settings(data: bytes) -> None:
    """The same bytes as a file and as each variable of the environment."""
    text = data.decode("latin-1")
    names = ("KEYS", "STORE", "TTL", "PATHS", "ACCOUNT", "REFUSE_ABOVE", "LOGS", text[:20])
    with _file(data) as file:
        Settings.load(file, {f"POWFAST_{name}": text for name in names})


def key_ring(data: bytes) -> None:
    with _file(data) as file:
        keyring.read(file)


def inline_keys(data: bytes) -> None:
    keyring.parse_inline(data.decode("latin-1"))


def resolver(data: bytes) -> None:
    accounts.resolver(data.decode("latin-1"))


def forwarded(data: bytes) -> None:
    text = data.decode("latin-1")
    caller = accounts.Caller(lambda name: text, text, {})
    accounts.address(proxies=1)(caller)


def traces(data: bytes) -> None:
    with _file(data) as file:
        load_traces(file)


def reference(data: bytes) -> None:
    with _file(data) as file:
        HonestReference.load(file)


def request(data: bytes) -> None:
    """A whole request through the middleware: first line, solution and body are the bytes."""
    path, _, rest = data.partition(b"\n")
    solution, _, body = rest.partition(b"\n")
    asyncio.run(_request(path, solution, body))


async def _request(path: bytes, solution: bytes, body: bytes) -> None:
    async def endpoint(scope: Any, receive: Any, send: Any) -> None:
        await bill_of(scope).charge([1.0])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answer"})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: dict[str, Any]) -> None:
        if message.get("status") == 200:
            raise Admitted(solution)

    headers = [(b"pow-solution", solution), (b"authorization", body), (b"content-type", path)]
    scope = {"type": "http", "method": "POST", "path": "/", "raw_path": path, "headers": headers}
    await PowMiddleware(endpoint, Gate(ISSUER, MemoryLedger(TARIFF)))(scope, receive, send)


class _file:  # noqa: N801
    """A file of these bytes, for as long as it is looked at."""

    def __init__(self, data: bytes) -> None:
        descriptor, name = tempfile.mkstemp()
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        self._path = Path(name)

    def __enter__(self) -> Path:
        return self._path

    def __exit__(self, *raised: object) -> None:
        self._path.unlink()


def _saved(save: Callable[[Path], object]) -> bytes:
    with _file(b"") as file:
        save(file)
        return file.read_bytes()


def _traces() -> bytes:
    with io.BytesIO() as file:
        save_traces(file, [[1.0, 2.0], [3.0]])  # type: ignore[arg-type]
        return file.getvalue()


_REFERENCE = HonestReference.fit(np.arange(40.0).reshape(20, 2), np.zeros(20, int))

SAMPLES: dict[Callable[[bytes], None], tuple[bytes, ...]] = {
    token: (TOKEN,),
    verification: (TOKEN, TOKEN[:-32]),
    solution_header: (SOLUTION.encode(), token_to_text(TOKEN).encode()),
    www_authenticate: (dict(payment_required(TOKEN, "").headers)[b"www-authenticate"],),
    stamp: (hashcash.mint("powfast", bits=4).encode(),),
    stamp_check: (hashcash.mint("powfast", bits=4).encode(),),
    tariff: (TARIFF.to_json().encode(), Iclr2022Tariff(0.1, 2.0).to_json().encode()),
    calibration: (TARIFF.to_json().encode(),),
    profile: (b'{"format": "powfast-profile", "version": 1, "kernels": []}',),
    fleet: (b'{"format": "powfast-fleet", "version": 1, "devices": []}',),
    settings: (b'ttl = 60\nstore = "memory://"\npaths = ["/v1/"]\n', b"bearer", b"1_0"),
    key_ring: (b'[keys.a]\nstage = "signs"\nsince = 2026-01-01T00:00:00Z\nsecret = "00"\n',),
    inline_keys: (b"a:" + KEY.hex().encode(),),
    resolver: (b"address proxies=1 ipv4=24", b"header x-user", b"certificate"),
    forwarded: (b"1.2.3.4, [::1]:80", b"::ffff:1.2.3.4%eth0"),
    traces: (_traces(),),
    reference: (_saved(_REFERENCE.save),),
    request: (b"/v1/predict\n" + SOLUTION.encode() + b"\n{}",),
}
