"""When a server asks for walks (algorithm 2, experimental) in place of SHA-256 evaluations."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum

from powfast.challenge import MIN_PART_WALKS, Receipt
from powfast.errors import InvalidInput, require_int
from powfast.puzzle import WALK_EVALUATIONS, Algorithm, default_parts


class Purpose(StrEnum):
    """What a challenge pays for."""

    OPENING = "opening"
    """A new account's fee. On probation it is part of what requests cost, so of all of these."""

    DEBT = "debt"
    """What was run and not paid for: asked for together with the price of the next request."""

    REQUEST = "request"
    """A request, or later ones that are paid ahead."""


@dataclass(frozen=True, slots=True)
class Walks:
    """What is asked for in walks. Prices stay evaluations: a walk is worth so many of them.

    Every server of a ledger needs the same `worth`: it is what a solution is credited with.

    Attributes
    ----------
    from_work : int
        Evaluations from which on walks are asked for.
    purposes : collection of Purpose
        For what; all by default.
    worth : int
        Evaluations that a walk is worth; `powfast profile answer` says it for a fleet.

    Raises
    ------
    InvalidInput
        If a field is out of its range.
    """

    from_work: int
    purposes: Collection[Purpose] = tuple(Purpose)
    worth: int = WALK_EVALUATIONS

    def __post_init__(self) -> None:
        require_int("from_work", self.from_work, 1, 2**64 - 1)
        require_int("worth", self.worth, 1, 2**32)
        if not self.purposes or not set(self.purposes) <= set(Purpose):
            raise InvalidInput(f"purposes must be some of {', '.join(Purpose)}")

    def asked(self, work: int, *may_pay: Purpose) -> tuple[int, Algorithm]:
        """Return the work of a challenge over so many evaluations, and its algorithm.

        In walks where anything that it may pay for is asked for in walks. Rounded up to whole
        walks, and never so few that verifying them, one walk for each part, costs more than a
        fiftieth of solving them.
        """
        walks = -(-work // self.worth)
        if work < self.from_work or set(may_pay).isdisjoint(self.purposes):
            return work, Algorithm.SHA256
        if walks < MIN_PART_WALKS * default_parts(walks):
            return work, Algorithm.SHA256
        return walks, Algorithm.CACHEWALK

    def on_probation(self) -> Walks:
        """Return what is asked for where requests pay the opening by and by: as their price is."""
        pays_opening = Purpose.OPENING in self.purposes
        return replace(self, purposes={*self.purposes, Purpose.REQUEST}) if pays_opening else self

    def in_evaluations(self, receipt: Receipt) -> Receipt:
        """Return a receipt whose work is in evaluations, whatever its algorithm."""
        if receipt.algorithm != Algorithm.CACHEWALK:
            return receipt
        return replace(receipt, work=receipt.work * self.worth)


NEVER = Walks(2**64 - 1, worth=1)
"""Nothing is asked for in walks."""
