"""Libraries that only some tests need: absent they skip, in CI they fail."""

from __future__ import annotations

import importlib
import os
import warnings

import pytest


def needs(*names):
    """Import modules for the module that calls; skip it, or in CI fail, where one is missing."""
    modules = []
    for name in names:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what their imports say is not ours to judge
                modules.append(importlib.import_module(name))
        except ImportError as error:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(f"{name} is not installed: {error}", allow_module_level=True)
    return modules if len(modules) > 1 else modules[0]
