"""`python -m offloader`, also installed as `offloader` and `calls-offloader`."""

from __future__ import annotations

import sys

from offloader.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
