"""Account evidence: what a loop computes; its promises, by simulation; and what it sees."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from conftest import needs

from powfast.errors import InvalidInput
from powfast.leakage import LeakageEstimator, OwnDirection
from powfast.leakage.reference import luck
from powfast.sketch import Advance, Sketch
from powfast.tariff import EvidenceTariff

needs("numba")

D, CLASSES = 40, 12
SHARES = np.array([30.0] * 4 + [3.0] * 8) / 144.0  # four classes are usual, eight are rare
CENTRES = np.random.default_rng(5).normal(size=(CLASSES, D))
MIXING = np.random.default_rng(6).normal(size=(D, D)) / np.sqrt(D)


def features_of(classes, rng):
    """Features of honest queries of such classes: heavy tails, correlated."""
    noise = rng.standard_t(5, size=(len(classes), D)) @ MIXING
    return CENTRES[classes] + noise


def drawn(count, rng, classes=None):
    of = rng.choice(CLASSES, count, p=SHARES) if classes is None else rng.choice(classes, count)
    return features_of(of, rng), of


def fitted(seed=0, honest=2500, **settings):
    rng = np.random.default_rng(seed)
    return OwnDirection(**settings).fit(*drawn(2000, rng)).calibrate(*drawn(honest, rng))


@pytest.fixture(scope="module")
def direction():
    return fitted()


def after(sketch, advance):
    """The sketch that a ledger has after such an advance."""
    if sketch is None:
        return Sketch(advance.sums, advance.fixed, advance.version)
    fixed = advance.fixed if advance.fixed[0] > sketch.fixed[0] else sketch.fixed
    return Sketch(sketch.sums + advance.sums, fixed, sketch.version)


def wealth(evidence):
    """The wealth of a bet on the evidence of queries, after each of them."""
    work, _ = EvidenceTariff(base_work=1.0, max_work=2.0**60).work(evidence)
    return work


@pytest.mark.parametrize("seed", range(4))
def test_it_is_what_a_plain_loop_computes(seed):
    direction = fitted(seed, 300, minimum=40)
    rng = np.random.default_rng([seed, 1])
    features, classes = drawn(60, rng)
    again = rng.integers(60, size=30)
    features, classes = np.vstack([features, features[again]]), np.append(classes, classes[again])
    z, honest = direction.project(features, classes).astype(float), direction.honest_.astype(float)
    names, counts = np.unique(direction.strata_, return_counts=True)
    apart = set(names[counts >= 40])
    assert 0 < len(apart) < CLASSES
    pool = honest[~np.isin(direction.strata_, list(apart))]
    compared = [honest[direction.strata_ == c] if c in apart else pool for c in classes]
    divisors = [
        max(luck(len(rows), 0.01, (0.1, 0.2, 0.5)), 0.0 if c in apart else 3.0)
        for c, rows in zip(classes, compared, strict=True)
    ]
    nothing = 0, [0.0] * 32, [0.0] * 32
    same = [False] * 60 + [True] * 30
    expected, sums, fixed = naive.own_direction(z, same, compared, divisors, nothing, nothing)
    found = direction.advance(features, classes)
    np.testing.assert_allclose(found.evidence, expected, rtol=1e-6)
    np.testing.assert_allclose(found.sums[:65], np.hstack(sums), atol=1e-6)
    np.testing.assert_allclose(found.fixed[:65], np.hstack(fixed), atol=1e-6)
    assert found.sums[0] == 60.0 and found.fixed[0] == 60.0


def test_how_queries_are_cut_into_requests_changes_nothing(direction):
    features, classes = drawn(100, np.random.default_rng(1))
    whole, sketch, parts = direction.advance(features, classes), None, []
    for rows in np.split(np.arange(100), [1, 2, 4, 9, 40, 41]):
        advance = direction.advance(features[rows], classes[rows], sketch)
        sketch = after(sketch, advance)
        parts.append(advance.evidence)
    np.testing.assert_allclose(np.concatenate(parts), whole.evidence, rtol=1e-9)
    np.testing.assert_allclose(sketch.sums, whole.sums, atol=1e-9)
    np.testing.assert_allclose(sketch.fixed, whole.fixed, atol=1e-9)


@pytest.mark.parametrize("requests", [1, 30, 90], ids=["one request", "30 requests", "one each"])
def test_repeats_advance_nothing(direction, requests):
    features, classes = drawn(30, np.random.default_rng(2))
    again = features * (1.0 + 1e-9 * np.random.default_rng(3).normal(size=(3, 30, D)))
    sent, of, sketch, evidence = np.vstack(again), np.tile(classes, 3), None, []
    for rows in np.split(np.arange(90), requests):
        advance = direction.advance(sent[rows], of[rows], sketch)
        sketch = after(sketch, advance)
        evidence.append(advance.evidence)
    alone = direction.advance(features, classes)
    assert sketch.sums[0] == alone.sums[0] == 30.0
    np.testing.assert_allclose(sketch.sums[:65], alone.sums[:65], atol=1e-4)
    np.testing.assert_allclose(np.concatenate(evidence)[:30], alone.evidence, rtol=1e-3)
    assert (np.concatenate(evidence)[30:] == 1.0).all()


def test_whoever_asks_the_same_five_again_and_again_pays_nothing_for_it(direction):
    rng = np.random.default_rng(11)
    for _ in range(20):
        features, classes = drawn(5, rng)
        sketch, evidence = None, []
        for row in rng.choice(5, 60):
            advance = direction.advance(features[row : row + 1], classes[row : row + 1], sketch)
            sketch = after(sketch, advance)
            evidence.append(advance.evidence)
        assert sketch.sums[0] == 5.0 and wealth(np.concatenate(evidence)).max() == 1.0


@pytest.mark.parametrize("distinct, most", [(100, 0.01), (300, 0.06), (1000, 0.35)])
def test_few_queries_are_taken_for_repeats(direction, distinct, most):
    rng = np.random.default_rng(12)
    sketch = after(None, direction.advance(*drawn(distinct, rng)))
    found = direction.advance(*drawn(200, rng), sketch)
    assert 200.0 - found.sums[0] <= most * 200.0


def test_queries_far_out_are_as_good_as_others(direction):
    found = direction.advance(np.array([[1e99], [-1e99], [1e99]]) * np.ones(D), [0, 0, 0])
    assert np.isfinite(found.sums).all() and found.sums[0] == 2.0


def test_another_estimator_starts_anew(direction):
    features, classes = drawn(40, np.random.default_rng(4))
    other = fitted(1)
    assert other.version != direction.version and any(direction.version)
    assert fitted().version == direction.version, "the same data make the same estimator"
    sketch = after(None, other.advance(features, classes))
    one, new = direction.advance(features, classes, sketch), direction.advance(features, classes)
    assert (one.evidence == new.evidence).all() and (one.sums == new.sums).all()
    assert isinstance(one, Advance) and one.version == direction.version


def test_what_is_loaded_is_the_same_estimator(direction, tmp_path):
    direction.save(tmp_path / "direction.npz")
    loaded = OwnDirection.load(tmp_path / "direction.npz")
    features, classes = drawn(30, np.random.default_rng(5))
    assert loaded.version == direction.version
    evidence = loaded.advance(features, classes).evidence
    assert (evidence == direction.advance(features, classes).evidence).all()


@pytest.mark.parametrize(
    "features, classes",
    [
        (np.full((1, D), np.nan), [0]),
        (np.full((1, D), 1e200), [0]),
        (np.zeros((1, D + 1)), [0]),
        (np.zeros((2, D)), [0]),
        (np.zeros((1, D)), [0.5]),
        (np.zeros((1, D)), [[0]]),
    ],
)
def test_bad_queries_raise(direction, features, classes):
    with pytest.raises(InvalidInput):
        direction.advance(features, classes)


def test_bad_fits_raise():
    with pytest.raises(InvalidInput, match="two rows"):
        OwnDirection().fit(np.zeros((1, 3)), [0])
    with pytest.raises(InvalidInput, match="fit first"):
        OwnDirection().calibrate(np.zeros((1, 3)), [0])
    with pytest.raises(InvalidInput, match="one honest query"):
        fitted(honest=0)
    with pytest.raises(InvalidInput):
        OwnDirection().fit(np.random.default_rng(0).normal(size=(5, 3)), [0] * 5).advance([], [])


# -- promises, on honest accounts that see what the server sees


def mixed(direction, rng):
    return drawn(400, rng)


def one_class(direction, rng):
    return drawn(400, rng, [rng.integers(CLASSES)])


def three_rare(direction, rng):
    return drawn(400, rng, rng.choice(np.arange(4, CLASSES), 3, replace=False))


def one_after_the_other(direction, rng):
    return features_of(classes := np.sort(rng.choice(CLASSES, 400)), rng), classes


def dearest(direction, rng):
    """At each step a query of the class whose queries are the dearest for this account now."""
    pools = [features_of(np.full(30, c), rng) for c in range(CLASSES)]
    features, classes, sketch = [], [], None
    for step in range(45):
        if step % 5 == 0:
            means = [
                direction.advance(pool[i : i + 1], [c], sketch).evidence[0]
                for c, pool in enumerate(pools)
                for i in range(30)
            ]
            best = int(np.reshape(means, (CLASSES, 30)).mean(axis=1).argmax())
        query = features_of(np.array([best]), rng)
        sketch = after(sketch, direction.advance(query, [best], sketch))
        features.append(query[0])
        classes.append(best)
    return np.array(features), np.array(classes)


@pytest.mark.parametrize(
    "kind, accounts",
    [(mixed, 240), (one_class, 240), (three_rare, 240), (one_after_the_other, 240), (dearest, 24)],
)
def test_honest_accounts_are_seldom_dear_whenever_they_stop(kind, accounts):
    """P(ever above c) is at most 1/c over references and accounts, whatever classes they ask."""
    highest = []
    for seed in range(6):
        direction, rng = fitted(seed), np.random.default_rng([seed, 7])
        for _ in range(accounts // 6):
            highest.append(wealth(direction.advance(*kind(direction, rng)).evidence).max())
    highest = np.array(highest)
    for price in (2.0, 5.0, 10.0, 100.0):
        allowed = 1.0 / price
        spread = 3.0 * np.sqrt(allowed * (1.0 - allowed) / accounts)
        assert (highest > price).mean() <= allowed + spread, (price, highest)


def test_requests_at_once_start_at_the_same_sketch_and_stay_evidence():
    """Eight requests of an account at a time: each is judged by what was known before them all."""
    highest = []
    for seed in range(6):
        direction, rng = fitted(seed), np.random.default_rng([seed, 8])
        for _ in range(30):
            features, classes = drawn(320, rng)
            sketch, evidence = None, []
            for at in range(0, 320, 32):
                advances = [
                    direction.advance(features[rows], classes[rows], sketch)
                    for rows in np.split(np.arange(at, at + 32), 8)
                ]
                for advance in advances:
                    sketch = after(sketch, advance)
                evidence += [advance.evidence for advance in advances]
            assert sketch.sums[0] >= 310.0, "nothing is lost, but for chance repeats"
            highest.append(wealth(np.concatenate(evidence)).max())
    assert (np.array(highest) > 10.0).mean() <= 0.1 + 3.0 * np.sqrt(0.09 / 180)


# -- what it sees


@pytest.mark.parametrize(
    "kind, most",
    [("shifted together", 60), ("all alike", 40), ("mixed in pairs", 60)],
)
def test_accounts_with_a_direction_of_their_own_get_dear(direction, kind, most):
    rng = np.random.default_rng(9)
    features, classes = drawn(300, rng)
    if kind == "shifted together":
        features = features + 1.5 * rng.normal(size=D) @ MIXING
    elif kind == "all alike":
        features = features[:1] + 0.2 * (features - CENTRES[classes])
        classes = np.full(300, classes[0])
    else:
        features = 0.5 * (features + features[rng.permutation(300)])
    prices = wealth(direction.advance(features, classes).evidence)
    assert np.argmax(prices > 200.0) in range(5, most), prices.max()


def test_the_estimator_gives_both_kinds(tmp_path):
    rng = np.random.default_rng(0)
    features, classes = drawn(900, rng)
    answers = 0.5 * np.eye(CLASSES)[classes] + 0.5 / CLASSES
    names = np.array([f"class {c:02}" for c in range(CLASSES)])
    estimator = LeakageEstimator(5).fit(features[:400], names[classes[:400]])
    estimator.calibrate(features[400:800], answers[400:800])
    estimate = estimator.estimate(features[800:], answers[800:])
    assert (estimate.evidence == estimator.evidence(features[800:], answers[800:])).all()
    own = estimator.direction_.advance(features[800:], classes[800:])
    assert (estimate.advance(None).evidence == own.evidence).all()
    estimator.save(tmp_path / "estimator.npz")
    loaded = LeakageEstimator.load(tmp_path / "estimator.npz")
    assert loaded.direction_.version == estimator.direction_.version
