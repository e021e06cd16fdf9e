"""Who is charged: from what a server knows of its caller to the name of an account or a group.

A name goes into tokens that the caller reads: what may be a secret, or long, is hashed. Who cannot
be told apart shares the account "anonymous".
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from powfast.errors import InvalidInput, MissingExtra
from powfast.kernel import sha256, sha256_of_fields


class SharedName(str):
    """The name of an account, or a group, that people share who do not know each other.

    None of them reads an answer that was held for another, and what one of them has done weighs
    less on the others as time goes by.
    """

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
    return sha256(identity.encode("utf-8", "surrogatepass")).hex()[:32]


def nobody(caller: Caller) -> str:
    """Name no group."""
    return ""


def account_of(authorization: str | None) -> str:
    """Name the account of an `Authorization` header's value.

    What servers take for the same credentials is one account: the scheme in any case, and any
    spaces around the token. What some of them ignore is refused, for the account would be new with
    each piece of it.

    Raises
    ------
    InvalidInput
        It is not a scheme and one token in printable ASCII, or after "Basic" not canonical base64;
        or there is a comma: the header was sent more than once, see `header`.
    """
    if authorization is None or len(authorization) > _LONG:
        return _account_of(authorization)
    return _recent_account_of(authorization)


def _account_of(authorization: str | None) -> str:
    scheme, token = _credentials(authorization)
    return name_of(f"{scheme} {token}".lstrip() if token else None)


def _credentials(authorization: str | None) -> tuple[str, str]:
    """Return the scheme, in lower case, and the token; "" for a key without a scheme."""
    sent = _once("authorization", authorization)
    words = sent.split()
    if len(words) > 2 or not (sent.isascii() and sent.replace("\t", " ").isprintable()):
        raise InvalidInput("Authorization has to be a scheme and one token, in printable ASCII")
    if len(words) == 1 and sent.lower() not in ("basic", "bearer"):
        return "", sent
    scheme, token = [*words, "", ""][:2]
    if scheme.lower() == "basic" and not (token and _is_canonical_base64(token)):
        raise InvalidInput("Authorization: Basic has to be followed by canonical base64, padded")
    return scheme.lower(), token


def _is_canonical_base64(text: str) -> bool:
    try:
        return base64.b64encode(base64.b64decode(text, validate=True)).decode() == text
    except ValueError:
        return False


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
    return (value or "").strip()


class KeySet(Protocol):
    """Finds the key that a token was signed with, as PyJWT's `PyJWKClient` does."""

    def get_signing_key_from_jwt(self, token: str, /) -> Any:
        """Return the key; raise one of PyJWT's errors where there is none."""


def jwt(
    key: str | bytes | KeySet | Callable[[str], Any],
    *,
    algorithms: Sequence[str],
    claim: str = "sub",
    audience: str | Sequence[str] | None = None,
    issuer: str | Sequence[str] | None = None,
) -> Resolver:
    """Name the account after issuer and subject of the JSON web token that a caller bears.

    A fresh token of the same user is the same account. Who has no valid token is anonymous: one
    account for all of them, whatever they send, and no word on what is wrong with it. That is
    theirs to say who refuses them, the application or what stands before it.

    Parameters
    ----------
    key : str, bytes, KeySet or callable
        A secret, or a public key in PEM; or what finds the key of a token. It is asked on the way
        of every request that bears a token, genuine or not.
    algorithms : sequence of str
        The only ones that are accepted, such as ``["RS256"]``.
    claim : str
        Who the user is: a text or an integer.
    audience, issuer : str or sequence of str, optional
        What the token has to say of them. One that names an audience needs `audience`.

    Raises
    ------
    InvalidInput
        An algorithm does not exist, or the key is none of it; from the resolver, see `account_of`.
    MissingExtra
        PyJWT is not installed.
    """
    pyjwt, find, accepted = _pyjwt(), _key_finder(key, algorithms), [*algorithms]

    def resolve(caller: Caller) -> str:
        scheme, token = _credentials(caller.header("authorization"))
        if scheme != "bearer":
            return ANONYMOUS
        try:
            claims = pyjwt.decode(
                token, find(token), algorithms=accepted, audience=audience, issuer=issuer
            )
        except (pyjwt.PyJWTError, RecursionError):
            return ANONYMOUS
        subject = claims.get(claim)
        if isinstance(subject, bool) or not isinstance(subject, str | int) or subject == "":
            return ANONYMOUS
        says = (str(part).encode("utf-8", "surrogatepass") for part in (claims.get("iss"), subject))
        return sha256_of_fields(b"jwt", *says).hex()[:32]

    return resolve


def _key_finder(
    key: str | bytes | KeySet | Callable[[str], Any], algorithms: Sequence[str]
) -> Callable[[str], Any]:
    """Return what finds the key of a token; a key that is none of an algorithm's ends here."""
    pyjwt = _pyjwt()
    try:
        kinds = [pyjwt.get_algorithm_by_name(name) for name in algorithms if name != "none"]
        prepared = [kind.prepare_key(key) for kind in kinds if isinstance(key, str | bytes)]
    except (pyjwt.PyJWTError, NotImplementedError, TypeError, ValueError) as error:
        raise InvalidInput(f"algorithms {algorithms!r} do not go with this key: {error}") from None
    if not kinds or len(kinds) < len(algorithms):
        raise InvalidInput(f"algorithms have to name what tokens are signed with: {algorithms!r}")
    if isinstance(key, str | bytes):
        return lambda token: prepared[0]
    return key if callable(key) else key.get_signing_key_from_jwt


def _pyjwt() -> Any:
    try:
        import jwt
    except ImportError:
        raise MissingExtra("JSON web tokens need PyJWT: pip install 'powfast[jwt]'") from None
    return jwt


def user() -> Resolver:
    """Name the account after the user that the server, or a middleware outside, has established.

    That is the `identity` of the ASGI scope's ``user``, as Starlette's `AuthenticationMiddleware`
    leaves it there; WSGI's ``REMOTE_USER``; gRPC's peer identities, where TLS verified them. Who
    is not authenticated is anonymous.
    """
    return lambda caller: name_of(_user(caller.source))


def _user(source: Any) -> str | None:
    """Return whom others have authenticated; no request can set any of these by itself."""
    if not isinstance(source, Mapping):
        return b", ".join(source.peer_identities() or ()).decode("utf-8", "replace")
    if "wsgi.version" in source:
        return source.get("REMOTE_USER")
    found = source.get("user")
    if found is None or not found.is_authenticated or found.identity is None:
        return None
    return str(found.identity)


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
        network = ipaddress.ip_network((found, bits[found.version]), strict=False)
        return SharedName(network)

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

    One of `nobody`, `bearer`, `user`, `header NAME`, `certificate`, `certificate HEADER` and
    `address`, the last with any of `proxies=1 ipv4=24 ipv6=64` after it.

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
        case ["user"]:
            return user()
        case ["header", name]:
            return header(name)
        case ["certificate", *names] if len(names) < 2:
            return certificate(*names)
        case ["address", *options]:
            return address(**dict(map(_option, options)))
    raise InvalidInput(
        "an account or group is named by nobody, bearer, user, header NAME, certificate [HEADER],"
        f" or address [proxies=N] [ipv4=BITS] [ipv6=BITS], not by {text!r}"
    )


def _option(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    if name not in ("proxies", "ipv4", "ipv6") or not (value.isascii() and value.isdecimal()):
        raise InvalidInput(f"address takes proxies=N, ipv4=BITS and ipv6=BITS, not {text!r}")
    return name, int(value)
