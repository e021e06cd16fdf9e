"""`python -m powfast.cli`."""

import sys

from powfast.cli import main

sys.exit(main())
