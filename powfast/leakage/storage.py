"""Saving fitted objects as .npz: arrays and a JSON header, versioned, without pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from powfast.archives import read_npz
from powfast.errors import InvalidInput

_FORMAT = "powfast.leakage"
_VERSION = 3

Arrays = dict[str, np.ndarray[Any, Any]]


class Stored:
    """What a fitted object is made of: JSON-able `_settings`, `_arrays`, and stored `_parts`."""

    _settings: ClassVar[tuple[str, ...]] = ()
    _arrays: ClassVar[tuple[str, ...]] = ()
    _parts: ClassVar[dict[str, type[Stored]]] = {}

    def save(self, path: str | Path) -> None:
        """Write the fitted object to `path` (.npz): no pickle, so loading runs no code.

        Raises
        ------
        InvalidInput
            It is not fitted, or holds something that is neither JSON nor an array.
        """
        arrays: Arrays = {}
        header = {"format": _FORMAT, "version": _VERSION, "content": self._dump("", arrays)}
        try:
            text = json.dumps(header)
        except TypeError as error:
            raise InvalidInput(f"{type(self).__name__} holds what JSON cannot: {error}") from None
        with Path(path).open("wb") as file:
            np.savez(file, header=np.array(text), **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        InvalidInput
            The file is not one of this class, of this version, or is damaged.
        """
        arrays = read_npz(path)
        try:
            header = json.loads(str(arrays.pop("header")))
            known = header["format"] == _FORMAT and header["version"] == _VERSION
            loaded = cls._build("", header["content"], arrays) if known else None
        except Exception as error:  # what is wrong in it may be of any kind
            raise InvalidInput(f"{path} is no saved {cls.__name__}: {error}") from None
        if loaded is None:
            raise InvalidInput(f"{path} is of another format or version than {_FORMAT} {_VERSION}")
        if arrays:
            raise InvalidInput(f"{path} holds unknown arrays: {', '.join(sorted(arrays))}")
        return loaded

    def _dump(self, prefix: str, arrays: Arrays) -> dict[str, Any]:
        missing = [name for name in (*self._arrays, *self._parts) if not hasattr(self, name)]
        if missing:
            raise InvalidInput(f"{type(self).__name__} has no {missing[0]} yet: fit it first")
        arrays.update({prefix + name: getattr(self, name) for name in self._arrays})
        return {
            "kind": type(self).__name__,
            "settings": {name: getattr(self, name) for name in self._settings},
            "parts": {
                name: getattr(self, name)._dump(f"{prefix}{name}.", arrays) for name in self._parts
            },
        }

    @classmethod
    def _build(cls, prefix: str, content: dict[str, Any], arrays: Arrays) -> Self:
        if content["kind"] != cls.__name__:
            raise ValueError(f"it holds a {content['kind']}")
        if set(content["settings"]) != set(cls._settings):
            raise ValueError("its settings are not the known ones")
        made = cls()
        for name in cls._settings:
            setattr(made, name, content["settings"][name])
        for name in cls._arrays:
            array = arrays.pop(prefix + name)
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ValueError(f"{name} is not finite")
            setattr(made, name, array)
        for name, part in cls._parts.items():
            setattr(made, name, part._build(f"{prefix}{name}.", content["parts"][name], arrays))
        made._restore()
        return made

    def _restore(self) -> None:
        """Rebuild what follows from the stored state."""
