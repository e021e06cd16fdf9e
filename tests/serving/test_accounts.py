"""Who is charged: what each resolver makes of honest, of odd and of hostile requests."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from service import Service, served

from powfast.accounts import (
    ANONYMOUS,
    Caller,
    Resolver,
    SharedName,
    account_of,
    address,
    bearer,
    certificate,
    header,
    nobody,
    resolver,
    user,
)
from powfast.challenge import decode
from powfast.errors import InvalidInput
from powfast.http import challenge_in

ASK = {"x": 1, "evidence": [1.0]}


def caller(
    headers: dict[str, str] | None = None, address: str | None = "203.0.113.9", source: Any = None
) -> Caller:
    return Caller((headers or {}).get, address, {} if source is None else source)


def named(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


# -- keys and users


@pytest.mark.parametrize(
    ("sent", "identity"),
    [
        ("Bearer sk-1", "bearer sk-1"),
        ("bEARER sk-1", "bearer sk-1"),
        ("Bearer   sk-1 ", "bearer sk-1"),
        ("Bearer\tsk-1", "bearer sk-1"),
        ("Bearer SK-1", "bearer SK-1"),
        (" \t Bearer \t sk-1 \t ", "bearer sk-1"),
        ("Basic dXNlcjpwYXNz", "basic dXNlcjpwYXNz"),
        ("bASIC   dXNlcjpwYXNz ", "basic dXNlcjpwYXNz"),
        ("Basic dXNlcjpwYXNzZQ==", "basic dXNlcjpwYXNzZQ=="),
        ("ApiKey sk-1", "apikey sk-1"),
        ("sk-1", "sk-1"),
        ("SK-1 ", "SK-1"),
        ("Bearer  " + "k" * 1000, "bearer " + "k" * 1000),
    ],
)
def test_a_key_is_one_account_however_it_is_written(sent: str, identity: str) -> None:
    assert bearer(caller({"authorization": sent})) == account_of(sent) == named(identity)


@pytest.mark.parametrize(
    "sent",
    [
        # base64 that decoders take for dXNlcjpwYXNzZQ==
        "Basic dXNlcjpwYXNzZQ",
        "Basic dXNlcjpwYXNzZQ=",
        "Basic dXNlcjpwYXNzZQ===",
        "Basic dXNlcjpwYXNzZR==",
        "Basic dXNlcjp!wYXNzZQ==",
        "Basic -dXNlcjpwYXNzZQ==",
        "Basic dXNlcjpwYXNzZQ==junk",
        "Basic dXNlcjpwYXNzZQ==" + "=" * 1000,
        "Basic dXNlcjpw\xa0YXNzZQ==",
        "Basic",
        "basic ",
        # what stands behind or between, where servers read on from the second word
        "Basic dXNlcjpwYXNzZQ== junk",
        "Basic dXNlcjpw YXNzZQ==",
        "Bearer sk-1 junk",
        "Bearer\tsk-1\tjunk",
        "a b c",
        # spaces to Python's split, and what has several forms in Unicode
        "Bearer\xa0sk-1",
        "Bearer sk-1\x1cjunk",
        "Bearer sk-1\x0bjunk",
        "Bearer\x85 sk-1",
        "Bearer \x00sk-1",
        "Bearer sk-1\x7f",
        "Bearer sk-é",
        "\u212aey sk-1",
    ],
)
def test_what_servers_overlook_in_credentials_is_refused(sent: str) -> None:
    with pytest.raises(InvalidInput, match="Authorization"):
        bearer(caller({"authorization": sent}))


@given(st.binary(min_size=1), st.text(alphabet="!-_.~=\xa0\x00é \t", min_size=1), st.data())
def test_one_pair_of_user_and_password_is_one_account(
    pair: bytes, junk: str, data: st.DataObject
) -> None:
    """However it is spelled: another text of the same bytes is refused, or the same account."""
    text = base64.b64encode(pair).decode()
    at = data.draw(st.integers(0, len(text)))
    spelled = text[:at] + junk + text[at:]
    try:
        found = bearer(caller({"authorization": f"Basic {spelled}"}))
    except InvalidInput:
        return
    assert found == bearer(caller({"authorization": f"Basic {text}"}))


@pytest.mark.parametrize("sent", [None, "", " ", "\t", "Bearer", " bearer "])
def test_who_has_no_key_is_anonymous(sent: str | None) -> None:
    headers = {} if sent is None else {"authorization": sent}
    assert bearer(caller(headers)) is ANONYMOUS


def test_a_header_names_its_sender() -> None:
    by_key = header("x-api-key")
    assert by_key(caller({"x-api-key": "sk-1"})) == named("sk-1")
    assert by_key(caller({"x-api-key": " sk-1\t"})) == named("sk-1")
    assert by_key(caller({"x-other": "sk-1"})) is by_key(caller({"x-api-key": " "})) is ANONYMOUS
    assert nobody(caller({"x-api-key": "sk-1"})) == ""


@pytest.mark.parametrize(
    ("resolve", "name"), [(bearer, "authorization"), (header("x-api-key"), "x-api-key")]
)
def test_a_key_sent_twice_makes_no_new_account(resolve: Resolver, name: str) -> None:
    for sent in ("Bearer sk-1, Bearer junk", "junk,Bearer sk-1", ","):
        with pytest.raises(InvalidInput, match="once"):
            resolve(caller({name: sent}))


def test_a_server_refuses_a_key_that_is_sent_twice() -> None:
    keys = [("authorization", "Bearer sk-1"), ("authorization", "Bearer junk")]
    with served(Service().app) as url:
        response = httpx.post(f"{url}/v1/predict", json=ASK, headers=keys)
    assert (response.status_code, response.json()["type"]) == (400, "urn:powfast:invalid-input")


# -- certificates

DN = "CN=alice,O=Example,C=CH"


class GrpcContext:
    def __init__(self, **properties: list[bytes]) -> None:
        self._properties = properties

    def auth_context(self) -> dict[str, list[bytes]]:
        return self._properties


def asgi(**tls: Any) -> dict[str, Any]:
    return {"type": "http", "extensions": {"tls": tls}}


def wsgi(**environ: str) -> dict[str, Any]:
    return {"wsgi.version": (1, 0), **environ}


@pytest.mark.parametrize(
    ("source", "account"),
    [
        (asgi(client_cert_name=DN, client_cert_error=None), named(DN)),
        (asgi(client_cert_name=DN, client_cert_error="expired"), ANONYMOUS),
        (asgi(client_cert_name=None), ANONYMOUS),
        ({"type": "http", "extensions": {}}, ANONYMOUS),
        ({"type": "http", "extensions": None}, ANONYMOUS),
        ({"type": "http"}, ANONYMOUS),
        (wsgi(SSL_CLIENT_S_DN=DN, SSL_CLIENT_VERIFY="SUCCESS"), named(DN)),
        (wsgi(SSL_CLIENT_S_DN=DN), named(DN)),
        (wsgi(SSL_CLIENT_S_DN=DN, SSL_CLIENT_VERIFY="NONE"), ANONYMOUS),
        (wsgi(SSL_CLIENT_S_DN=DN, SSL_CLIENT_VERIFY="FAILED:expired"), ANONYMOUS),
        (wsgi(HTTP_SSL_CLIENT_S_DN=DN), ANONYMOUS),  # a header, which anybody can send
        (wsgi(), ANONYMOUS),
        (GrpcContext(x509_subject=[DN.encode()]), named(DN)),
        (GrpcContext(), ANONYMOUS),
    ],
)
def test_a_certificate_counts_where_the_server_verified_it(source: Any, account: str) -> None:
    forged = {"ssl-client-s-dn": DN, "x-ssl-client-s-dn": DN, "ssl_client_s_dn": DN}
    assert certificate()(caller(forged, source=source)) == account


def test_a_certificate_counts_where_the_named_header_says_it() -> None:
    by_header = certificate("x-client-dn")
    assert by_header(caller({"x-client-dn": DN})) == named(DN)
    assert by_header(caller(source=asgi(client_cert_name=DN))) == ANONYMOUS


# -- addresses

PEER = "203.0.113.9"
PEER_NET = "203.0.113.0/24"


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        (PEER, PEER_NET),
        ("203.0.113.255", PEER_NET),
        ("::ffff:203.0.113.9", PEER_NET),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ANONYMOUS),
        (None, ANONYMOUS),  # a socket of this machine
        ("unix:", ANONYMOUS),
        ("testclient", ANONYMOUS),
    ],
)
def test_an_address_is_charged_with_its_network(peer: str | None, network: str) -> None:
    assert address()(caller(address=peer)) == network
    assert address()(caller({"x-forwarded-for": "198.51.100.1"}, peer)) == network


@pytest.mark.parametrize(
    ("proxies", "forwarded", "network"),
    [
        (1, "198.51.100.1", "198.51.100.0/24"),
        (1, "10.0.0.1, 198.51.100.1", "198.51.100.0/24"),  # the first is the client's own words
        (2, "10.0.0.1, 198.51.100.1, 192.0.2.5", "198.51.100.0/24"),
        (3, "198.51.100.1,192.0.2.5,192.0.2.6", "198.51.100.0/24"),
        (1, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        # as proxies write it
        (1, "198.51.100.1:4711", "198.51.100.0/24"),
        (1, "[2001:db8:1:2::3]:4711", "2001:db8:1:2::/64"),
        (1, "[2001:db8:1:2::3]", "2001:db8:1:2::/64"),
        (1, "fe80::1%eth0", "fe80::/64"),
        (1, "[fe80::1%eth0]:80", "fe80::/64"),
        (1, "::ffff:198.51.100.1", "198.51.100.0/24"),
        (1, "::FFFF:C633:6401", "198.51.100.0/24"),
        (1, "  198.51.100.1\t", "198.51.100.0/24"),
        # fewer hops than there are proxies, or no address in its place: the connection's own
        (1, "", PEER_NET),
        (2, "198.51.100.1", PEER_NET),
        (3, "198.51.100.1, 192.0.2.5", PEER_NET),
        (1, "198.51.100.1,", PEER_NET),
        (1, ",", PEER_NET),
        (1, "unknown", PEER_NET),
        (1, "_hidden", PEER_NET),
        (1, "198.51.100.256", PEER_NET),
        (1, "198.51.100", PEER_NET),
        (1, "3325256705", PEER_NET),
        (1, "0xc6.51.100.1", PEER_NET),
        (1, "198.051.100.001", PEER_NET),
        (1, "198.51.100.1/8", PEER_NET),
        (1, "1:2:3:4:5:6:7:8:9", PEER_NET),
        (1, "[", PEER_NET),
        (1, "[]:1", PEER_NET),
        (1, ":", PEER_NET),
        (1, "%", PEER_NET),
        (1, "é, \x00", PEER_NET),
        (1, "١٩٨.51.100.1", PEER_NET),
    ],
)
def test_a_forwarded_address_is_the_one_our_farthest_proxy_saw(
    proxies: int, forwarded: str, network: str
) -> None:
    assert address(proxies=proxies)(caller({"x-forwarded-for": forwarded}, PEER)) == network


@given(
    st.text() | st.text("0123456789abcdef.:,[]%/ "),
    st.text() | st.ip_addresses().map(str),
    st.data(),
)
def test_no_client_chooses_its_address(forged: str, peer: str, data: st.DataObject) -> None:
    """Whatever a client sends, our proxies add whom they heard from, and that alone counts."""
    proxies = data.draw(st.integers(1, 4))
    hops = [str(data.draw(st.ip_addresses(v=4))) for _ in range(proxies)]
    seen = caller({"x-forwarded-for": ", ".join([forged, *hops])}, peer)
    assert address(proxies=proxies)(seen) == hops[0].rpartition(".")[0] + ".0/24"
    assert "/" in address()(caller({}, peer)) or address()(caller({}, peer)) == ANONYMOUS


def test_a_group_is_a_wider_network() -> None:
    wide = address(ipv4=16, ipv6=48)
    assert wide(caller(address="203.0.113.9")) == "203.0.0.0/16"
    assert wide(caller(address="2001:db8:1:2::3")) == "2001:db8:1::/48"
    with served(Service(group=wide).app) as url:
        response = httpx.post(f"{url}/v1/predict", json=ASK)
    token = challenge_in(response.status_code, response.headers["www-authenticate"])
    assert token is not None
    assert decode(token).group == "127.0.0.0/16"


def test_only_who_cannot_be_told_apart_shares_a_name() -> None:
    for peer in (PEER, "2001:db8::1", None):
        assert isinstance(address()(caller(address=peer)), SharedName)
    for resolve in (bearer, header("x-api-key"), certificate(), certificate("x-dn"), user()):
        assert isinstance(resolve(caller()), SharedName)
    keyed = {"authorization": "Bearer sk-1", "x-api-key": "sk-1", "x-dn": DN}
    for resolve in (bearer, header("x-api-key"), certificate("x-dn"), nobody):
        assert not isinstance(resolve(caller(keyed)), SharedName)
    assert json.dumps(SharedName("a")) == '"a"'


@pytest.mark.parametrize("wrong", [{"proxies": -1}, {"proxies": 33}, {"ipv4": 33}, {"ipv6": 1.5}])
def test_a_network_has_so_many_bits(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        address(**wrong)


# -- as a configuration names them


def test_a_configuration_names_each_resolver() -> None:
    asks = caller({"authorization": "Bearer a", "x-user": "b", "x-forwarded-for": "198.51.100.1"})
    assert resolver("bearer")(asks) == bearer(asks)
    assert resolver("nobody")(asks) == ""
    assert resolver("header x-user")(asks) == named("b")
    assert resolver("certificate x-user")(asks) == named("b")
    assert resolver("certificate")(asks) == ANONYMOUS
    assert resolver("address")(asks) == PEER_NET
    assert resolver("address proxies=1 ipv4=16")(asks) == "198.51.0.0/16"


@pytest.mark.parametrize(
    "text",
    ["", "bear", "header", "header a b", "certificate a b", "address 1", "address proxies=-1",
     "address proxies=", "address proxies=²", "address ipv4=64", "address hops=1", "user b"],
)  # fmt: skip
def test_a_configuration_that_names_none_is_told_which_there_are(text: str) -> None:
    with pytest.raises(InvalidInput):
        resolver(text)
