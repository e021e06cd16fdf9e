"""Choosing a tariff so that honest accounts keep to an overhead, and saying what it is worth."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from powfast import __version__
from powfast.errors import InvalidInput
from powfast.tariff import attacks, document
from powfast.tariff.checks import FloatArray, nonnegative_columns, number
from powfast.tariff.evidence import EvidenceTariff
from powfast.tariff.honest import (
    ACCOUNT_QUERIES,
    LENGTHS,
    SHORTEST,
    Running,
    extended,
    first,
    hottest,
    mean_logs,
    newcomers_mean,
    of_queries,
    read,
    usable,
)
from powfast.tariff.loading import from_json

# Every query as unusual as the most unusual hundredth of honest ones in every score gets about 6.
_NOMINAL = {"nominal": np.array([6.0])}

_OPENINGS = np.concatenate([[0.0], np.rint(2.0 ** np.arange(0.0, 14.5, 0.5))])
# The optimum is flat, and new honest accounts pay the opening: take the least one this close to it.
_NEARLY_BEST = 0.95

_LEVELS = (0.5, 0.95, 0.99)  # quantiles of honest accounts that are reported


class HasHashRate(Protocol):
    """A client profile or a fleet of them, as far as calibration needs one."""

    @property
    def hash_rate(self) -> float | FloatArray:
        """SHA-256 evaluations per second; of a fleet (m,), each that of equally many clients."""
        ...


@dataclass(frozen=True, eq=False)
class Calibration:
    """A chosen tariff, what it does to accounts held out from the choice, and where it comes from.

    Attributes
    ----------
    tariff : EvidenceTariff
    report : dict
        Figures as JSON values. An honest account's overhead is (service + solving time) / service
        time; an attack's is its time per useful query, ordinary ones included, in service times.
    provenance : dict
        Arguments, software version and digests of the evidence.
    """

    tariff: EvidenceTariff
    report: dict[str, Any]
    provenance: dict[str, Any]

    def to_json(self) -> str:
        """Return the tariff's document with report and provenance; `from_json` reads either."""
        content = document.read(self.tariff.to_json())
        return document.write({**content, "report": self.report, "provenance": self.provenance})

    @classmethod
    def from_json(cls, text: str | bytes) -> Calibration:
        """Read what `to_json` wrote.

        Raises
        ------
        InvalidInput
            If the document is not valid, or lacks report or provenance.
        """
        content = document.only(
            document.read(text), {"input", "parameters", "report", "provenance"}
        )
        tariff = from_json(text)
        if not isinstance(tariff, EvidenceTariff):
            raise InvalidInput(f"a calibration is of the evidence tariff, not {tariff.input!r}")
        return cls(tariff, content["report"], content["provenance"])


def calibrate(
    honest: Iterable[npt.ArrayLike],
    *,
    service_time: float,
    hash_rate: float | None = None,
    profile: HasHashRate | None = None,
    max_overhead: float = 2.0,
    quantile: float = 0.99,
    max_opening: float = 10.0,
    probation: bool = True,
    suspicious: Mapping[str, npt.ArrayLike] | Sequence[npt.ArrayLike] | None = None,
    seed: int = 0,
) -> Calibration:
    """Choose base and opening work: the best split pays most while honest accounts keep within.

    One half of the accounts chooses, the other half is reported on. On probation nobody pays the
    opening in peace, so that base works have the whole overhead, from an account's first query on,
    and the opening is what `max_opening` allows; the evidence of newcomers may average what that of
    nineteen in twenty accounts does at most. Without, every account pays the opening: its size in
    base prices then depends on the evidence alone, and service time and hash rate scale both works.

    Parameters
    ----------
    honest : iterable of (n_i,) or (n_i, 2) array_like
        Evidence of one honest account each, in order; a second column is account evidence, which
        the tariff then uses. The overhead is that of all its queries so
        far when it is highest, from the 1000th on: a shorter account is continued by draws from
        its own; one of fewer than 50 is left out.
    service_time : float
        Seconds of the bare call per query.
    hash_rate, profile : float, or ClientProfile or Fleet
        SHA-256 evaluations per second of the clients whose time is counted; exactly one of them.
        Of a fleet, every account is counted on every device, by weight, and extractors on the
        fastest one.
    max_overhead : float
        Bound on (service + solving time) / service time of a whole account; above 1.
    quantile : float
        Share of honest accounts that keep within; in (0, 1).
    max_opening : float
        Seconds that the opening takes the slowest client, on probation: what an honest newcomer
        pays once while somebody extracts with fresh accounts. Ten by default: as long as people
        wait for one answer.
    probation : bool
        Whether new accounts are on probation, see `EvidenceTariff`.
    suspicious : mapping or sequence of (n,) array_like, optional
        Evidence of extractors, by name. The geometric mean of their best splits is maximised;
        without any, that of an extractor whose every query has evidence 6. Where honest accounts
        have account evidence, (n, 2) are one account's queries in order, and of (n,) account
        evidence sees nothing; nor, it is assumed, of a dilution.
    seed : int
        Of the division into halves and of all draws.

    Raises
    ------
    InvalidInput
        If an argument is out of its range, fewer than two accounts are left, or the bound cannot
        be kept with at least one evaluation per query.
    """
    if (hash_rate is None) == (profile is None):
        raise InvalidInput("give either hash_rate or profile")
    rates = _hash_rates(hash_rate if profile is None else profile.hash_rate)
    rate, slowness = float(rates[-1]), rates[-1] / rates
    seconds = number(service_time, "service_time", 1e-12)
    max_overhead = number(max_overhead, "max_overhead", 1.0 + 1e-9)
    quantile = number(quantile, "quantile", 1e-9, 1.0 - 1e-9)
    max_opening = number(max_opening, "max_opening", 0.0)
    rng = np.random.default_rng(seed)

    accounts = read(honest)
    long_enough = usable(accounts, least=2)
    uses_accounts = long_enough[0].ndim == 2
    extractors = _named(suspicious, uses_accounts)
    whole = [extended(long_enough[i], rng) for i in rng.permutation(len(long_enough))]
    chosen_on, held_out = whole[::2], whole[1::2]

    running = Running(chosen_on)
    opening = 0.0 if probation else _best_opening(running, slowness, extractors, quantile, seed)
    affordable = (max_overhead - 1.0) * seconds * rate
    means = [running.highest(opening)]
    if probation:
        means += [first(chosen_on, queries) for queries in LENGTHS if queries < ACCOUNT_QUERIES]
    price = max(_high_quantile(mean, quantile) for mean in means)
    slow_price = max(_high_quantile(mean[:, None] * slowness, quantile) for mean in means)
    base_work = math.floor(affordable / slow_price)
    if base_work < 1:
        raise InvalidInput(
            f"no base work of at least one evaluation keeps the overhead within {max_overhead:g}: "
            "honest accounts are priced as extractors, so they do not look like the reference"
        )
    if probation:
        opening = math.floor(max_opening * float(rates[0])) / base_work
    tariff = EvidenceTariff(
        float(base_work),
        opening * base_work,
        probation=probation,
        honest_mean=newcomers_mean(chosen_on) if probation else 1.0,
        account_evidence=uses_accounts,
    )

    per_base_price = base_work / (seconds * rate)
    pool = of_queries(np.concatenate(long_enough))
    report = {
        "opening_in_base_prices": opening,
        "honest": _honest_report(held_out, tariff, per_base_price, max_overhead, rng, rates),
        "attacks": {
            name: _attack_report(tariff, evidence, pool, per_base_price, seed)
            for name, evidence in extractors.items()
        },
        "warnings": [
            *_warnings(len(accounts), len(long_enough), len(chosen_on), quantile),
            *_misfit(_high_quantile(running.highest(0.0), quantile), quantile),
        ],
    }
    provenance = {
        "powfast": __version__,
        "service_time": seconds,
        "hash_rate": rate * price / slow_price,  # one client for whom the same tariff follows
        "hash_rates": {"slowest": float(rates[0]), "fastest": rate},
        "max_overhead": max_overhead,
        "quantile": quantile,
        "max_opening": max_opening,
        "seed": seed,
        "honest_accounts": len(accounts),
        "chosen_on_accounts": len(chosen_on),
        "honest_queries": sum(map(len, accounts)),
        "honest_sha256": _digest(accounts),
        "honest_mean_log_evidence": mean_logs(long_enough),
        "suspicious_sha256": {name: _digest([values]) for name, values in extractors.items()},
    }
    return Calibration(tariff, report, provenance)


def _hash_rates(given: Any) -> FloatArray:
    """Slowest first, one where all are alike."""
    rates = np.sort([number(rate, "hash_rate", 1e-9) for rate in np.atleast_1d(given)])
    if not len(rates):
        raise InvalidInput("a fleet must have devices")
    return rates if rates[0] < rates[-1] else rates[:1]


def _named(
    suspicious: Mapping[str, npt.ArrayLike] | Sequence[npt.ArrayLike] | None,
    uses_accounts: bool,
) -> dict[str, FloatArray]:
    if suspicious is None:
        suspicious = _NOMINAL
    if not isinstance(suspicious, Mapping):
        suspicious = {f"extractor {i}": evidence for i, evidence in enumerate(suspicious, 1)}
    named = {
        name: _with_columns(nonnegative_columns(evidence, f"evidence of {name}"), uses_accounts)
        for name, evidence in suspicious.items()
    }
    if not named or not all(map(len, named.values())):
        raise InvalidInput("suspicious must hold at least one extractor, each with queries")
    return named


def _with_columns(evidence: FloatArray, uses_accounts: bool) -> FloatArray:
    if uses_accounts and evidence.ndim == 1:
        return np.stack([evidence, np.ones_like(evidence)], axis=1)
    if not uses_accounts and evidence.ndim == 2:
        raise InvalidInput(
            "extractors have account evidence, a second column, honest accounts none"
        )
    return evidence


def _best_opening(
    running: Running,
    slowness: FloatArray,
    extractors: dict[str, FloatArray],
    quantile: float,
    seed: int,
) -> float:
    splits = [attacks.split(evidence, seed) for evidence in extractors.values()]
    worth = np.array(
        [
            np.exp(np.mean([np.log(split.best(opening)) for split in splits]))
            / _high_quantile(running.highest(opening)[:, None] * slowness, quantile)
            for opening in _OPENINGS
        ]
    )
    return float(_OPENINGS[np.argmax(worth >= _NEARLY_BEST * worth.max())])


def _high_quantile(values: FloatArray, quantile: float) -> float:
    return float(np.quantile(values, quantile, method="higher"))


def _honest_report(
    accounts: list[FloatArray],
    tariff: EvidenceTariff,
    per_base_price: float,
    max_overhead: float,
    rng: np.random.Generator,
    rates: FloatArray,
) -> dict[str, Any]:
    """Figures over all accounts on all devices; `per_base_price` is that of the fastest one."""
    per_device = per_base_price * rates[-1] / rates
    opening = tariff.opening_work / tariff.base_work
    always = 0.0 if tariff.probation else opening
    overhead = 1.0 + Running(accounts).highest(always)[:, None] * per_device

    def of_first(queries: int, opening: float) -> dict[str, float]:
        values = 1.0 + first(accounts, queries, opening)[:, None] * per_device
        return {f"{q:.0%}": _high_quantile(values, q) for q in _LEVELS}

    drawn = rng.choice(len(accounts), (1000, len(accounts)))
    resampled = np.array([np.quantile(overhead[row], _LEVELS, method="higher") for row in drawn])
    quantiles = {}
    for q, values in zip(_LEVELS, resampled.T, strict=True):
        low, high = np.quantile(values, [0.025, 0.975])
        quantiles[f"{q:.0%}"] = {
            "overhead": _high_quantile(overhead, q),
            "interval_95%": [float(low), float(high)],
        }
    report = {
        "held_out_accounts": len(accounts),
        "quantiles": quantiles,
        "first_queries": {
            str(n): {"peace": of_first(n, always), "attack": of_first(n, opening)} for n in LENGTHS
        },
        "share_above_max_overhead": float(np.mean(overhead > max_overhead)),
    }
    if tariff.probation:
        report["newcomers"] = {
            "mean_evidence": float(np.concatenate(accounts).mean()),
            "honest_mean": tariff.honest_mean,
            "highest_price": hottest(tariff, accounts, rng),
        }
    if len(rates) > 1:
        tenth = max(1, len(rates) // 10)
        report["slowest_tenth_of_devices"] = {
            "highest_hash_rate": float(rates[tenth - 1]),
            "overhead": {f"{q:.0%}": _high_quantile(overhead[:, :tenth], q) for q in _LEVELS},
        }
    return report


def _attack_report(
    tariff: EvidenceTariff,
    evidence: FloatArray,
    honest: FloatArray,
    per_base_price: float,
    seed: int,
) -> dict[str, Any]:
    opening = tariff.opening_work / tariff.base_work
    split = attacks.split(evidence, seed)
    ways = [split, *attacks.diluted(evidence, float(np.quantile(honest, 0.01)), seed)]

    def report(work: float, time: Callable[[float], float]) -> dict[str, Any]:
        """Work in base prices; time in service times, where a base price is so many of them."""
        return {
            "base_prices": work,
            "overhead": time(per_base_price),
            "overhead_at_hash_rate": {
                f"{faster}x": time(per_base_price / faster) for faster in (10, 100, 1000)
            },
        }

    alone = attacks.single(tariff, evidence, seed)
    return {
        "one_account": report(alone, lambda price: 1.0 + price * alone),
        "best_split": report(
            split.best(opening), lambda price: price * split.best(opening, 1.0 / price)
        ),
        "best_dilution": report(
            min(way.best(opening) for way in ways),
            lambda price: price * min(way.best(opening, 1.0 / price) for way in ways),
        ),
    }


def _warnings(given: int, used: int, chosen_on: int, quantile: float) -> list[str]:
    warnings = []
    if used < given:
        warnings.append(f"{given - used} accounts of fewer than {SHORTEST} queries were left out")
    needed = math.ceil(round(1.0 / (1.0 - quantile), 6))
    if chosen_on < needed:
        warnings.append(
            f"{chosen_on} accounts cannot support the {quantile:.4g} quantile: "
            f"it needs at least {needed} in each half"
        )
    return warnings


def _misfit(price: float, quantile: float) -> list[str]:
    if price <= 2.0:
        return []
    return [
        f"the {quantile:.4g} quantile of honest accounts pays {price:.3g} base prices a query: "
        "their queries do not look like the reference, and everybody's base price is low for it"
    ]


def _digest(arrays: list[FloatArray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(len(array).to_bytes(8, "little"))
        digest.update(array.astype("<f8").tobytes())
    return digest.hexdigest()
