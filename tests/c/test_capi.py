"""The C ABI through cffi: every function of the header is there, and accounts are kept alike."""

from __future__ import annotations

import re

from conftest import ROOT

from powfast import _capi
from powfast.stores import MemoryLedger
from powfast.stores.base import Limits, tag_of
from powfast.tariff import EvidenceTariff
from powfast.tariff.evidence import LAMBDAS, WEALTH_CAP

ffi, lib = _capi.ffi, _capi.lib

NOW = 1_800_000_000.0
RUN = bytes(range(16))
EVIDENCE = [9.0, 0.5, 30.0]
TARIFF = EvidenceTariff(1000.0, 50_000.0)


def test_every_function_of_the_header_can_be_called():
    header = (ROOT / "csrc/include/powfast.h").read_text()
    text = re.sub(
        r"/\*.*?\*/", "", header.split("cdef: begin")[1].split("cdef: end")[0], flags=re.S
    )
    functions = re.findall(r"\b(powfast_\w+)\(", text)
    assert len(functions) == len(set(functions)) > 30
    assert all(callable(getattr(lib, name)) for name in functions)


def test_an_account_is_kept_as_a_ledger_keeps_it():
    bets = ffi.new("double[]", list(LAMBDAS))
    tariff = ffi.new("powfast_tariff *", {
        "base_work": TARIFF.base_work, "max_work": TARIFF.max_work,
        "opening_work": TARIFF.opening_work, "step": TARIFF.step, "wealth_cap": WEALTH_CAP,
        "credit_limit": TARIFF.credit_limit, "honest_mean": TARIFF.honest_mean,
        "bets": bets, "bet_count": len(LAMBDAS), "probation": TARIFF.probation,
    })  # fmt: skip
    limits = ffi.new("powfast_limits *", [8.0, float("inf"), 10.0])
    account, pool, request, spent = (
        ffi.new(f"powfast_{name} *") for name in ("account", "account", "request", "spent")
    )
    work, due, price = (ffi.new("double *") for _ in range(3))
    run = ffi.new("uint8_t[16]", RUN)
    ledger = MemoryLedger(TARIFF, clock=lambda: NOW)

    def enter() -> tuple[int, float]:
        verdict = lib.powfast_enter(
            work, run, account, ffi.NULL, pool, request, ffi.NULL, 0, 0, tariff, limits, 1, NOW
        )
        return verdict, work[0]

    def redeem(work: int) -> tuple[int, float]:
        verdict = lib.powfast_redeem(due, account, request, spent, tariff, work)
        return verdict, due[0]

    lib.powfast_account_age(account, 0.0, 0, NOW)
    lib.powfast_request_recall(request, account)
    assert enter() == ledger.enter("a", "", b"1", RUN, Limits(8.0, float("inf"), 10.0))[:2]
    assert redeem(60_000)[0] == ledger.redeem("a", "", b"1", b"1" * 16, NOW + 1, 60_000)[0]
    assert enter() == ledger.enter("a", "", b"1", RUN, Limits(8.0, float("inf"), 10.0))[:2]
    evidence = ffi.new("double[]", EVIDENCE)
    tag = ffi.new("uint8_t[8]", tag_of(EVIDENCE))
    status = lib.powfast_charge(
        due,
        price,
        account,
        ffi.NULL,
        pool,
        request,
        ffi.NULL,
        tariff,
        run,
        tag,
        evidence,
        3,
        ffi.NULL,
        ffi.NULL,
    )
    assert status == lib.POWFAST_OK
    charged = ledger.charge("a", "", b"1", RUN, EVIDENCE)
    assert (due[0], price[0], account.balance) == charged[:3]
    assert redeem(10**9)[0] == ledger.redeem("a", "", b"1", b"2" * 16, NOW + 1, 10**9)[0]
    record = ledger.account("a")
    assert record is not None
    assert [*account.state] == record.state.tolist()
    assert (account.balance, account.unpaid) == (record.balance, record.unpaid_runs)
