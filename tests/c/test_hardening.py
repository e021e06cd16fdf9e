"""What the built modules say of their own hardening: stack protector, RELRO, BIND_NOW."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest
from conftest import missing
from toolchain import run, tool

if sys.platform != "linux":
    missing("only Linux has ELF")


@pytest.mark.parametrize("name", ["powfast._native", "powfast._capi"])
def test_modules_are_hardened(name: str) -> None:
    path = import_module(name).__file__
    assert path is not None
    assert "BIND_NOW" in run(tool("readelf"), "--wide", "--dynamic", path)
    assert "GNU_RELRO" in run(tool("readelf"), "--wide", "--program-headers", path)
    imported = run(tool("readelf"), "--wide", "--dyn-syms", path)
    assert any("UND __stack_chk_fail" in line for line in imported.splitlines())
