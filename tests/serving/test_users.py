"""Who is charged where others have established it: users, JSON web tokens, and a server of each."""

from __future__ import annotations

import base64
import hashlib
import sys
import time
from typing import Any

import httpx
import pytest
from conftest import needs
from hypothesis import given
from hypothesis import strategies as st
from service import ASK, Service, served, token_of
from starlette.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    AuthenticationError,
    BaseUser,
    SimpleUser,
    UnauthenticatedUser,
)
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse

from powfast.accounts import ANONYMOUS, Caller, Resolver, SharedName, jwt, resolver, user
from powfast.challenge import decode, solve
from powfast.errors import InvalidInput, MissingExtra
from powfast.http import format_solution

pyjwt, rsa, serialization = needs(
    "jwt",
    "cryptography.hazmat.primitives.asymmetric.rsa",
    "cryptography.hazmat.primitives.serialization",
)


def caller(headers: dict[str, str] | None = None, source: Any = None) -> Caller:
    return Caller((headers or {}).get, "203.0.113.9", {} if source is None else source)


def named(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


def wsgi(**environ: str) -> dict[str, Any]:
    return {"wsgi.version": (1, 0), **environ}


# -- users whom others have authenticated


def scope_of(who: Any) -> dict[str, Any]:
    return {"type": "http", "user": who}


class Peer:
    def __init__(self, *identities: bytes) -> None:
        self._identities = identities or None

    def peer_identities(self) -> tuple[bytes, ...] | None:
        return self._identities


class Numbered(SimpleUser):
    @property
    def identity(self) -> Any:
        return self.username


@pytest.mark.parametrize(
    ("source", "account"),
    [
        (scope_of(SimpleUser("alice")), named("alice")),
        (scope_of(Numbered(7)), named("7")),
        (scope_of(Numbered(None)), ANONYMOUS),
        (scope_of(SimpleUser("")), ANONYMOUS),
        (scope_of(UnauthenticatedUser()), ANONYMOUS),
        (scope_of(None), ANONYMOUS),
        ({"type": "http"}, ANONYMOUS),
        (wsgi(REMOTE_USER="alice"), named("alice")),
        (wsgi(HTTP_REMOTE_USER="alice"), ANONYMOUS),  # a header, which anybody can send
        (wsgi(), ANONYMOUS),
        (Peer(b"alice"), named("alice")),
        (Peer(), ANONYMOUS),
    ],
)
def test_a_user_counts_as_somebody_else_established_it(source: Any, account: str) -> None:
    forged = {"remote-user": "mallory", "remote_user": "mallory", "user": "mallory"}
    assert user()(caller(forged, source=source)) == account


def test_a_configuration_names_users() -> None:
    assert resolver("user")(caller(source=scope_of(SimpleUser("b")))) == named("b")


def test_a_user_that_has_no_identity_is_the_operators_error() -> None:
    """Nobody's display name stands in for it, which a user may choose anew every day."""
    with pytest.raises(NotImplementedError):
        user()(caller(source=scope_of(type("Named", (BaseUser,), {"is_authenticated": True})())))


# -- JSON web tokens

SECRET = "s" * 64
NOW = int(time.time())


def token(key: Any = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    return pyjwt.encode({"iss": "https://id", "exp": NOW + 3600, **claims}, key, algorithm)


def account_by(resolve: Resolver, sent: str) -> str:
    return resolve(caller({"authorization": f"Bearer {sent}"}))


def test_a_fresh_token_of_the_same_user_is_the_same_account() -> None:
    by_user = jwt(SECRET, algorithms=["HS256"])
    alice = account_by(by_user, token(sub="alice", exp=NOW + 1800, jti="1"))
    assert account_by(by_user, token(sub="alice", exp=NOW + 7200, jti="2")) == alice
    assert not isinstance(alice, SharedName)
    others = [token(sub="bob"), token(sub="alice", iss="https://other"), token(sub="Alice")]
    assert len({alice, *(account_by(by_user, other) for other in others)}) == 4


def test_a_token_is_one_account_however_its_signature_is_written() -> None:
    by_user, sent = jwt(SECRET, algorithms=["HS256"]), token(sub="alice")
    alice = account_by(by_user, sent)
    for spelled in (sent + "=", sent + "!", f" {sent} "):
        assert account_by(by_user, spelled) in (alice, ANONYMOUS)
    assert by_user(caller({"authorization": f"bEARER\t{sent}"})) == alice
    with pytest.raises(InvalidInput):
        account_by(by_user, f"{sent} junk")
    with pytest.raises(InvalidInput, match="once"):
        account_by(by_user, f"{sent}, Bearer {sent}")


def unsigned(header: bytes, payload: bytes = b"{}") -> str:
    return ".".join(base64.urlsafe_b64encode(part).decode() for part in (header, payload, b"x"))


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "junk",
        "a.b.c",
        "....",
        token(sub="alice", key="t" * 64),
        token(sub="alice", algorithm="HS512"),
        token(sub="alice", exp=NOW - 1),
        token(sub="alice", nbf=NOW + 3600),
        token(sub="alice", aud="elsewhere"),
        token(),
        token(sub=""),
        token(sub="alice")[:-5],
        token(sub="alice").replace(".", "..", 1),
        pyjwt.encode({"sub": "alice"}, None, "none"),
        unsigned(b'{"alg": "HS256"}', b'{"sub": "alice"}'),
        unsigned(b'{"alg": ["HS256"]}'),
        unsigned(b'{"alg": "HS256", "crit": ["x"], "kid": 1}'),
        unsigned(b'{"a":' * 30_000),
        unsigned(b'{"a": %b}' % (b"1" * 9000)),
        unsigned(b"\xff\xfe"),
    ],
)
def test_who_has_no_valid_token_is_anonymous(sent: str) -> None:
    assert account_by(jwt(SECRET, algorithms=["HS256"]), sent) is ANONYMOUS


@given(st.binary(), st.binary(), st.text(st.characters(max_codepoint=126, exclude_characters=",")))
def test_no_token_breaks_the_resolver(header: bytes, payload: bytes, text: str) -> None:
    by_user = jwt(SECRET, algorithms=["HS256"])
    for sent in (unsigned(header, payload), unsigned(b'{"alg": "HS256", %b}' % header), text):
        try:
            assert account_by(by_user, sent) is ANONYMOUS
        except InvalidInput:
            assert sent == text


def test_other_credentials_make_no_account_where_tokens_do() -> None:
    by_user = jwt(SECRET, algorithms=["HS256"])
    for sent in (None, "Basic dXNlcjpwYXNz", token(sub="alice"), f"Token {token(sub='alice')}"):
        headers = {} if sent is None else {"authorization": sent}
        assert by_user(caller(headers)) is ANONYMOUS


def test_a_token_says_what_it_is_asked_for() -> None:
    picky = jwt(SECRET, algorithms=["HS256"], claim="uid", audience="api", issuer=["https://id"])
    alice = account_by(picky, token(uid=7, aud="api"))
    assert alice == account_by(picky, token(uid=7, aud=["web", "api"], sub="x"))
    for wrong in ({"uid": 7}, {"uid": 7, "aud": "web"}, {"aud": "api", "sub": "7"},
                  {"uid": True, "aud": "api"}, {"uid": [7], "aud": "api"},
                  {"uid": 7, "aud": "api", "iss": "https://evil"}):  # fmt: skip
        assert account_by(picky, token(**wrong)) is ANONYMOUS
    assert account_by(picky, token(uid="\ud800", aud="api")) not in (alice, ANONYMOUS)


def test_the_key_may_be_found_for_each_token() -> None:
    private = rsa.generate_private_key(65537, 2048)
    public = private.public_key()
    sent = token(private, "RS256", sub="alice")
    pem = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    jwk = pyjwt.PyJWK(pyjwt.algorithms.RSAAlgorithm.to_jwk(public, as_dict=True), "RS256")

    class Keys:
        def get_signing_key_from_jwt(self, given: str) -> pyjwt.PyJWK:
            if pyjwt.get_unverified_header(given).get("alg") != "RS256":
                raise pyjwt.PyJWKClientError("no such key")
            return jwk

    found = {
        account_by(jwt(key, algorithms=["RS256"]), sent) for key in (pem, pem.decode(), Keys())
    }
    found.add(account_by(jwt(lambda given: jwk, algorithms=["RS256"]), sent))
    assert len(found) == 1
    assert ANONYMOUS not in found
    assert account_by(jwt(Keys(), algorithms=["RS256"]), token(sub="alice")) is ANONYMOUS
    with pytest.raises(InvalidInput, match="HS256"):  # the public key would be the secret
        jwt(pem, algorithms=["RS256", "HS256"])


@pytest.mark.parametrize(
    "algorithms", [[], "HS256", ["none"], ["HS256", "none"], ["HS257"], ["RS256"]]
)
def test_algorithms_that_no_token_can_be_checked_by_are_refused(algorithms: Any) -> None:
    with pytest.raises(InvalidInput, match="algorithms"):
        jwt(SECRET, algorithms=algorithms)


def test_tokens_need_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(MissingExtra, match=r"powfast\[jwt\]"):
        jwt(SECRET, algorithms=["HS256"])


# -- a server that authenticates before it charges

USERS = {"alice": "correct horse", "bob": "battery staple"}


class Backend(AuthenticationBackend):
    """Basic, decoded as leniently as Python does by itself."""

    def __init__(self) -> None:
        self.failed = 0

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser]:
        sent = conn.headers.get("authorization", "").partition(" ")[2]
        name, _, password = base64.b64decode(sent + "==").decode(errors="ignore").partition(":")
        if USERS.get(name) != password:
            self.failed += 1
            raise AuthenticationError("wrong user or password")
        return AuthCredentials(), SimpleUser(name)


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def test_a_guess_learns_of_a_credential_from_the_application_alone() -> None:
    """Authenticated outside, no guess reaches the gate, whichever accounts are open."""
    service, backend = Service(account=user()), Backend()
    refuse = lambda conn, error: PlainTextResponse("no", 401)  # noqa: E731
    app = AuthenticationMiddleware(service.app, backend=backend, on_error=refuse)
    guesses = [basic(name, guess) for name in ("alice", "carol") for guess in ("a", "b", "", "cd")]
    with served(app) as url, httpx.Client(base_url=url) as client:
        for opened in (False, True):
            if opened:
                right = {"authorization": basic("alice", USERS["alice"])}
                asked = client.post("/v1/predict", json=ASK, headers=right)
                client.post(
                    "/v1/predict",
                    json=ASK,
                    headers=right
                    | {"pow-solution": format_solution(token_of(asked), solve(token_of(asked)))},
                )
            answers = [
                client.post("/v1/predict", json=ASK, headers={"authorization": guess})
                for guess in guesses
            ]
            assert {(answer.status_code, answer.text) for answer in answers} == {(401, "no")}
    assert backend.failed == 2 * len(guesses), "the application has seen every one of them"


def test_a_user_is_one_account_however_the_credentials_are_spelled() -> None:
    service = Service(account=user())
    app = AuthenticationMiddleware(service.app, backend=Backend())
    right = basic("alice", USERS["alice"])
    accounts = set()
    with served(app) as url:
        for spelled in (right, right.replace("Basic ", "Basic !"), right + "!", right + " junk"):
            answer = httpx.post(url + "/v1/predict", json=ASK, headers={"authorization": spelled})
            accounts.add(decode(token_of(answer)).account)
    assert accounts == {named("alice")}


def test_fresh_tokens_and_odd_spellings_find_the_same_account_at_a_server() -> None:
    def asked(url: str, credentials: str) -> httpx.Response:
        return httpx.post(url + "/v1/predict", json=ASK, headers={"authorization": credentials})

    with served(Service(account=jwt(SECRET, algorithms=["HS256"])).app) as url:
        fresh = [token(sub="alice", jti=str(number)) for number in range(3)]
        answers = [asked(url, f"Bearer {sent}") for sent in fresh]
        assert len({decode(token_of(answer)).account for answer in answers}) == 1
        assert decode(token_of(asked(url, "Bearer forged"))).account == ANONYMOUS
    with served(Service().app) as url:
        right = basic("alice", USERS["alice"])
        assert asked(url, right).status_code == 402
        for spelled in (right.replace("Basic ", "Basic !"), right + "!", right + " junk"):
            assert asked(url, spelled).status_code == 400
