"""One user or extractor over HTTP: asks the bare and the guarded service the same."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import Literal

import httpx
import numpy as np

from powfast.challenge import Challenge
from powfast.clients.httpx import PowAuth
from powfast.demo.data import Images
from powfast.demo.extractors import Probabilities
from powfast.errors import TooMuchWork
from powfast.http import RECEIPT_HEADER


@dataclass
class Row:
    """What one user or extractor got, and what it cost."""

    name: str
    kind: Literal["honest", "extractor"]
    accounts: int = 0
    queries: int = 0
    accuracy: float | None = None
    fidelity: float | None = None
    mean_leakage: float = 0.0  # mean evidence: at most about 1 where honest
    work: int = 0
    seconds: float = 0.0
    undefended_seconds: float = 0.0
    multiple: float = 0.0
    solved: Literal["all", "part"] = "all"
    curve: list[dict[str, float]] = field(default_factory=list)


def redeemed(answer: httpx.Response) -> int:
    """Return the work that came with a request, as its receipt says."""
    said = _WORK.match(answer.headers.get(RECEIPT_HEADER, ""))
    return int(said[1]) if said else 0


_WORK = re.compile(r"work=(\d+)")


def _is_of_a_request(challenge: Challenge) -> bool:
    """Decline what is solved ahead: the table compares prices, and not what is left of credit."""
    return challenge.request != b""


class Caller:
    """Keeps one row's account of time and work.

    Parameters
    ----------
    url : str
        Where both services are.
    row : Row
        Where the costs are noted.
    hash_rate : float
        Evaluations a second, to turn the work that is not solved into seconds.
    budget : float
        Seconds of calls whose challenges are solved. Beyond it the price is read from the
        challenge, and the answer is taken from the bare service.
    account_size : int, optional
        Queries of one account, for who splits them over many; one account by default.
    """

    def __init__(
        self, url: str, row: Row, *, hash_rate: float, budget: float, account_size: int | None
    ) -> None:
        self._http = httpx.Client(base_url=url, timeout=600.0)
        self._row = row
        self._hash_rate = hash_rate
        self._left = budget
        self._account_size = account_size

    def ask(self, images: Images) -> Probabilities:
        """Send images (n, 64) to both services and return the answered probabilities (n, 10)."""
        row = self._row
        started = time.perf_counter()
        bare = self._post("/bare/predict", images)
        row.undefended_seconds += time.perf_counter() - started
        row.queries += len(images)
        size = self._account_size or len(images)
        for start in range(0, len(images), size):
            if self._account_size or not row.accounts:
                row.accounts += 1
            self._pay(images[start : start + size])
        return np.asarray(bare.json())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _pay(self, images: Images) -> None:
        row = self._row
        affordable = max(1, int(min(self._left * self._hash_rate, 2.0**62)))
        solving = 0.0
        started = time.perf_counter()
        try:
            auth = PowAuth(max_work=affordable, policy=_is_of_a_request)
            work = redeemed(self._post("/v1/predict", images, auth).raise_for_status())
        except TooMuchWork:
            row.solved = "part"
            work = self._post("/v1/predict", images).json()["work"]
            solving = work / self._hash_rate
        elapsed = time.perf_counter() - started
        self._left -= elapsed
        row.work += work
        row.seconds += elapsed + solving

    def _post(self, path: str, images: Images, auth: httpx.Auth | None = None) -> httpx.Response:
        key = re.sub(r"[ ,]+", "-", f"{self._row.name} {self._row.accounts}")
        response = self._http.post(
            path,
            json={"images": images.tolist()},
            headers={"authorization": f"Bearer {key}"},
            auth=auth or httpx.Auth(),
        )
        if response.status_code != 402:
            response.raise_for_status()
        return response
