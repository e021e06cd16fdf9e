"""`python -m powfast`: the command, for the Python that runs it."""

import sys

from powfast.cli import main

sys.exit(main())
