"""scikit-learn's conventions for estimators, without depending on it."""

from __future__ import annotations

import inspect
from typing import Any, Self

from powfast.errors import InvalidInput


class Parameters:
    """Constructor arguments are parameters: stored as given, read and set by name."""

    @classmethod
    def _names(cls) -> list[str]:
        return list(inspect.signature(cls).parameters)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments by name."""
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **params: Any) -> Self:
        """Set constructor arguments by name and return self; fit again afterwards."""
        for name, value in params.items():
            if name not in self._names():
                raise InvalidInput(f"{type(self).__name__} has no parameter {name!r}")
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn asks of estimators; called by scikit-learn alone."""
        from sklearn.utils import Tags, TargetTags

        return Tags(estimator_type=None, target_tags=TargetTags(required=False))

    def _fitted(self, attribute: str) -> None:
        if not hasattr(self, attribute):
            verb = "calibrated" if attribute == "reference_" else "fitted"
            call = "calibrate" if attribute == "reference_" else "fit"
            raise InvalidInput(f"{type(self).__name__} is not {verb} yet: call {call} first")

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({shown})"
