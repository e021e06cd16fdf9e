"""Reading .npz archives, which anybody may have made: without pickle, and with one error."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from powfast.errors import InvalidInput


def read_npz(path: str | Path, *names: str) -> dict[str, np.ndarray[Any, Any]]:
    """Return the named arrays of an .npz archive, or all of them where none is named.

    Raises
    ------
    InvalidInput
        The file is not an .npz archive, is damaged, lacks one of the arrays, or holds objects.
    OSError
        The file cannot be read.
    """
    with Path(path).open("rb") as opened:
        if not zipfile.is_zipfile(opened):
            raise InvalidInput(f"{path} is not an .npz archive, as numpy.savez writes them")
        opened.seek(0)
        try:
            with np.load(opened, allow_pickle=False) as archive:
                lacking = [name for name in names if name not in archive.files]
                if not lacking:
                    # what is no array comes as bytes
                    return {name: np.asarray(archive[name]) for name in names or archive.files}
                held = ", ".join(sorted(archive.files)) or "nothing"
        except Exception as error:  # damaged bytes make NumPy's and zip's readers raise many kinds
            raise InvalidInput(f"{path} is not a readable .npz archive: {error}") from None
    raise InvalidInput(f"{path} lacks {' and '.join(lacking)}: it holds {held}")
