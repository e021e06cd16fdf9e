"""Whether this process is one of several that a server has started."""

from __future__ import annotations

import os
import re
import sys
from pathlib import PurePath

_SERVERS = {"fastapi", "granian", "gunicorn", "hypercorn", "uvicorn"}
_OPTION = re.compile(r"(?:-w|--workers|--processes)[= ]?(\d+)(?= |$)")


def several_workers() -> bool:
    """Return whether environment or command line of a known server ask for several workers.

    What a configuration file says, gunicorn's for instance, is not seen here.
    """
    said = [os.environ.get("WEB_CONCURRENCY", "")]
    # `python -m uvicorn` runs .../uvicorn/__main__.py; what uvicorn spawns keeps its arguments
    if sys.argv and _SERVERS & set(PurePath(sys.argv[0]).parts[-2:]):
        said += _OPTION.findall(" ".join(sys.argv[1:]))
    said += _OPTION.findall(os.environ.get("GUNICORN_CMD_ARGS", ""))
    return any(count.isdecimal() and int(count) > 1 for count in said)
