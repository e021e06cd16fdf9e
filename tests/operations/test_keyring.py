"""The ring as a file: rotations that lose no challenge, and files that are not one."""

from __future__ import annotations

from pathlib import Path

import pytest

from powfast import keyring
from powfast.challenge import Code, Issuer, decode, solve
from powfast.errors import AlreadyRedeemed, InvalidInput, UnknownKey
from powfast.keyring import FileIssuer, Stage

NOW = 1_800_000_000.0
HEX = "5a" * 32


def ring_file(folder: Path) -> Path:
    path = folder / "ring.toml"
    keyring.write(path, keyring.new_ring(NOW), replace_file=False)
    return path


def rotate(path: Path, now: float) -> None:
    ring = keyring.rotated(keyring.read(path), now, overlap=300)
    keyring.write(path, ring, replace_file=True)


def stages(path: Path) -> dict[str, Stage]:
    return {key.key_id: key.stage for key in keyring.read(path)}


def test_a_ring_has_a_key_that_signs_and_one_that_will(tmp_path: Path) -> None:
    path = ring_file(tmp_path)
    assert sorted(stages(path).values()) == [Stage.NEXT, Stage.SIGNS]
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(InvalidInput, match="exists"):
        keyring.write(path, keyring.new_ring(NOW), replace_file=False)
    assert list(tmp_path.iterdir()) == [path]


def test_each_key_signs_once_and_is_dropped_one_rotation_later(tmp_path: Path) -> None:
    path = ring_file(tmp_path)
    (signs, following), before = stages(path), path.read_text()
    rotate(path, NOW + 10)
    assert stages(path)[signs] is Stage.RETIRED
    assert stages(path)[following] is Stage.SIGNS
    assert list(keyring.secrets_by_id(keyring.read(path)))[-1] == following
    with pytest.raises(InvalidInput, match="rotated 299 s ago"):
        rotate(path, NOW + 309)
    rotate(path, NOW + 310)
    assert signs not in stages(path)
    assert stages(path)[following] is Stage.RETIRED
    assert path.stat().st_mode & 0o777 == 0o600
    assert before != path.read_text()


def test_servers_that_read_the_ring_late_accept_each_others_challenges(tmp_path: Path) -> None:
    path, now = ring_file(tmp_path), NOW
    early, late = (FileIssuer(path, ttl=120, clock=lambda: now) for _ in range(2))
    for _ in range(4):
        now += 400
        rotate(path, now)
        late._looked = now  # looks at the file when `early` has long done so
        for issuer, other in ((early, late), (late, early)):
            token = issuer.issue(work=1)
            assert other.check(token, solve(token)).key_id == decode(token).key_id
        assert decode(early.issue(work=1)).key_id != decode(late.issue(work=1)).key_id
        late._looked = 0.0
        late.issue(work=1)
    assert len(stages(path)) == 3


@pytest.mark.parametrize("overlap", [-1.0, float("nan")])
def test_an_overlap_is_a_number_of_seconds(overlap: float) -> None:
    ring = keyring.rotated(keyring.new_ring(0.0), 0.0, overlap=0.0)
    with pytest.raises(InvalidInput, match="overlap"):
        keyring.rotated(ring, 0.0, overlap)


def test_a_challenge_survives_the_rotation_in_its_lifetime(tmp_path: Path) -> None:
    path, now = ring_file(tmp_path), NOW
    issuer, batches = (FileIssuer(path, ttl=120, clock=lambda: now) for _ in range(2))
    token = issuer.issue(work=100)
    rotate(path, NOW + 60)
    now = NOW + 119
    assert decode(issuer.issue(work=1)).key_id != decode(token).key_id
    receipt = issuer.redeem(token, solve(token))
    assert receipt.work == 100
    rotate(path, NOW + 500)
    now = NOW + 500
    with pytest.raises(UnknownKey):
        issuer.redeem(token, solve(token))
    assert batches.redeem_many([token], [solve(token)]).tolist() == [Code.UNKNOWN_KEY]


def test_what_was_redeemed_stays_redeemed_over_a_rotation(tmp_path: Path) -> None:
    path, now = ring_file(tmp_path), NOW
    issuer = FileIssuer(path, clock=lambda: now)
    token = issuer.issue(work=1)
    issuer.redeem(token, solve(token))
    rotate(path, NOW + 10)
    now = NOW + 10
    with pytest.raises(AlreadyRedeemed):
        issuer.redeem(token, solve(token))


def test_a_ring_that_breaks_later_on_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, now = ring_file(tmp_path), NOW
    issuer = FileIssuer(path, clock=lambda: now)
    key = decode(issuer.issue(work=1)).key_id
    for broken in (None, "", "rubbish = [", f'[keys.a]\nsecret = "{HEX}"\n'):
        path.unlink(missing_ok=True)
        if broken is not None:
            path.write_text(broken)
        now += 10
        assert decode(issuer.issue(work=1)).key_id == key
        assert "the ring in use stays" in caplog.text
        assert HEX not in caplog.text
        caplog.clear()


GOOD = f'stage = "signs"\nsince = 2026-01-01T00:00:00Z\nsecret = "{HEX}"\n'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "keys = 1",
        "[keys]",
        f'[keys.a]\nsecret = "{HEX}"',
        "[keys.a]\n" + GOOD.replace("signs", "sings"),
        "[keys.a]\n" + GOOD.replace("signs", "next"),
        "[keys.a]\n" + GOOD.replace(HEX, HEX[2:]),
        "[keys.a]\n" + GOOD.replace(HEX, "zz" * 32),
        "[keys.a]\n" + GOOD.replace("2026-01-01T00:00:00Z", "1"),
        "[keys.a]\n" + GOOD + "more = 1",
        '[keys."a:b"]\n' + GOOD,
        "[keys.a]\n" + GOOD + "[keys.b]\n" + GOOD,
        "[keys.a]\n" + GOOD + "[other]\n",
        "[keys.a]\n" + GOOD + "[keys.a]\n" + GOOD,
    ],
)
def test_what_is_no_ring_is_refused_without_its_secrets(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ring"
    path.write_text(text)
    with pytest.raises(InvalidInput) as refused:
        keyring.read(path)
    assert HEX[2:] not in str(refused.value)


def test_secrets_are_in_no_representation() -> None:
    (key,) = (key for key in keyring.new_ring(NOW) if key.stage is Stage.SIGNS)
    assert repr(key.secret) not in repr(key)
    assert key.secret.hex() not in repr(key)


@pytest.mark.parametrize(
    "text", ["", ",", "a", "a:", f":{HEX}", f"a:{HEX[2:]}", f"a:{HEX}0", f"a:{HEX},a:{HEX}"]
)
def test_an_inline_ring_is_ids_and_secrets(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        keyring.parse_inline(text)
    assert HEX[2:] not in str(refused.value)


def test_the_last_inline_key_signs() -> None:
    ring = keyring.parse_inline(f"a:{HEX}, b:{HEX[::-1]}")
    assert ring == {"a": bytes.fromhex(HEX), "b": bytes.fromhex(HEX[::-1])}
    assert decode(Issuer(ring).issue(work=1)).key_id == "b"
