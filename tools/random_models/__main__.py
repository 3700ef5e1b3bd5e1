"""Entry point: see tools.random_models."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.random_models.store import CACHE, converted, ggml
from tools.random_models.weights import SHAPES

parser = argparse.ArgumentParser(prog="python -m tools.random_models")
parser.add_argument("sizes", nargs="*", metavar="SIZE", help=f"{', '.join(SHAPES)} (default: all)")
parser.add_argument("--ggml", action="store_true", help="for whisper.cpp too")
parser.add_argument("--target", type=Path, default=CACHE)
options = parser.parse_args()
unknown = sorted(set(options.sizes) - set(SHAPES))
if unknown:
    parser.error(f"no size {', '.join(unknown)}; there is: {', '.join(SHAPES)}")
for size in options.sizes or SHAPES:
    sys.stdout.write(f"{converted(size, options.target)}\n")
    if options.ggml:
        sys.stdout.write(f"{ggml(size, options.target)}\n")
