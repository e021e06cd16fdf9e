"""Attacks on powfast itself, through the real gate: merging, bursts, abandoning, replays."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from benchmarks.extraction.data import Images
from benchmarks.extraction.service import BATCH, Service
from benchmarks.extraction.victims import Victim
from powfast.clients.flow import Payer
from powfast.tariff import EvidenceTariff

_BASE_WORK = 256.0  # enough for whole prices, little enough to be solved
_STEEP = EvidenceTariff(_BASE_WORK, 10 * _BASE_WORK, probation=False)
_CHEAP = replace(_STEEP, max_work=2.0**16)
_COPIES = 64


@dataclass(frozen=True)
class Evasion:
    """What was tried, what was counted, what came out, and what an evasion would have shown."""

    tried: str
    counted: str
    measured: float
    honest: float
    evaded: bool


def evasions(victim: Victim, strange: Images, usual: Images) -> list[dict[str, Any]]:
    """Try each on the victim behind its gate; strange and usual images, 640 each at least."""
    tried: tuple[Callable[[Victim, Images, Images], Evasion], ...] = (
        merged,
        burst,
        abandoned,
        never_opened,
        asked_again,
        replayed,
        passed_on,
        nobody_elses,
    )
    return [asdict(attempt(victim, strange, usual)) for attempt in tried]


def merged(victim: Victim, strange: Images, usual: Images) -> Evasion:
    """640 strange queries as 64 requests, over the same as one."""
    whole = _opened(victim, _STEEP).ask(strange[:640]).work
    service = _opened(victim, _STEEP)
    parts = sum(service.ask(part).work for part in np.split(strange[:640], 64))
    return _kept(
        "a batch merged from 64 requests", "work of one request over that of 64", whole / parts
    )


def burst(victim: Victim, strange: Images, usual: Images) -> Evasion:
    """64 requests at once, over the same in sequence."""
    parts = np.split(strange[:640], _COPIES)
    service, serial = _opened(victim, _STEEP), _opened(victim, _STEEP)
    in_sequence = sum(serial.ask(part).work for part in parts)
    with ThreadPoolExecutor(16) as pool:
        at_once = sum(reply.work for reply in pool.map(service.ask, parts))
    return _kept("64 requests at once", "their work over that of a sequence", at_once / in_sequence)


def abandoned(victim: Victim, strange: Images, usual: Images) -> Evasion:
    """The price of one query after 40 that were paid for, over 40 whose challenges were left."""
    left, paid = _opened(victim, _CHEAP), _opened(victim, _CHEAP)
    for part in np.split(strange[:40], 8):
        left.ask(part)
        paid.paid(part)
    last = usual[:10]
    return _kept(
        "challenges abandoned to sample prices",
        "the next price over that of an account that paid",
        left.ask(last).work / paid.ask(last).work,
    )


def never_opened(victim: Victim, strange: Images, usual: Images) -> Evasion:
    """The price of a new account's fifth request after four challenges left, over the first."""
    service = Service(victim, _CHEAP)
    prices = [service.ask(part).work for part in np.split(usual[:50], 5)]
    return _kept(
        "an opening abandoned",
        "the price of the fifth request over the first",
        prices[-1] / prices[0],
    )


def asked_again(victim: Victim, strange: Images, usual: Images) -> Evasion:
    """The price of the same request, asked ten times."""
    service = _opened(victim, _STEEP)
    prices = [service.ask(strange[:BATCH]).work for _ in range(10)]
    return _kept(
        "the same request asked ten times", "highest price over the first", max(prices) / prices[0]
    )


def replayed(victim: Victim, strange: Images, usual: Images) -> Evasion:
    """64 copies of one paid request at once: how many answers they get, of which all may be one."""
    service = _opened(victim, _CHEAP, "payer")
    solution = _solved(service, usual[:BATCH], "payer")
    with ThreadPoolExecutor(16) as pool:
        replies = list(
            pool.map(lambda _: service.ask(usual[:BATCH], "payer", solution), range(_COPIES))
        )
    return _kept(
        "one solution sent 64 times at once",
        "different answers given",
        float(len({reply.body for reply in replies if reply.status == 200})),
    )


def passed_on(victim: Victim, strange: Images, usual: Images) -> Evasion:
    """A solution used by another account, and for another request: how many answers."""
    service = _opened(victim, _CHEAP, "payer")
    solution = _solved(service, usual[:BATCH], "payer")
    replies = [
        service.ask(usual[:BATCH], "friend", solution),
        service.ask(strange[:BATCH], "payer", solution),
    ]
    answers = sum(reply.status == 200 for reply in replies)
    return Evasion(
        "a solution passed to another account, or to another request",
        "answers given",
        float(answers),
        0.0,
        answers > 0,
    )


def nobody_elses(victim: Victim, strange: Images, usual: Images) -> Evasion:
    """A user's price after an extractor's 640 queries, over the same without them."""
    shared, alone = _opened(victim, _STEEP), _opened(victim, _STEEP)
    shared.open("extractor")
    shared.ask(strange[:640], "extractor")
    ratio = shared.ask(usual[:BATCH], "user").work / alone.ask(usual[:BATCH], "user").work
    return _kept("an extractor makes others pay", "a user's price over that without it", ratio)


def _opened(victim: Victim, tariff: EvidenceTariff, account: str = "user") -> Service:
    service = Service(victim, tariff)
    service.open(account)
    return service


def _kept(tried: str, counted: str, measured: float) -> Evasion:
    """One is what nobody gains from; the published work is rounded by an eighth at most."""
    return Evasion(tried, counted, measured, 1.0, not 0.875 <= measured <= 1.125)


def _solved(service: Service, images: Images, account: str) -> str:
    solution = Payer().answer(service.ask(images, account))
    assert solution is not None
    return solution
