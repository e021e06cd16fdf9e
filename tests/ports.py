"""Ports for servers that cannot be given one by the kernel."""

from __future__ import annotations

import random
import socket

# Below what the kernel gives to connections and to servers on port 0: whoever gets such a port
# between its choice and the start of its server would take it away. Redis Cluster listens 10000
# above as well. Not the generator that Hypothesis seeds: other runs on this machine choose too.
_SHUFFLED = iter(random.SystemRandom().sample(range(11_000, 21_000), 10_000))


def free_port() -> int:
    """A port that nobody listens on, nor 10000 above, and that was not given before."""
    return next(port for port in _SHUFFLED if _is_free(port) and _is_free(port + 10_000))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
