"""NeighbourVotes by FAISS against the exact search: recall, distances, hostile queries, errors."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import needs

from powfast.errors import InvalidInput, MissingExtra
from powfast.leakage import NeighbourVotes

needs("faiss")

K = 10


@pytest.fixture(scope="module")
def points():
    """20 000 points near a curved surface of six dimensions in 32, and which patch each is of."""
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(20_400, 6))
    curved = np.tanh(flat @ rng.normal(size=(6, 32))) + 0.05 * rng.normal(size=(20_400, 32))
    return curved, (flat[:, 0] > 0) + 2 * (flat[:, 1] > 0)


@pytest.fixture(scope="module", params=["euclidean", "cosine"])
def both(points, request):
    X, y = points
    options = {"neighbours": K, "metric": request.param}
    exact = NeighbourVotes(**options).fit(X[:20_000], y[:20_000])
    return exact, NeighbourVotes(approximate=True, **options).fit(X[:20_000], y[:20_000])


def test_recall(points, both):
    exact, fast = both
    queries = points[0][20_000:]
    (truth, _), (found, _) = exact._nearest(queries), fast._nearest(queries)
    shared = [len(set(a) & set(b)) for a, b in zip(truth, found, strict=True)]
    assert np.mean(shared) / K > 0.98
    assert (fast.votes(queries).sum(axis=1) == K).all()
    assert (fast.votes(queries) == exact.votes(queries)).all(axis=1).mean() > 0.95


def test_distances_are_those_of_real_points(points, both):
    """Never below the true k-th distance, and mostly equal to it."""
    true, found = (each.distance(points[0][20_000:]) for each in both)
    assert (found >= true * (1 - 1e-6)).all()
    assert np.isclose(found, true, rtol=1e-9).mean() > 0.9


def test_queries_from_far_away(both):
    exact, fast = both
    for size in (1e3, 1e20, 1e100):
        queries = np.random.default_rng(1).choice([-1.0, 1.0], (5, 32)) * size
        assert (fast.votes(queries).sum(axis=1) == K).all()
        if fast.metric == "euclidean":
            np.testing.assert_allclose(fast.distance(queries), exact.distance(queries), rtol=1e-2)
    with pytest.raises(InvalidInput):
        fast.votes(np.full((1, 32), np.nan))


def test_cells_with_too_few_points_are_searched_exactly(points):
    X, y = points
    exact = NeighbourVotes(3000).fit(X[:3100], y[:3100])
    fast = NeighbourVotes(3000, approximate=True).fit(X[:3100], y[:3100])
    assert (fast.votes(X[3100:3110]) == exact.votes(X[3100:3110])).all()


def test_same_points_same_answers_and_saving(points, both, tmp_path):
    _, fast = both
    queries = points[0][20_000:]
    fast.save(tmp_path / "neighbours.npz")
    loaded = NeighbourVotes.load(tmp_path / "neighbours.npz")
    assert loaded.approximate
    assert (loaded.votes(queries) == fast.votes(queries)).all()
    assert (loaded.distance(queries) == fast.distance(queries)).all()
    assert fast.votes(queries[:0]).shape == (0, 4)


def test_a_forked_process_and_many_threads_search_as_well(points, both):
    _, fast = both
    queries = points[0][20_000:]
    expected = fast.votes(queries)
    with ThreadPoolExecutor(4) as pool:
        assert all((got == expected).all() for got in pool.map(fast.votes, [queries] * 8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        child = os.fork()
    if child == 0:
        signal.alarm(600)
        os._exit(0 if (fast.votes(queries) == expected).all() else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_missing_library_names_the_extra(points, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtra, match=r"powfast\[neighbours\]"):
        NeighbourVotes(approximate=True).fit(points[0][:500], points[1][:500])
