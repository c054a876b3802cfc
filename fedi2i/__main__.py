"""``python -m fedi2i``: the same as the command ``fedi2i``."""

from __future__ import annotations

import sys

from fedi2i.cli.program import main

if __name__ == "__main__":
    sys.exit(main())
