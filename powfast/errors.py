"""Every error powfast raises, in one tree: catch `PowfastError`, or the leaf that says why.

Each class carries a `code`: a short stable word for logs, metrics and HTTP problem documents.
"""

from __future__ import annotations

from numbers import Integral


class PowfastError(Exception):
    """Base of every error that powfast raises on purpose."""

    code = "error"


# -- wrong use: the caller's program or configuration has to change


class InvalidInput(PowfastError, ValueError):
    """An argument is out of its range or has the wrong type or shape."""

    code = "invalid-input"


class MissingExtra(PowfastError, ImportError):
    """An optional dependency is not installed; the message names the extra."""

    code = "missing-extra"


class KernelError(PowfastError, RuntimeError):
    """The named kernel does not exist, or this CPU cannot run it."""

    code = "kernel"


class BrowserFailed(PowfastError, RuntimeError):
    """There is no browser to measure, or it did not bring a profile."""

    code = "browser-failed"


def require_int(name: str, value: object, low: int, high: int) -> int:
    """Return `value` if it is an integer, not a bool, in low .. high; else raise InvalidInput."""
    if type(value) is int and low <= value <= high:
        return value  # on the way of every request
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InvalidInput(f"{name} must be an integer, not {type(value).__name__}")
    number = int(value)
    if not low <= number <= high:
        raise InvalidInput(f"{name} must be in {low} .. {high}, not {number}")
    return number


# -- a refused challenge or solution: one leaf per reason


class Refused(PowfastError):
    """A token or its solution was not admitted."""

    code = "refused"


class MalformedToken(Refused):
    """The bytes are not a challenge: wrong size, tag, version or field lengths."""

    code = "malformed-token"


class UnknownKey(Refused):
    """No key of that id is in the ring."""

    code = "unknown-key"


class BadSignature(Refused):
    """The HMAC does not match: the token was altered or signed by another key."""

    code = "bad-signature"


class NotYetValid(Refused):
    """The challenge claims to be issued in the future."""

    code = "not-yet-valid"


class Expired(Refused):
    """The challenge's time is over."""

    code = "expired"


class UnsupportedAlgorithm(Refused):
    """The challenge names a puzzle algorithm that is not allowed here."""

    code = "unsupported-algorithm"


class WrongAccount(Refused):
    """The challenge was issued to another account."""

    code = "wrong-account"


class WrongRequest(Refused):
    """The challenge was issued for another request."""

    code = "wrong-request"


class MalformedSolution(Refused):
    """The solution is not one unsigned 64-bit nonce per part."""

    code = "malformed-solution"


class WrongSolution(Refused):
    """A nonce does not reach the target of its part."""

    code = "wrong-solution"


class AlreadyRedeemed(Refused):
    """The challenge was redeemed before."""

    code = "already-redeemed"


# -- solving


class TooMuchWork(PowfastError):
    """The challenge asks for more work than the solver allows."""

    code = "too-much-work"


class TooMuchTime(PowfastError):
    """Solving took longer than its owner allows."""

    code = "too-much-time"


class Declined(PowfastError):
    """The client's own policy declines the challenge."""

    code = "declined"


class Cancelled(PowfastError):
    """Solving was cancelled before a solution was found."""

    code = "cancelled"


class BodyNotReplayable(PowfastError):
    """The request has to be sent again with its solution, but its body was a stream."""

    code = "body-not-replayable"


# -- serving


class PaymentRequired(PowfastError):
    """The request has to be paid for first; carries what the gate decided."""

    code = "payment-required"


class RequestInProgress(PowfastError):
    """The same request is being answered.

    Attributes
    ----------
    retry_after : float
        Seconds after which asking again is worthwhile.
    """

    code = "in-progress"

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooManyQueries(PowfastError):
    """One request has more queries than the server answers at once."""

    code = "too-many-queries"


class UncountedQueries(TooManyQueries):
    """One request has more queries than are answered where nobody counted them before they ran."""

    code = "uncounted-queries"


class PriceTooHigh(PowfastError):
    """The request's price is above what the server answers at all."""

    code = "price-too-high"


class BodyTooLarge(PowfastError):
    """The body of a request is larger than the server reads."""

    code = "body-too-large"


class BodyTooSlow(PowfastError):
    """The body of a request did not come within the server's deadline."""

    code = "body-too-slow"


class StoreUnavailable(PowfastError):
    """A ledger or a store of held answers did not answer in time, or could not write.

    Attributes
    ----------
    retry_after : float
        Seconds after which asking again is worthwhile.
    """

    code = "store-unavailable"

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UpstreamFailed(PowfastError):
    """The model server behind a proxy did not answer, or not wholly."""

    code = "upstream-failed"


class UpstreamTimeout(UpstreamFailed):
    """The model server behind a proxy was silent for too long."""

    code = "upstream-timeout"
