"""What a calibration is worth, in words that a person can act on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from powfast.tariff.calibration import Calibration

_SLOW = 1.67  # 99 % quantile over mean of the time for 16 parts: a Gamma(16) variable
_NAMED = 5  # attacks and classes that a sentence names

CLEARLY = 1.5
"""Times what honest accounts pay, from which on an attack is called dearer than honest use."""


@dataclass(frozen=True)
class Verdict:
    """Which attacks the tariff makes dearer than honest use, and what is in the way of more.

    Attributes
    ----------
    attacks : dict
        What each attack pays in the way that is cheapest for it, over what honest accounts pay
        at the highest quantile reported. From `CLEARLY` on it is defended.
    assumed : bool
        No attack was measured: the only one is that of the calibration's assumption.
    missing : dict
        Honest queries that are missing, by class.
    opening_seconds : float
        What the opening fee takes the slowest client, in 99 of 100 cases.
    lifetime : float
        Seconds that a challenge lives.
    longest_opening : float
        Evaluations that the slowest client finishes within `lifetime`, in 99 of 100 cases.
    """

    attacks: dict[str, float]
    assumed: bool
    missing: dict[int, int]
    opening_seconds: float
    lifetime: float
    longest_opening: float

    @property
    def defended(self) -> list[str]:
        """Names of the attacks that pay clearly more than honest accounts do."""
        return [name for name, multiple in self.attacks.items() if multiple >= CLEARLY]

    @property
    def undefended(self) -> list[str]:
        """Names of the attacks that do not."""
        return [name for name, multiple in self.attacks.items() if not multiple >= CLEARLY]

    @property
    def separates(self) -> bool:
        """Whether any attack pays more than honest accounts do."""
        return bool(self.defended)

    @property
    def openable(self) -> bool:
        """Whether the slowest client pays the opening before its challenge is over."""
        return self.opening_seconds <= self.lifetime

    def to_dict(self) -> dict[str, Any]:
        """Return everything as one flat object for JSON."""
        return {
            "separates": self.separates,
            "assumed": self.assumed,
            "defended": self.defended,
            "undefended": self.undefended,
            **{f"times_honest: {name}": multiple for name, multiple in self.attacks.items()},
            "honest_queries_missing": sum(self.missing.values()),
            **{f"missing: class {name}": count for name, count in self.missing.items()},
            "opening_seconds_slowest": self.opening_seconds,
            "challenge_seconds": self.lifetime,
            "longest_opening": self.longest_opening,
            "openable": self.openable,
        }

    def __str__(self) -> str:
        lines = []
        if not self.separates:
            lines.append("Nothing is defended: no attack pays more than honest users do.")
        elif self.assumed:
            lines.append(
                "No attack was measured: it is assumed that evidence of an extractor's query is 6. "
                "Give suspicious samples, or what powfast.leakage.stress_evidence makes."
            )
        elif self.undefended:
            lines.append(f"Not defended, at honest prices: {_some(self.undefended)}.")
        if self.defended and not self.assumed:
            dearer = [f"{name} ({self.attacks[name]:.3g}x)" for name in self.defended]
            lines.append(f"Defended, dearer than honest use: {_some(dearer)}.")
        if self.missing:
            most = sorted(self.missing, key=lambda name: -self.missing[name])
            named = [f"class {name} ({self.missing[name]})" for name in most]
            lines.append(f"Honest queries missing: {sum(self.missing.values())}, {_some(named)}.")
        lines.append(
            f"The opening takes the slowest client {self.opening_seconds:.3g} s; "
            f"a challenge lives {self.lifetime:.3g} s, enough for {self.longest_opening:.3g} "
            "evaluations" + ("." if self.openable else ": it cannot open an account.")
        )
        return "\n".join(lines)


def judge(
    calibration: Calibration,
    *,
    missing: Mapping[int, int] | None = None,
    lifetime: float = 120.0,
) -> Verdict:
    """Judge a calibration, attack by attack.

    Parameters
    ----------
    calibration : Calibration
    missing : mapping, optional
        Honest queries that are missing by class, as `LeakageEstimator.missing` counts them.
    lifetime : float
        Seconds that a challenge lives, the issuer's `ttl`.
    """
    report, provenance = calibration.report, calibration.provenance
    usual = max(found["overhead"] for found in report["honest"]["quantiles"].values())
    attacks = {
        name: min(way["overhead"] for way in ways.values()) / usual
        for name, ways in report["attacks"].items()
    }
    slowest = provenance["hash_rates"]["slowest"] / _SLOW
    return Verdict(
        attacks,
        assumed=set(provenance["suspicious_sha256"]) == {"nominal"},
        missing=dict(missing or {}),
        opening_seconds=calibration.tariff.opening_work / slowest,
        lifetime=lifetime,
        longest_opening=slowest * lifetime,
    )


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
