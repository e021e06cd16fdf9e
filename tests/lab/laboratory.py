"""The lab needs PyTorch, before its own modules are imported."""

from __future__ import annotations

from conftest import needs

torch = needs("torch")
