"""`python -m conformance COMMAND`, where the script `conformance` is not on the path."""

from __future__ import annotations

import sys

from .commands import main

sys.exit(main())
