"""Each attack's rule against a naive statement of it, on data small enough to see through."""

from __future__ import annotations

import numpy as np
import pytest
from laboratory import torch

from benchmarks.extraction.attacks import ATTACKS, datafree, mixmatch
from benchmarks.extraction.attacks.base import Asked, Means
from benchmarks.extraction.attacks.deepfool import perturbation
from benchmarks.extraction.attacks.greedy import k_centre
from benchmarks.extraction.attacks.jacobian import STEP, other_classes
from benchmarks.extraction.attacks.knockoff_adaptive import GradientBandit, rewards
from benchmarks.extraction.data import Pictures

SHAPE = (1, 8, 8)
OWN = 60


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def linear(seed: int = 0) -> torch.nn.Sequential:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).eval()


def matrix(model: torch.nn.Sequential) -> tuple[np.ndarray, np.ndarray]:
    return model[1].weight.detach().double().numpy(), model[1].bias.detach().double().numpy()


def scores_of(model: torch.nn.Sequential, images: np.ndarray) -> np.ndarray:
    weight, bias = matrix(model)
    return images.reshape(len(images), -1).astype(np.float64) @ weight.T + bias


@pytest.fixture
def means() -> Means:
    rng = np.random.default_rng(5)
    owned = rng.random((OWN, *SHAPE), dtype=np.float32)
    foreign = Pictures(rng.random((80, *SHAPE), dtype=np.float32), np.arange(80) % 4)
    return Means(owned, foreign, linear, 1.0, 3, None, lambda images: images.mean(axis=(1, 2, 3)))


@pytest.fixture
def asked(means: Means) -> Asked:
    images = np.random.default_rng(6).random((20, *SHAPE), dtype=np.float32)
    return Asked(images, softmax(scores_of(linear(9), images)))


@pytest.mark.parametrize("name", ATTACKS)
def test_proposals_are_images_within_the_count(name: str, means: Means) -> None:
    attack, known, copy = ATTACKS[name](means, 0), Asked.nothing(means.owned), None
    for total in (30, 100, 250):
        while len(known) < total:
            images = attack.propose(total - len(known), known, copy)
            assert 1 <= len(images) <= total - len(known)
            assert images.shape[1:] == SHAPE and images.dtype == np.float32
            assert images.min() >= -0.01 and images.max() <= 1.01
            known = known.plus(images, softmax(scores_of(linear(9), images)))
        copy = attack.train(known)
        assert copy(torch.from_numpy(known.images)).shape == (total, 10)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_seed_says_everything(name: str, means: Means, asked: Asked) -> None:
    one, two = (ATTACKS[name](means, 3).propose(15, asked, linear()) for _ in range(2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", ["Standard", "Entropy", "Greedy", "WorstCase", "CopyCat"])
def test_no_image_is_asked_twice_before_all_are(name: str, means: Means, asked: Asked) -> None:
    attack = ATTACKS[name](means, 0)
    pool = means.foreign.images if name == "CopyCat" else means.owned
    batches = [attack.propose(20, asked, linear()) for _ in range(len(pool) // 20)]
    assert sorted(map(bytes, np.concatenate(batches))) == sorted(map(bytes, pool))
    assert len(attack.propose(20, asked, linear())) == 20


def entropy(p: np.ndarray) -> float:
    return float(-(p * np.log(p)).sum())


def lead(p: np.ndarray) -> float:
    first, second = sorted(p)[:-3:-1]
    return float(first - second)


@pytest.mark.parametrize(
    ("name", "badness"),
    [
        ("Entropy", lambda p, x: -entropy(p)),
        ("EntropyRev", lambda p, x: entropy(p)),
        ("Gap", lambda p, x: lead(p)),
        ("WorstCase", lambda p, x: float(x.mean())),
    ],
)
def test_selection_takes_the_extreme_ones_first(
    name: str, badness: object, means: Means, asked: Asked
) -> None:
    copy = linear(1)
    chosen = ATTACKS[name](means, 0).choose(means.owned, 7, asked, copy)
    answers = softmax(scores_of(copy, means.owned))
    order = sorted(range(OWN), key=lambda i: badness(answers[i], means.owned[i]))  # type: ignore[operator]
    assert chosen.tolist() == order[:7]


@pytest.mark.parametrize("seed", range(5))
def test_k_centre_against_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, centres = rng.normal(size=(30, 3)), rng.normal(size=(4, 3))
    expected, known = [], list(centres)
    for _ in range(8):
        nearest = [min(np.linalg.norm(point - centre) for centre in known) for point in points]
        expected.append(int(np.argmax(nearest)))
        known.append(points[expected[-1]])
    assert k_centre(torch.tensor(points), torch.tensor(centres), 8).tolist() == expected


def test_k_centre_takes_equal_points_once_each() -> None:
    same = torch.zeros(5, 2)
    assert sorted(k_centre(same, same[:1], 5).tolist()) == [0, 1, 2, 3, 4]


def test_deepfool_is_exact_for_a_linear_model(means: Means) -> None:
    model = linear(2)
    weight, _ = matrix(model)
    scores = scores_of(model, means.owned)
    lengths = perturbation(model, torch.from_numpy(means.owned), rounds=1).norm(dim=1)
    for i, row in enumerate(scores):
        best = row.argmax()
        distances = [
            (row[best] - row[k]) / np.linalg.norm(weight[k] - weight[best])
            for k in range(10)
            if k != best
        ]
        assert lengths[i].item() == pytest.approx(min(distances), rel=1e-4)


def test_deepfool_asks_about_the_nearest_to_a_boundary(means: Means, asked: Asked) -> None:
    model = linear(2)
    lengths = perturbation(model, torch.from_numpy(means.owned)).norm(dim=1).numpy()
    chosen = ATTACKS["DeepFool"](means, 0).choose(means.owned, 5, asked, model)
    assert chosen.tolist() == np.argsort(lengths)[:5].tolist()


def test_jacobian_steps_along_the_sign_of_the_answered_class(means: Means) -> None:
    model = linear(3)
    labels = np.arange(OWN) % 10
    pushed = ATTACKS["Jacobian"](means, 0).pushed(means.owned, labels, model)  # type: ignore[attr-defined]
    step = STEP * np.sign(matrix(model)[0][labels]).reshape(-1, *SHAPE)
    np.testing.assert_allclose(pushed, np.clip(means.owned + step, 0, 1), atol=1e-6)


def test_jacobian_tr_comes_nearer_to_other_classes(means: Means) -> None:
    model, labels = linear(3), np.arange(OWN) % 10
    attack = ATTACKS["Jacobian-TR"](means, 0)
    targets = other_classes(labels, np.random.default_rng([0, 7]))  # what the attack will draw
    assert (targets != labels).all() and len(np.unique((targets - labels) % 10)) == 9
    pushed = attack.pushed(means.owned, labels, model)  # type: ignore[attr-defined]
    assert np.abs(pushed - means.owned).max() <= STEP + 1e-6
    rows = np.arange(OWN)
    before, after = (
        np.log(softmax(scores_of(model, x)))[rows, targets] for x in (means.owned, pushed)
    )
    assert (after > before).all()


def test_in_out_takes_turns_and_mixtures_are_halves(means: Means, asked: Asked) -> None:
    own, foreign = set(map(bytes, means.owned)), set(map(bytes, means.foreign.images))
    turns = ATTACKS["InOut"](means, 0).propose(9, asked, None)
    assert [bytes(image) in own for image in turns] == [True, False] * 4 + [True]
    assert all(bytes(image) in foreign for image in turns[1::2])
    for name, others in (("Mixtures", means.foreign.images), ("MixUp", means.owned)):
        image = ATTACKS[name](means, 0).propose(1, asked, None)[0]
        means_of_pairs = (means.owned[:, None] + others[None]) / 2
        assert np.abs(means_of_pairs - image).reshape(-1, 64).max(axis=1).min() < 1e-6


def test_copycat_learns_labels_and_knockoff_probabilities(means: Means, asked: Asked) -> None:
    flat = Asked(
        asked.images, 0.999 * asked.probabilities / asked.probabilities.sum(1)[:, None] + 1e-4
    )
    hard = Asked(asked.images, np.eye(10)[flat.labels])

    def answers(name: str, known: Asked) -> np.ndarray:
        return ATTACKS[name](means, 0).train(known)(torch.from_numpy(known.images)).detach().numpy()

    np.testing.assert_allclose(answers("CopyCat", flat), answers("CopyCat", hard), atol=1e-5)
    assert np.abs(answers("Knockoff", flat) - answers("Knockoff", hard)).max() > 1e-3


def test_bandit_follows_the_gradient_of_its_policy() -> None:
    bandit = GradientBandit(3)
    bandit.learn(np.array([1]), np.array([5.0]))  # the first reward is its own mean
    assert bandit.preferences.tolist() == [0.0, 0.0, 0.0]
    bandit.learn(np.array([1]), np.array([7.0]))  # 1 above the mean of 6
    expected = 0.1 * 1.0 * (np.array([0, 1, 0]) - 1 / 3)
    np.testing.assert_allclose(bandit.preferences, expected)
    rng = np.random.default_rng(0)
    for _ in range(400):
        arm = rng.choice(3, p=bandit.policy)
        bandit.learn(np.array([arm]), np.array([float(arm == 2)]))
    assert bandit.policy.argmax() == 2 and bandit.policy[2] > 0.9


def test_rewards_against_their_definitions(asked: Asked) -> None:
    copy = linear(4)
    found = rewards(asked, 5, copy)
    logs = np.log(softmax(scores_of(copy, asked.images)))
    mean = asked.probabilities.mean(axis=0)
    for i, reward in zip(range(15, 20), found, strict=True):
        answer = asked.probabilities[i]
        diversity = sum(max(0.0, p - m) for p, m in zip(answer, mean, strict=True))
        loss = min(1.0, -float(answer @ logs[i]) / np.log(10))
        assert reward == pytest.approx(lead(answer) + diversity + loss, rel=1e-5)


def test_datafree_estimates_slopes_of_a_linear_loss() -> None:
    slope = torch.arange(64.0).view(1, *SHAPE)
    basis = torch.eye(64).view(64, *SHAPE)
    here = torch.zeros(64, dtype=torch.float64)
    near = datafree._NEARBY * (slope * basis).sum(dim=(1, 2, 3)).double()
    estimates = datafree.slope_estimate(here, near, basis)
    torch.testing.assert_close(estimates.mean(dim=0, keepdim=True), slope)


def test_datafree_recovers_logits_up_to_a_constant(means: Means) -> None:
    model = linear(7)
    scores = scores_of(model, means.owned)
    assert datafree.disagreement(model, means.owned, softmax(scores)).max() > 0
    bias_free = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    weight, bias = matrix(model)
    bias_free[1].weight.data = torch.tensor(weight - weight.mean(axis=0)).float()
    bias_free[1].bias.data = torch.tensor(bias - bias.mean()).float()
    assert datafree.disagreement(bias_free, means.owned, softmax(scores)).max() < 1e-4


def test_datafree_generator_moves_towards_disagreement(means: Means) -> None:
    attack = ATTACKS["DataFree"](means, 0)
    before = [p.detach().clone() for p in attack._generator.parameters()]  # type: ignore[attr-defined]
    images = attack.propose(500, Asked.nothing(means.owned), None)
    assert len(images) == 100 and np.abs(images[50:] - images[:50]).max() < 1e-3
    known = Asked.nothing(means.owned).plus(images, softmax(scores_of(linear(9), images)))
    assert len(attack.propose(400, known, None)) == 50
    after = list(attack._generator.parameters())  # type: ignore[attr-defined]
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_mixmatch_sharpens_and_shifts() -> None:
    p = torch.tensor([[0.6, 0.3, 0.1]])
    squares = np.array([0.36, 0.09, 0.01])
    np.testing.assert_allclose(mixmatch.sharpened(p)[0], squares / squares.sum(), rtol=1e-6)
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 4, 4] = 1.0
    seen = {
        tuple(mixmatch.shifted(image, np.random.default_rng(seed))[0, 0].nonzero()[0].tolist())
        for seed in range(60)
    }
    assert seen == {(y, x) for y in (3, 4, 5) for x in (3, 4, 5)}
