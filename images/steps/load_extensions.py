"""Loads every extension module below a directory: one that stripping has broken fails here.

load_extensions.py SITE_PACKAGES
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path


def main(packages: str) -> None:
    for file in sorted(Path(packages).rglob("*.so")):
        if ".libs/" not in str(file):
            # Lazily: some need others that Python loads before them.
            try:
                ctypes.CDLL(str(file), mode=os.RTLD_LAZY)
            except OSError as error:
                raise SystemExit(f"{file} cannot be loaded: {error}") from error


if __name__ == "__main__":
    main(sys.argv[1])
