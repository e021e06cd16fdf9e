"""Imports, threads and forks, each in a process of its own."""

from __future__ import annotations

import json
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
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_loads_no_numba_and_no_framework():
    program = """
        import sys
        import powfast, powfast.leakage
        others = {"numba", "faiss", "sklearn", "scipy", "torch", "matplotlib"}
        print(sorted(others & set(sys.modules)))
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


@pytest.fixture(scope="module")
def warm():
    """What one warmed-up process finds: later compilations, threads, a fork."""
    program = """
        import json, os
        from concurrent.futures import ThreadPoolExecutor
        import numpy as np
        from powfast import leakage
        leakage.warmup()
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

        rng = np.random.default_rng(0)
        batches = [rng.multinomial(50, [0.7, 0.2, 0.1], size=64) for _ in range(200)]
        features = rng.normal(size=(600, 80))
        labels = (features[:, 0] > 0).astype(int)
        table = np.column_stack([np.full(600, 0.4), np.full(600, 0.6)])
        estimator = leakage.LeakageEstimator(10).fit(features[:300], labels[:300])
        estimator.calibrate(features[300:], table[300:])

        def work(k):
            scores = leakage.from_votes(batches[k], 2.0, "iclr2022", exact=k % 2 == 0)
            return scores, estimator.evidence(features[k : k + 64], table[k : k + 64])

        def same(one, other):
            return all((a == b).all() for a, b in zip(one, other))

        with ThreadPoolExecutor(8) as pool:
            threaded = list(pool.map(work, range(200)))
        threads = all(same(work(k), found) for k, found in enumerate(threaded))

        child = os.fork()
        if child == 0:
            estimator.fit(features[:300], labels[:300])
            os._exit(0 if same(work(3), threaded[3]) else 1)
        fork = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps({"compiled": listener.compiled, "threads": threads, "fork": fork}))
    """
    return json.loads(run(program))


def test_warmup_compiles_everything_and_caches_nothing_on_disk(warm):
    assert warm["compiled"] == 0
    package = Path(powfast.__file__).parent
    assert not [*package.rglob("*.nbi"), *package.rglob("*.nbc")]


def test_many_threads_get_what_one_gets(warm):
    assert warm["threads"]


def test_a_fork_after_first_use_still_works(warm):
    assert warm["fork"] == 0
