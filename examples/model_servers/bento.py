"""BentoML with powfast as middleware: bentoml serve bento:Sum."""

from __future__ import annotations

import bentoml

from powfast.servers.environment import PowMiddleware


@bentoml.service
class Sum:
    @bentoml.api
    def predict(self, x: list[float]) -> float:
        return sum(x)


Sum.add_asgi_middleware(PowMiddleware)
