"""The lab needs PyTorch: where it is absent these tests skip, in CI they fail."""

from __future__ import annotations

import os
import warnings

import pytest

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what its import says is not ours to judge
        import torch
except ImportError as error:
    if os.environ.get("CI") == "true":
        raise
    pytest.skip(f"PyTorch is not installed: {error}", allow_module_level=True)

__all__ = ["torch"]
