"""from_votes against the paper's own numbers, 60-digit arithmetic and hostile input."""

from __future__ import annotations

import csv

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from powfast.errors import InvalidInput
from powfast.leakage import Accountant, Scorer, from_labels, from_votes, gnmax

ENGINES = ("numba", "numpy")
NETWORKS = {"mnist": (250, 10.0, 1e-5), "svhn": (250, 10.0, 1e-6), "cifar10": (50, 2.0, 1e-5)}


def random_votes(rng, n, classes, teachers):
    spread = rng.dirichlet(np.full(classes, 0.2), size=n)
    return np.stack([rng.multinomial(teachers, p) for p in spread])


@pytest.fixture(scope="module")
def golden(data):
    folder = data / "paper" / "golden"

    def rows(name):
        with (folder / name).open() as file:
            return list(csv.DictReader(file))

    return rows


@pytest.mark.parametrize("engine", ENGINES)
def test_golden_per_query(golden, engine):
    rows = golden("golden_pate_per_query_eps.csv")
    assert len(rows) > 70
    for row in rows:
        votes = [[int(v) for v in row["votes"].split()]]
        sigma, delta = float(row["sigma"]), float(row["delta"])
        log_q = from_votes(votes, sigma, "logq", engine=engine)
        eps = from_votes(votes, sigma, "iclr2022", delta=delta, engine=engine)
        assert log_q[0] == pytest.approx(float(row["logq"]), rel=1e-9)
        assert eps[0] == pytest.approx(float(row["eps_single"]), rel=1e-9)
        for order in (2, 8, 32):
            u = from_votes(votes, sigma, "rdp", order=order, engine=engine)[0]
            expected = float(row[f"rdp_order{order}"])
            assert u * order / sigma**2 == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("engine", ENGINES)
def test_golden_composition(golden, engine):
    rows = golden("golden_pate_composition.csv")
    assert len(rows) == 60
    for row in rows:
        teachers, sigma, delta = NETWORKS[row["dataset"]]
        share = {"unanimous": 1.0, "95pct": 0.95, "80pct": 0.8}.get(row["votes"])
        top = teachers // 10 if share is None else int(share * teachers)
        votes = [top] * 10 if share is None else [top, teachers - top] + [0] * 8
        n = int(row["n"])
        summed = n * from_votes([votes], sigma, "iclr2022", delta=delta, engine=engine)[0]
        assert summed == pytest.approx(float(row["sum_of_single_eps(authors)"]), rel=1e-9)
        accountant = Accountant(sigma, "iclr2022").add([votes] * n, engine=engine)
        assert accountant.epsilon(delta) == pytest.approx(float(row["rdp_composed_eps"]), rel=1e-9)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("classes, teachers", [(2, 50), (10, 250), (203, 50), (10, 30_000)])
@pytest.mark.parametrize("sigma", [0.3, 2.0, 10.0, 400.0])
def test_log_q_and_rdp_against_mpmath(engine, classes, teachers, sigma):
    votes = random_votes(np.random.default_rng(7), 8, classes, teachers)
    log_q = from_votes(votes, sigma, engine=engine)
    orders = (1.001, 2.0, 8.0)
    shares = [from_votes(votes, sigma, "rdp", order=o, engine=engine) for o in orders]
    for i, row in enumerate(votes):
        assert log_q[i] == pytest.approx(float(naive.log_q(row, sigma)), rel=1e-12)
        for order, share in zip(orders, shares, strict=True):
            if log_q[i] < -5000:  # both underflow; the oracle would need as many digits
                assert share[i] == 0.0
                continue
            expected = naive.rdp(float(log_q[i]), sigma, order) / (order / sigma**2)
            assert share[i] == pytest.approx(float(expected), rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("votes", [[30, 12, 8], [48, 1, 1], [25, 25, 0]])
def test_epsilon_against_mpmath(engine, votes):
    log_q = float(naive.log_q(votes, 2.0))
    for metric, orders in (("iclr2022", gnmax.ORDERS_ICLR2022), ("eps", gnmax.ORDERS)):
        expected = naive.epsilon(log_q, 2.0, orders, 1e-6, tight=metric == "eps")
        got = from_votes([votes], 2.0, metric, delta=1e-6, engine=engine)[0]
        assert got == pytest.approx(float(expected), rel=1e-11)


@pytest.mark.parametrize("metric", ["logq", "rdp", "iclr2022"])
@given(seed=st.integers(0, 2**32), classes=st.integers(2, 12), sigma=st.floats(0.5, 50))
def test_engines_agree_and_order_of_classes_is_nothing(metric, seed, classes, sigma):
    rng = np.random.default_rng(seed)
    votes = random_votes(rng, 5, classes, 60)
    one = from_votes(votes, sigma, metric, engine="numba")
    two = from_votes(votes[:, rng.permutation(classes)], sigma, metric, engine="numpy")
    np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-300)
    assert (from_votes(votes[2:3], sigma, metric) == one[2]).all(), "splitting a batch"


@pytest.mark.parametrize("metric", ["logq", "rdp", "iclr2022"])
def test_more_agreement_never_reveals_more(metric):
    votes = [[top, 250 - top, 0] for top in range(125, 251)]
    values = from_votes(votes, 10.0, metric)
    assert (np.diff(values) <= 0).all()
    assert values[0] > values[-1]


def test_ties_reach_the_cap():
    assert from_votes([[25, 25]], 2.0)[0] == pytest.approx(np.log(0.5))
    assert from_votes([[5] * 10], 2.0)[0] == pytest.approx(np.log(0.9))
    assert from_votes([[25, 25]], 2.0, "rdp")[0] == 1.0


@pytest.mark.parametrize("engine", ENGINES)
def test_any_layout_gives_the_same(engine):
    votes = random_votes(np.random.default_rng(1), 6, 10, 200)
    expected = from_votes(votes, engine=engine)
    for other in (
        votes.astype(np.uint8),
        votes.astype(np.float32),
        np.asfortranarray(votes),
        np.repeat(votes, 2, axis=0)[::2],
        votes.tolist(),
    ):
        assert (from_votes(other, engine=engine) == expected).all()
    assert from_votes(np.empty((0, 10), dtype=int), engine=engine).shape == (0,)


@pytest.mark.parametrize("engine", ENGINES)
def test_gaps_of_a_million_sigma_stay_finite(engine):
    for votes in ([[1_000_000, 0, 0]], [[999_999, 1, 0]]):
        value = from_votes(votes, 1.0, engine=engine)[0]
        assert value == pytest.approx(float(naive.log_q(votes[0], 1.0)), rel=1e-12)
        assert from_votes(votes, 1.0, "rdp", engine=engine)[0] == 0.0


BAD_VOTES = {
    "one class": [[50]],
    "no axis": [50, 0],
    "nan": [[np.nan, 50.0]],
    "infinite": [[np.inf, 0.0]],
    "negative": [[-1, 51]],
    "half a vote": [[49.5, 0.5]],
    "nobody voted": [[0, 0]],
    "different sums": [[50, 0], [49, 0]],
    "too many": [[2.0**60, 0.0]],
    "text": [["a", "b"]],
    "truth values": [[True, False]],
    "objects": [[None, 1]],
    "ragged": [[1, 2], [3]],
    "complex": [[1 + 0j, 2]],
    "a number": 3,
    "nothing": None,
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("votes", BAD_VOTES.values(), ids=BAD_VOTES.keys())
def test_malformed_votes_raise(votes, engine):
    with pytest.raises(InvalidInput):
        from_votes(votes, engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("place", [0, 7, 8, 199, 202])
def test_one_malformed_count_among_many_raises(place, engine):
    """Kernels read counts in blocks: wherever it stands, and in the last row too."""
    votes = np.zeros((3, 203), dtype=np.int64)
    votes[:, 100] = 50
    for count, rest in ((-1, 51), (1, 50), (2**62, 50 - 2**62), (2**32, 50 - 2**32)):
        votes[2, [place, 100]] = count, rest
        with pytest.raises(InvalidInput):
            from_votes(votes, engine=engine)
    votes[2, [place, 100]] = 1, 49
    assert from_votes(votes, engine=engine)[2] > from_votes(votes, engine=engine)[0]


@pytest.mark.parametrize(
    "bad",
    [
        {"sigma": 0},
        {"sigma": -1.0},
        {"sigma": np.nan},
        {"sigma": np.inf},
        {"sigma": "10"},
        {"sigma": True},
        {"metric": "nothing"},
        {"metric": "iclr2022", "delta": 0.0},
        {"metric": "iclr2022", "delta": 1.0},
        {"metric": "rdp", "order": 1.0},
        {"engine": "fortran"},
        {"teachers": 51},
        {"teachers": "fifty"},
        {"sigma": [2.0]},
        {"delta": {}},
    ],
    ids=str,
)
@pytest.mark.parametrize("engine", ENGINES)
def test_parameters_out_of_range_raise(bad, engine):
    with pytest.raises(InvalidInput):
        from_votes([[50, 0]], **{"engine": engine, **bad})


@pytest.mark.parametrize("engine", ENGINES)
def test_a_scorer_serves_query_after_query(golden, engine):
    score = Scorer(10.0, "iclr2022", engine=engine)
    for row in golden("golden_pate_per_query_eps.csv"):
        if (float(row["sigma"]), float(row["delta"])) == (10.0, 1e-5):
            votes = [[int(v) for v in row["votes"].split()]]
            assert score(votes)[0] == pytest.approx(float(row["eps_single"]), rel=1e-9)
    for bad in BAD_VOTES.values():
        with pytest.raises(InvalidInput):
            score(bad)
    with pytest.raises(InvalidInput):
        Scorer([2.0], engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("metric", ["logq", "rdp", "iclr2022"])
@pytest.mark.parametrize("exact", [True, False])
def test_labels_are_votes(engine, metric, exact):
    rng = np.random.default_rng(4)
    labels = np.where(rng.uniform(size=(40, 50)) < 0.7, 3, rng.integers(0, 300, (40, 50)))
    votes = np.stack([np.bincount(row, minlength=300) for row in labels])
    got = from_labels(labels, 300, 2.0, metric, exact=exact, engine=engine)
    expected = from_votes(votes, 2.0, metric, exact=exact, engine=engine)
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    for i in range(3):
        assert from_labels(labels[i : i + 1], 300, 2.0, engine=engine)[0] == pytest.approx(
            float(naive.log_q(votes[i], 2.0)), rel=1e-12
        )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "labels, classes", [([[0, 3]], 3), ([[0, -1]], 3), ([[0.5, 1]], 3), ([0, 1], 3), ([[0, 1]], 1)]
)
def test_malformed_labels_raise(engine, labels, classes):
    with pytest.raises(InvalidInput):
        from_labels(labels, classes, engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("metric", ["logq", "rdp", "iclr2022"])
@given(
    votes=hnp.arrays(
        st.sampled_from([np.int64, np.int8, np.uint64, np.float32]),
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=4),
    ),
    sigma=st.floats(1e-3, 1e6),
)
@settings(max_examples=60, deadline=None)
def test_any_array_is_scored_or_refused(engine, metric, votes, sigma):
    """Overflowing sums, extremes of every type, empty shapes: InvalidInput or a sound number."""
    try:
        values = from_votes(votes, sigma, metric, engine=engine)
    except InvalidInput:
        return
    assert values.shape == (len(votes),)
    assert (values <= 0.0).all() if metric == "logq" else (values >= 0.0).all()
    assert np.isfinite(values).all()
