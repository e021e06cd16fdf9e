"""HashCash stamps against the authors' known answers and Debian's program."""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import missing
from hypothesis import example, given
from hypothesis import strategies as st

from powfast import errors
from powfast.paper import hashcash

NOW = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC


def checker(**changes: object) -> hashcash.Checker:
    return hashcash.Checker(**{"resource": "foo", "bits": 10, "clock": lambda: NOW} | changes)


def solved(resource: str = "foo", bits: int = 10, date: float = NOW, **how: str) -> str:
    return hashcash.solve(hashcash.challenge(resource, bits, date=date), bits, **how)


def zero_bits(stamp: str, algorithm: str = "sha1") -> int:
    digest = hashlib.new(algorithm, stamp.encode()).hexdigest()
    return 4 * len(digest) - int(digest, 16).bit_length()


# -- facts from outside


def test_known_answers(data: Path) -> None:
    with (data / "paper/golden/golden_hashcash_mint.csv").open(newline="") as lines:
        golden = list(csv.DictReader(lines))
    assert len(golden) == 33
    for row in golden:
        stamp = hashcash.solve(row["challenge"], int(row["bits"]))
        assert stamp == row["challenge"] + row["suffix_hex"]
        assert int(row["suffix_hex"], 16) + 1 == int(row["hashes_tried"])
        assert hashlib.sha1(stamp.encode()).hexdigest() == row["sha1_digest"]


@pytest.fixture(scope="module")
def program() -> str:
    # a virtual environment may have a package of that name, which is another program
    folders = [each for each in os.get_exec_path() if Path(each) != Path(sys.executable).parent]
    found = shutil.which("hashcash", path=os.pathsep.join(folders))
    return found or missing("Debian's hashcash is not installed")


@pytest.mark.parametrize("width", ["6", "10", "12"])
def test_stamps_of_debians_program_are_accepted(program: str, width: str) -> None:
    command = [program, "-mqu", "-b", "12", "-z", width, "-x", "a=1;b", "foo@example.org"]
    stamp = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    ours = hashcash.Checker("foo@example.org", 12)
    assert ours.check(stamp).ext == "a=1;b"
    with pytest.raises(errors.AlreadyRedeemed):
        ours.check(stamp)


def test_debians_program_accepts_ours_once(program: str, tmp_path: Path) -> None:
    stamp = hashcash.mint("foo@example.org", 14, ext="x=2")
    command = [program, "-cdq", "-b", "14", "-f", str(tmp_path / "spent.db")]
    command += ["-r", "foo@example.org", stamp]
    assert [subprocess.run(command, check=False).returncode for _ in range(2)] == [0, 1]
    other = [part.replace("foo@", "bar@") for part in command[:-1]] + [stamp]
    assert subprocess.run(other, check=False).returncode == 1


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
@pytest.mark.parametrize("bits", [0, 1, 5, 8, 11])
def test_zeros_as_hashlib_counts_them(algorithm: str, bits: int) -> None:
    assert zero_bits(solved(bits=bits, algorithm=algorithm), algorithm) >= bits
    by_digits = solved(bits=bits, algorithm=algorithm, zeros="hexadecimal")
    digest = hashlib.new(algorithm, by_digits.encode()).hexdigest()
    assert digest.startswith("0" * -(-bits // 4))


# -- what is refused


def test_a_good_stamp_passes_once() -> None:
    ours, stamp = checker(), solved()
    assert ours.check(stamp).resource == "foo"
    for _ in range(3):
        with pytest.raises(errors.AlreadyRedeemed):
            ours.check(stamp)


def test_one_of_many_copies_wins() -> None:
    ours, stamp = checker(), solved()

    def attempt(_: int) -> bool:
        try:
            return bool(ours.check(stamp))
        except errors.AlreadyRedeemed:
            return False

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(attempt, range(64))) == 1


def short_of_zeros() -> str:
    prefix = hashcash.challenge("foo", 10, date=NOW)
    return next(s for s in (f"{prefix}{i:x}" for i in range(99)) if zero_bits(s) < 10)


REFUSED = {
    "other resource": (solved("bar"), errors.WrongRequest),
    "other case": (solved("FOO"), errors.WrongRequest),
    "claims fewer bits": (solved(bits=9), errors.WrongSolution),
    "has fewer bits": (short_of_zeros(), errors.WrongSolution),
    "other algorithm": (
        next(s for s in iter(lambda: solved(algorithm="sha256"), "") if zero_bits(s) < 10),
        errors.WrongSolution,
    ),
    "old": (solved(date=NOW - 31 * hashcash.DAY), errors.Expired),
    "early": (solved(date=NOW + 3 * hashcash.DAY), errors.NotYetValid),
    "version 0": ("0:231114:foo:abc", errors.MalformedSolution),
    "version 2": ("2" + solved()[1:], errors.MalformedSolution),
    "no counter": (hashcash.challenge("foo", 10), errors.MalformedSolution),
    "date": ("1:10:231399:foo::a:b", errors.MalformedSolution),
    "date in other digits": ("1:10:٢٣١١١٤:foo::a:b", errors.MalformedSolution),
    "line break": ("1:10:231114:foo::a:b\n", errors.MalformedSolution),
    "long": ("1:10:231114:foo::a:" + "b" * 3000, errors.MalformedSolution),
    "bytes": (b"1:10:231114:foo::a:b", errors.MalformedSolution),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    stamp, reason = REFUSED[name]
    claimed: list[bytes] = []
    ours = checker(claim=lambda stamp_id, expires: not claimed.append(stamp_id))
    with pytest.raises(reason):
        ours.check(stamp)
    assert claimed == []  # nothing is written for a failure


def test_interactive_binds_to_the_challenge() -> None:
    ours = checker()
    mine, yours = ours.challenge(), ours.challenge()
    stamp = hashcash.solve(mine, 10)
    with pytest.raises(errors.WrongRequest):
        ours.check(stamp, yours)
    with pytest.raises(errors.WrongRequest):
        ours.check(stamp, mine[:-1])
    assert ours.check(stamp, mine).counter == stamp.removeprefix(mine)


def test_a_stamp_is_remembered_until_it_expires() -> None:
    now = [NOW]
    ours, stamp = checker(clock=lambda: now[0]), solved()
    ours.check(stamp)
    now[0] = NOW + 30 * hashcash.DAY - 1
    with pytest.raises(errors.AlreadyRedeemed):
        ours.check(stamp)
    now[0] += 2
    with pytest.raises(errors.Expired):
        ours.check(stamp)


@given(st.text(max_size=60))
@example("1:::::::")
@example("1:1:1:1:1:1:1")
def test_any_text_is_refused_in_one_way(text: str) -> None:
    with pytest.raises(errors.Refused):
        checker().check(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"resource": ""},
        {"resource": "a:b"},
        {"resource": "a b"},
        {"bits": -1},
        {"bits": 161},
        {"bits": True},
        {"bits": 1.0},
        {"algorithm": "md5"},
        {"zeros": "octal"},
        {"expiry": 0.0},
        {"grace": -1.0},
    ],
    ids=repr,
)
def test_refuses_wrong_use(wrong: dict[str, object]) -> None:
    with pytest.raises(errors.InvalidInput):
        checker(**wrong)


@pytest.mark.parametrize("field", [{"ext": "a:b"}, {"rand": ""}, {"rand": "ä"}, {"date": 1e18}])
def test_refuses_fields_that_do_not_fit(field: dict[str, object]) -> None:
    with pytest.raises(errors.InvalidInput):
        hashcash.challenge("foo", **field)
