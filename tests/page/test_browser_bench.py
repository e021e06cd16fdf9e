"""`powfast bench --browser`: a real browser measures itself into the same document."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import missing

from powfast.cli import main
from powfast.errors import BrowserFailed
from powfast.profile import ClientProfile, browser
from powfast.profile.measure import seed
from powfast.puzzle import Puzzle, solve_counted


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> ClientProfile:
    if not any(map(shutil.which, browser._PROGRAMS)):
        missing("no browser here")
    file = tmp_path_factory.mktemp("bench") / "browser.json"
    assert main(["bench", "--browser", "--quick", "--name", "here", "--out", str(file)]) == 0
    return ClientProfile.from_json(file.read_text())


def test_the_profile_is_whole(profile: ClientProfile) -> None:
    assert (profile.name, profile.quick, profile.server) == ("here", True, None)
    assert profile.kernel == "wasm-simd128"
    counts = {1, profile.solver.threads}
    kernels = ("wasm-simd128", "javascript")
    assert {(rate.kernel, rate.threads) for rate in profile.rates} == {
        (kernel, count) for kernel in kernels for count in counts
    }
    for rate in profile.rates:
        assert rate.quartiles[0] <= rate.hashes_per_second <= rate.quartiles[1]
    assert len(profile.sustained.hashes_per_second) == 4
    assert any(agent in profile.device.agent for agent in ("Chrom", "Edge", "Brave"))
    assert profile.device.cpu != ""


def test_its_puzzles_are_those_of_every_other_device(profile: ClientProfile) -> None:
    rungs = [rung for rung in profile.solving if (rung.work, rung.threads) == (10_000, 1)]
    assert {rung.parts for rung in rungs} >= {1}
    for rung in rungs:
        puzzles = [Puzzle(seed(rung.work, rung.parts, i), rung.work, rung.parts) for i in range(20)]
        # one worker searches each part's nonces in order, as one thread does
        assert rung.evaluations == sum(solve_counted(one, threads=1)[1] for one in puzzles)
        assert 0 < rung.p50 <= rung.p90 <= rung.p99


def test_show_reads_it(
    profile: ClientProfile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "browser.json").write_text(profile.to_json())
    assert main(["profile", "show", str(tmp_path / "browser.json")]) == 0
    assert "wasm-simd128 (in use)" in capsys.readouterr().out


def test_without_a_browser_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(browser, "_PROGRAMS", ("chromium",))
    assert main(["bench", "--browser", "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["error"] == "browser-failed"
    assert "--browser" in told["detail"]


def test_a_browser_that_ends_is_reported() -> None:
    with pytest.raises(BrowserFailed, match="ended with status"):
        browser.measure_browser(shutil.which("true"))
