"""What the benchmarks share in which people talk on a clock of ours: their options, and how they report."""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from foundation.logs import configure_logs


def call_options(
    module: str, description: str | None, *, speakers: int, minutes: float, talk: float
) -> argparse.ArgumentParser:
    """`--speakers`, `--minutes`, `--talk` and `--check`, with these defaults, of `python -m <module>`."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("--speakers", type=int, default=speakers)
    parser.add_argument("--minutes", type=float, default=minutes)
    parser.add_argument("--talk", type=float, default=talk, help="share of the time each one talks")
    parser.add_argument("--check", action="store_true", help="exit code 1 beyond the limits")
    return parser


def run_call(
    options: argparse.Namespace,
    measure: Callable[[argparse.Namespace, Path], Coroutine[None, None, dict[str, Any]]],
) -> int:
    """Print what `measure` finds with an empty directory as one JSON line; returns the exit code: 1 if its
    `well` is false and `--check` was given."""
    configure_logs(level="error")
    with tempfile.TemporaryDirectory() as directory:
        result = asyncio.run(measure(options, Path(directory)))
    print(json.dumps(result), flush=True)
    return 0 if result["well"] or not options.check else 1
