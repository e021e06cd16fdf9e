"""Every attack by its name."""

from __future__ import annotations

from benchmarks.extraction.attacks.base import Attack
from benchmarks.extraction.attacks.copycat import CopyCat
from benchmarks.extraction.attacks.datafree import DataFree
from benchmarks.extraction.attacks.deepfool import DeepFool
from benchmarks.extraction.attacks.entropy import Entropy
from benchmarks.extraction.attacks.entropy_rev import EntropyRev
from benchmarks.extraction.attacks.gap import Gap
from benchmarks.extraction.attacks.greedy import Greedy
from benchmarks.extraction.attacks.in_out import InOut
from benchmarks.extraction.attacks.jacobian import Jacobian
from benchmarks.extraction.attacks.jacobian_tr import JacobianTR
from benchmarks.extraction.attacks.knockoff import Knockoff
from benchmarks.extraction.attacks.knockoff_adaptive import KnockoffAdaptive
from benchmarks.extraction.attacks.mixmatch import MixMatch
from benchmarks.extraction.attacks.mixtures import Mixtures
from benchmarks.extraction.attacks.mixup import MixUp
from benchmarks.extraction.attacks.noise import Noise
from benchmarks.extraction.attacks.standard import Standard
from benchmarks.extraction.attacks.worst_case import WorstCase

ATTACKS: dict[str, type[Attack]] = {
    attack.name: attack
    for attack in (
        Standard,
        MixMatch,
        Entropy,
        Gap,
        Greedy,
        DeepFool,
        EntropyRev,
        WorstCase,
        Jacobian,
        JacobianTR,
        InOut,
        MixUp,
        Mixtures,
        CopyCat,
        Knockoff,
        KnockoffAdaptive,
        DataFree,
        Noise,
    )
}
