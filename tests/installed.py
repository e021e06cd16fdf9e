"""Run with a bare installation of the wheel: numpy and cffi, and none of the extras."""

from __future__ import annotations

import sys
from pathlib import Path

import powfast
from powfast.errors import MissingExtra

installed = Path(powfast.__file__).parent
assert "site-packages" in installed.parts, f"imported from {installed}, not from the wheel"
for place in ("include/powfast.h", "lib/pkgconfig/powfast.pc"):
    assert (installed / place).is_file(), place
assert Path(powfast.get_library()).is_file()
assert (installed / "py.typed").is_file()
assert (installed / "web" / "powfast.wasm").is_file()

issuer = powfast.Issuer({"a": bytes(range(32))})
token = issuer.issue(work=50_000, account="alice")
solution = powfast.solve(token)
assert powfast.verify(token, solution)
assert issuer.redeem(token, solution, account="alice").work == 50_000

for extra, module in {
    "server": "powfast.servers.fastapi",
    "client": "powfast.clients.httpx",
}.items():
    try:
        __import__(module)
    except MissingExtra as error:
        assert f"powfast[{extra}]" in str(error)
    else:
        raise AssertionError(f"{module} has to ask for the extra {extra}")
assert "numba" not in sys.modules
print("the wheel works")
