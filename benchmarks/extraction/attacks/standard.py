"""Standard extraction: random queries from the distribution that the model was made for."""

from __future__ import annotations

from benchmarks.extraction.attacks.base import Selection


class Standard(Selection):
    """Asks about what it owns, in random order."""

    name = "Standard"
    source = "Tramèr et al. 2016"
