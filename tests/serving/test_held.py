"""Held answers: bounded in number, bytes and time, per account and in all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powfast.errors import TooManyUnpaid
from powfast.held import HeldAnswers


def hold(held: HeldAnswers, account: str, digest: bytes, size: int = 1) -> None:
    held.reserve(account, digest)
    held.fill(account, digest, 1, f"{account} {digest!r}", size)


def test_an_answer_is_released_once() -> None:
    held = HeldAnswers()
    hold(held, "a", b"1")
    assert held.reserve("a", b"1").work == 1
    assert held.release("b", b"1") is None
    assert held.release("a", b"1") == "a b'1'"
    assert held.release("a", b"1") is None
    assert held.reserve("a", b"1").work == 0


def test_places_are_bounded_per_account_and_in_all() -> None:
    held = HeldAnswers(per_account=2, in_all=3)
    hold(held, "a", b"1")
    held.reserve("a", b"2")  # a running request counts as well
    with pytest.raises(TooManyUnpaid, match="2 answers wait"):
        held.reserve("a", b"3")
    hold(held, "a", b"1")  # asking again takes no further place
    hold(held, "b", b"1")
    with pytest.raises(TooManyUnpaid, match="server"):
        held.reserve("c", b"1")
    held.release("b", b"1")
    held.reserve("c", b"1")


def test_an_answer_that_does_not_fit_keeps_its_price() -> None:
    held = HeldAnswers(account_bytes=10, all_bytes=15)
    hold(held, "a", b"1", 8)
    hold(held, "a", b"2", 8)
    hold(held, "b", b"1", 8)
    assert held.reserve("a", b"2").work == 1
    assert held.release("a", b"2") is None
    assert held.release("b", b"1") is None
    assert held.release("a", b"1") is not None
    hold(held, "b", b"1", 8)
    assert held.release("b", b"1") is not None


def test_answers_expire_in_order_and_asking_again_renews_them() -> None:
    now = [0.0]
    held = HeldAnswers(lifetime=10.0, clock=lambda: now[0])
    for now[0], digest in ((0.0, b"1"), (1.0, b"2"), (2.0, b"3")):
        hold(held, "a", digest)
    now[0] = 5.0
    held.reserve("a", b"1")
    now[0] = 11.5
    assert len(held) == 2
    assert held.release("a", b"2") is None
    assert held.release("a", b"1") is not None


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["reserve", "fill", "release", "wait"]),
            st.sampled_from("abc"),
            st.sampled_from([b"1", b"2", b"3"]),
            st.integers(0, 12),
        )
    )
)
def test_limits_hold_in_any_order(steps: list[tuple[str, str, bytes, int]]) -> None:
    now = [0.0]
    held = HeldAnswers(
        lifetime=20.0,
        per_account=2,
        in_all=4,
        account_bytes=10,
        all_bytes=15,
        clock=lambda: now[0],
    )
    for step, account, digest, amount in steps:
        if step == "reserve":
            try:
                held.reserve(account, digest)
            except TooManyUnpaid:
                assert len(held) >= 2
        elif step == "fill":
            held.fill(account, digest, 1, "answer", amount)
        elif step == "release":
            held.release(account, digest)
        else:
            now[0] += amount
        assert len(held) <= 4
        assert 0 <= held.size <= 15
    now[0] += 100.0
    assert (len(held), held.size) == (0, 0)
