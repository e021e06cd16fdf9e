"""Every kind of tariff, and how to read one back."""

from __future__ import annotations

from dataclasses import fields

from powfast.errors import InvalidInput
from powfast.tariff import document
from powfast.tariff.evidence import EvidenceTariff
from powfast.tariff.iclr2022 import Iclr2022Tariff

Tariff = EvidenceTariff | Iclr2022Tariff

_KINDS: dict[str, type[Tariff]] = {kind.input: kind for kind in (EvidenceTariff, Iclr2022Tariff)}


def from_json(text: str | bytes) -> Tariff:
    """Read a tariff from its document; a calibration's document gives the tariff it chose.

    Raises
    ------
    InvalidInput
        If the document is not valid, of an unknown version or kind, or a parameter is out of
        its range.
    """
    content = document.only(document.read(text), {"input", "parameters"}, {"report", "provenance"})
    kind = _KINDS.get(content["input"]) if isinstance(content["input"], str) else None
    if kind is None:
        raise InvalidInput(f"tariff takes {content['input']!r}; known are {sorted(_KINDS)}")
    return kind(**document.only(content["parameters"], {field.name for field in fields(kind)}))
