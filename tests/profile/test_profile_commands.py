"""bench and profile, run as users run them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import profiles
import pytest

from powfast.cli import main
from powfast.profile import ClientProfile, Fleet, affordable_work, evaluations, solve_seconds
from powfast.tariff import save_traces

Capture = pytest.CaptureFixture[str]


def printed(capsys: Capture) -> Any:
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Two devices, and a fleet of three of the slow ones to one of the fast."""
    found = {name: tmp_path / f"{name}.json" for name in ("slow", "fast", "fleet")}
    for name, rate in (("slow", 2e6), ("fast", 8e7)):
        found[name].write_text(profiles.example(rate, name=f"[{name}] $\\frac{{").to_json())
    assert (
        main(
            [
                "profile",
                "merge",
                f"{found['slow']}=3",
                str(found["fast"]),
                "--out",
                str(found["fleet"]),
            ]
        )
        == 0
    )
    return found


def test_answer_says_what_a_walk_is_worth(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "walking.json"
    file.write_text(profiles.example(2e7, walks=4e4).to_json())
    assert main(["profile", "answer", str(file)]) == 0
    assert "a walk is worth 500 evaluations" in capsys.readouterr().out
    assert main(["profile", "answer", str(file), "--json"]) == 0
    assert printed(capsys)["walk_worth"] == 500
    assert main(["profile", "show", str(file)]) == 0
    assert "20,000 on one thread, 40,000 on all; a walk takes as long as 500" in (
        capsys.readouterr().out
    )


def test_bench_writes_a_profile(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "here.json"
    assert main(["bench", "--quick", "--json", "--name", "here", "--out", str(out)]) == 0
    profile = ClientProfile.from_json(out.read_bytes())
    assert ClientProfile.from_json(capsys.readouterr().out) == profile
    assert profile.name == "here"
    assert profile.server is not None
    assert min(profile.server.challenges_per_second, profile.server.verifications_per_second) > 1
    assert main(["profile", "show", str(out)]) == 0
    text = capsys.readouterr().out
    for part in ("million hashes/s", "p99, measured", "challenges issued", profile.kernel):
        assert part in text


def test_merge_weighs(files: dict[str, Path], tmp_path: Path, capsys: Capture) -> None:
    fleet = Fleet.from_json(files["fleet"].read_bytes())
    assert fleet.shares.tolist() == [0.75, 0.25]
    capsys.readouterr()
    nested = [f"{files['fleet']}=4", f"{files['fast']}=1", "--out", str(tmp_path / "more.json")]
    assert main(["profile", "merge", "--json", *nested]) == 0
    assert printed(capsys)["shares"] == pytest.approx([0.6, 0.2, 0.2])
    assert main(["profile", "show", str(files["fleet"])]) == 0
    text = capsys.readouterr().out
    assert "75.0%" in text
    assert "[slow]" in text  # a name is text, never markup


def test_compare_says_seconds_for_work_and_work_for_seconds(
    files: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    plot = tmp_path / "devices.png"
    of = ["--work", "500000", "--seconds", "2", "--parts", "4", "--quantile", "0.9"]
    names = [str(files["slow"]), str(files["fast"])]
    capsys.readouterr()
    assert main(["profile", "compare", *names, *of, "--json", "--plot", str(plot)]) == 0
    slow = ClientProfile.from_json(files["slow"].read_bytes())
    row = printed(capsys)["devices"][0]
    assert row["name"].startswith("[slow]")
    assert row["seconds"] == solve_seconds(slow, 500_000, 4, 0.9)
    assert solve_seconds(slow, row["work"], 4, 0.9) == pytest.approx(2.0, rel=1e-5)
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert main(["profile", "compare", *names]) == 0
    assert "work within 1 s" in capsys.readouterr().out


def test_answer_is_for_the_share_of_the_clients(files: dict[str, Path], capsys: Capture) -> None:
    fleet = Fleet.from_json(files["fleet"].read_bytes())
    fast = Fleet(fleet.profiles[1:], (1.0,))
    capsys.readouterr()
    for share, whose in ((0.95, fleet), (0.25, fast)):
        asked = ["--share", str(share), "--seconds", "0.5", "--parts", "1", "16"]
        assert main(["profile", "answer", str(files["fleet"]), "--json", *asked]) == 0
        for row, parts in zip(printed(capsys)["works"], (1, 16), strict=True):
            expected = affordable_work(whose, seconds=0.5, share=1.0, parts=parts)
            assert (row["parts"], row["work"]) == (parts, expected)
            assert row["evaluations"] == evaluations(expected, parts, 0.99)
    assert main(["profile", "answer", str(files["fleet"])]) == 0
    assert "0.95 of the clients within 1 s" in capsys.readouterr().out


def test_calibrate_counts_a_fleet_s_devices(
    files: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    rng = np.random.default_rng(0)
    save_traces(tmp_path / "honest.npz", [rng.exponential(0.8, 1000) for _ in range(40)])
    base = ["calibrate", str(tmp_path / "honest.npz"), "--service-time", "0.005"]
    base += ["--out", str(tmp_path / "tariff.json")]
    capsys.readouterr()
    assert main([*base, "--fleet", str(files["fleet"])]) == 0
    assert "slowest tenth of the devices (at most 2 million hashes/s)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "missing.json"],
        ["show", "{wrong}"],
        ["compare", "{slow}", "--work", "0"],
        ["compare", "{slow}", "--quantile", "1"],
        ["compare", "{slow}", "--seconds", "nan"],
        ["merge", "{slow}=many"],
        ["merge", "{slow}=0"],
        ["answer", "{fleet}", "--share", "0"],
        ["answer", "{fleet}", "--parts", "5000"],
    ],
)
def test_wrong_input_is_one_clear_line(
    arguments: list[str],
    files: dict[str, Path],
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"format": "powfast-fleet"}')
    capsys.readouterr()
    filled = [argument.format(wrong=wrong, **files) for argument in arguments]
    assert main(["profile", *filled]) == 2
    error = capsys.readouterr().err
    assert error.startswith("powfast: ")
    assert error.count("\n") == 1
