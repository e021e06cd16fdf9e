"""Drawings as the model reads them: like the data set, and the same in Python and in the page."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, missing
from handwriting import mnist
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from powfast.demo.strokes import drawing, drawings, normalised


def hands(count: int, seed: int = 0) -> list[list[NDArray[np.float64]]]:
    rng = np.random.default_rng(seed)
    return [drawing(i % 10, rng) for i in range(count)]


def test_drawings_have_the_shape_of_the_data_set() -> None:
    real = load_digits().data / 16.0
    drawn = drawings(300, np.random.default_rng(1)).images
    assert set(np.unique(drawn * 16)) <= set(range(17))
    for rows in (real, drawn):
        pictures = rows.reshape(-1, 8, 8)
        assert (pictures[:, [0, -1]].max(axis=2) > 0).all()  # from top to bottom
        assert (pictures[:, :, [0, 7]].max(axis=(1, 2)) > 0).mean() < 0.25  # with empty sides
        assert 18 < rows.sum(axis=1).mean() < 21  # about as much ink


@settings(deadline=None)
@given(st.floats(0.01, 1000), st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.integers(0, 9))
def test_size_and_place_do_not_matter(size: float, x: float, y: float, digit: int) -> None:
    strokes = drawing(digit, np.random.default_rng(digit))
    moved = [size * stroke + (size * x / 100, size * y / 100) for stroke in strokes]
    assert np.abs(normalised(moved) - normalised(strokes)).max() <= 2 / 16


def test_a_slanted_line_is_put_upright() -> None:
    upright, slanted = [np.array([[0.0, 0.0], [0.0, 1.0]])], [np.array([[0.4, 0.0], [0.0, 1.0]])]
    assert np.abs(normalised(upright) - normalised(slanted)).max() <= 1 / 16
    bar = normalised(upright).reshape(8, 8)
    assert (bar[:, 3:5] > 0.5).all() and not bar[:, [0, 1, 6, 7]].any()


@pytest.mark.parametrize("points", [[[0.5, 0.5]], [[0.1, 0.5], [0.9, 0.5]], [[0.2, 0.2]] * 5])
def test_a_dot_and_a_dash_are_pictures_too(points: list[list[float]]) -> None:
    grey = normalised([np.array(points)])
    assert grey.shape == (64,)
    assert 0 < grey.sum() < 32
    assert np.isfinite(grey).all()


def test_other_people_s_digits_are_recognised_the_better_for_drawings(data: Path) -> None:
    images, labels = mnist(data, 400)
    real = load_digits()
    known = SVC(gamma=0.05, C=10).fit(real.data[:500] / 16, real.target[:500])
    drawn = drawings(800, np.random.default_rng(2))
    both = SVC(gamma=0.05, C=10).fit(
        np.vstack([real.data[:500] / 16, drawn.images]), [*real.target[:500], *drawn.labels]
    )
    score = both.score(images, labels)
    assert score > 0.8
    assert score > known.score(images, labels) + 0.05


def test_the_page_prepares_drawings_as_python_does(tmp_path: Path) -> None:
    node = shutil.which("node") or missing("no node here")
    drawn = [*hands(100), [np.array([[0.5, 0.5]])], [np.array([[0.1, 0.5], [0.9, 0.5]])]]
    module = (ROOT / "powfast" / "demo" / "page" / "strokes.js").read_text()
    script = tmp_path / "strokes.mjs"
    strokes = json.dumps([[stroke.tolist() for stroke in one] for one in drawn])
    script.write_text(f"{module}\nconsole.log(JSON.stringify({strokes}.map(normalised)));")
    done = subprocess.run([node, script], capture_output=True, text=True, timeout=600, check=True)
    ours, theirs = np.stack([normalised(one) for one in drawn]), np.array(json.loads(done.stdout))
    assert (ours == theirs).mean() > 0.999  # but for the last bit of a distance
    assert np.abs(ours - theirs).max() <= 1 / 16
