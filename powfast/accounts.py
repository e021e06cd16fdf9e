"""Who is charged: from what a server knows of its caller to the name of an account or a group.

A name goes into tokens that the caller reads: what may be a secret, or long, is hashed. Who cannot
be told apart shares the account "anonymous".
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from powfast.errors import InvalidInput
from powfast.kernel import sha256


class SharedName(str):
    """A name that several people share: a network's, or that of whoever gives no name."""

    __slots__ = ()


ANONYMOUS = SharedName("anonymous")


class Caller(NamedTuple):
    """Who asks, in the same terms for every server.

    Attributes
    ----------
    header : callable
        From a header's name to its value, repeated ones joined by a comma; `None` without it.
    address : str or None
        Where the connection comes from, as the server sees it: a proxy's, where there is one.
    source
        What the server itself passes on: the ASGI scope, the WSGI environment, the gRPC context.
    """

    header: Callable[[str], str | None]
    address: str | None
    source: Any


Resolver = Callable[[Caller], str]
"""Names the account, or the group, of a caller."""


def name_of(identity: str | None) -> str:
    """Name who has this key, user name or subject: a hash of it; "anonymous" without one."""
    if not identity:
        return ANONYMOUS
    return sha256(identity.encode("utf-8", "surrogateescape")).hex()[:32]


def nobody(caller: Caller) -> str:
    """Name no group."""
    return ""


def account_of(authorization: str | None) -> str:
    """Name the account of an `Authorization` header's value.

    The scheme's case and the spaces around the credentials, which servers ignore, make no new one.

    Raises
    ------
    InvalidInput
        There is a comma: the header was sent more than once, see `header`.
    """
    if authorization is None or len(authorization) > _LONG:
        return _account_of(authorization)
    return _recent_account_of(authorization)


def _account_of(authorization: str | None) -> str:
    scheme, *credentials = _once("authorization", authorization).split(maxsplit=1) or [""]
    return name_of(" ".join([scheme.lower(), *credentials]).rstrip())


_LONG = 512
_recent_account_of = lru_cache(4096)(_account_of)
"""Of who asked lately, whose keys stay in the memory of the process; long ones do not fill it."""


def bearer(caller: Caller) -> str:
    """Name the account after its `Authorization` header."""
    return account_of(caller.header("authorization"))


def header(name: str) -> Resolver:
    """Name the account after a header: an API key, or the user that a proxy has established.

    A header that is to say who somebody is has to be set, or removed, by the proxy. One that is
    sent twice is refused: a framework may read either of the two, and the account would be new
    with each other one beside it.
    """
    return lambda caller: name_of(_once(name, caller.header(name)))


def _once(name: str, value: str | None) -> str:
    if value is not None and "," in value:
        raise InvalidInput(f"{name} names the account: send it once, without a comma")
    return value or ""


def certificate(header: str | None = None) -> Resolver:
    """Name the account after the subject of the client's certificate (mutual TLS).

    Parameters
    ----------
    header : str, optional
        Where the proxy that ends TLS says the subject; it has to overwrite what the client sends
        there. By default the server itself has verified the certificate: ASGI's TLS extension,
        `SSL_CLIENT_S_DN` of WSGI, or gRPC.
    """
    if header is not None:
        return lambda caller: name_of(caller.header(header))
    return lambda caller: name_of(_subject(caller.source))


def _subject(source: Any) -> str | None:
    """Return the subject as the server verified it; no request can set any of these by itself."""
    if isinstance(source, Mapping):
        if "wsgi.version" in source:
            verified = source.get("SSL_CLIENT_VERIFY", "SUCCESS") == "SUCCESS"
            return source.get("SSL_CLIENT_S_DN") if verified else None
        tls = (source.get("extensions") or {}).get("tls") or {}
        return None if tls.get("client_cert_error") else tls.get("client_cert_name")
    subjects = source.auth_context().get("x509_subject", ())
    return b", ".join(subjects).decode("utf-8", "replace")


def address(*, proxies: int = 0, ipv4: int = 24, ipv6: int = 64) -> Resolver:
    """Name the account, or group, after the network that the client's address is in.

    Parameters
    ----------
    proxies : int
        How many proxies of yours stand before the server. Each adds whom it heard from at the
        right end of `X-Forwarded-For`; what stands further left was sent by the client. Where the
        header is shorter, or has no address there, the connection's own address counts.
    ipv4, ipv6 : int
        Leading bits of an address that make one network.

    Raises
    ------
    InvalidInput
        A number is out of its range.
    """
    for name, number, most in (("proxies", proxies, 32), ("ipv4", ipv4, 32), ("ipv6", ipv6, 128)):
        if not isinstance(number, int) or not 0 <= number <= most:
            raise InvalidInput(f"{name} must be an integer in 0 .. {most}, not {number!r}")
    bits = {4: ipv4, 6: ipv6}

    def resolve(caller: Caller) -> str:
        found = _forwarded(caller, proxies) or _address(caller.address or "")
        if found is None:
            return ANONYMOUS
        return SharedName(ipaddress.ip_network((found, bits[found.version]), strict=False))

    return resolve


def _forwarded(caller: Caller, proxies: int) -> IpAddress | None:
    """Return the address that the farthest of our proxies heard from."""
    hops = (caller.header("x-forwarded-for") or "").rsplit(",", proxies)
    return _address(hops[-proxies]) if 0 < proxies <= len(hops) else None


IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def _address(text: str) -> IpAddress | None:
    """Read an address with or without port, brackets and zone; an IPv4-mapped one is IPv4."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def resolver(text: str) -> Resolver:
    """Return the resolver that a configuration names.

    One of `nobody`, `bearer`, `header NAME`, `certificate`, `certificate HEADER` and `address`,
    the last with any of `proxies=1 ipv4=24 ipv6=64` after it.

    Raises
    ------
    InvalidInput
        The text names none.
    """
    match text.split():
        case ["nobody"]:
            return nobody
        case ["bearer"]:
            return bearer
        case ["header", name]:
            return header(name)
        case ["certificate", *names] if len(names) < 2:
            return certificate(*names)
        case ["address", *options]:
            return address(**dict(map(_option, options)))
    raise InvalidInput(
        "an account or group is named by nobody, bearer, header NAME, certificate [HEADER], or"
        f" address [proxies=N] [ipv4=BITS] [ipv6=BITS], not by {text!r}"
    )


def _option(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    if name not in ("proxies", "ipv4", "ipv6") or not (value.isascii() and value.isdecimal()):
        raise InvalidInput(f"address takes proxies=N, ipv4=BITS and ipv6=BITS, not {text!r}")
    return name, int(value)
