"""Imports, threads and forks, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import powfast


def run(program, *flags):
    """Run a program and return what it prints; its warnings are errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *flags, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_loads_no_numba_and_no_framework():
    program = """
        import sys
        import powfast, powfast.leakage
        print(sorted({"numba", "sklearn", "scipy", "torch", "matplotlib"} & set(sys.modules)))
    """
    assert run(program) == "[]"


def test_without_numba_numpy_answers():
    program = """
        import sys
        sys.modules["numba"] = None
        from powfast import errors, leakage
        leakage.warmup()
        print(leakage.from_votes([[250, 0]], 10.0, "iclr2022")[0])
        try:
            leakage.from_votes([[250, 0]], engine="numba")
        except errors.MissingExtra as error:
            print(error)
    """
    value, message = run(program).splitlines()
    assert 0.1 < float(value) < 0.2
    assert "pip install 'powfast[leakage]'" in message


def test_warmup_compiles_everything_and_caches_nothing_on_disk():
    program = """
        import numpy as np
        from powfast import leakage
        leakage.warmup()
        from powfast.leakage import kernels
        from numba.core import event

        class Listener(event.Listener):
            compiled = 0
            def on_start(self, event):
                self.compiled += 1
            def on_end(self, event):
                pass

        listener = Listener()
        votes = np.array([[3, 1, 0], [2, 2, 0]])
        frozen = votes.copy()
        frozen.setflags(write=False)
        with event.install_listener("numba:compile", listener):
            for metric in leakage.votes.METRICS:
                for exact in (True, False):
                    for given in (votes, frozen, votes.astype("u1"), votes[:, ::-1]):
                        leakage.from_votes(given, 1.0, metric, exact=exact)
                    leakage.from_labels(votes, 5, 1.0, metric, exact=exact)
            leakage.Accountant(1.0).add(votes)
        print(listener.compiled)
    """
    assert run(program) == "0"
    package = Path(powfast.__file__).parent
    assert not [*package.rglob("*.nbi"), *package.rglob("*.nbc")]


def test_many_threads_get_what_one_gets():
    program = """
        from concurrent.futures import ThreadPoolExecutor
        import numpy as np
        from powfast import leakage
        rng = np.random.default_rng(0)
        batches = [rng.multinomial(50, [0.7, 0.2, 0.1], size=64) for _ in range(400)]
        features = rng.normal(size=(600, 8))
        labels = (features[:, 0] > 0).astype(int)
        table = np.column_stack([np.full(600, 0.4), np.full(600, 0.6)])
        estimator = leakage.LeakageEstimator(10).fit(features[:300], labels[:300])
        estimator.calibrate(features[300:], table[300:])

        def work(k):
            return (
                leakage.from_votes(batches[k], 2.0, "iclr2022", exact=k % 2 == 0),
                estimator.evidence(features[k : k + 64], table[k : k + 64]),
            )

        with ThreadPoolExecutor(8) as pool:
            threaded = list(pool.map(work, range(400)))
        for k, (scores, evidence) in enumerate(threaded):
            alone = work(k)
            assert (scores == alone[0]).all() and (evidence == alone[1]).all()
        print("same")
    """
    assert run(program) == "same"


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork here")
def test_a_fork_after_first_use_still_works():
    program = """
        import os
        import numpy as np
        from powfast import leakage
        votes = np.random.default_rng(0).multinomial(50, [0.7, 0.2, 0.1], size=64)
        features = np.random.default_rng(1).normal(size=(500, 80))
        labels = (features[:, 0] > 0).astype(int)
        heads = leakage.TeacherEnsemble(10).fit(features, labels)
        before = leakage.from_votes(votes, 2.0, "rdp"), heads.votes(features)
        child = os.fork()
        if child == 0:
            again = leakage.from_votes(votes, 2.0, "rdp"), heads.votes(features)
            heads.fit(features, labels)
            os._exit(0 if all((a == b).all() for a, b in zip(before, again)) else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert run(program) == "0"
