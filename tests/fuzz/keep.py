"""`python -m tests.fuzz.keep TARGET…`: renew the kept inputs from what long runs have found.

Kept is, from the smallest on, each that makes the product go from some line to another as none before it did,
as far as there is room. What stands above the line `# found by guided runs` (inputs that once failed, and
others that somebody put there) stays.
"""

from __future__ import annotations

import argparse
import base64
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from tests.fuzz import target as targets
from tests.fuzz.target import Target

_ROOT = Path(__file__).parents[2]
_KEPT_BYTES = 20 * 1024
"""Of each target, in the repository."""
_LONGEST_BYTES = 3072

Step = tuple[CodeType, int, int]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.keep", description=__doc__)
    parser.add_argument("target", nargs="*")
    parser.add_argument("--work", type=Path, default=Path(".fuzz"))
    options = parser.parse_args()
    targets.be_quiet()
    for name in options.target or targets.names():
        _renew(name, options.work / name / "units")


def _renew(name: str, units: Path) -> None:
    path = targets.corpus_file(name)
    lines = path.read_text("ascii").splitlines() if path.exists() else []
    marked = next((at for at, line in enumerate(lines) if line == targets.FOUND), len(lines))
    lines = [*lines[:marked], targets.FOUND]
    target = targets.load(name)
    target.run(b"")  # what happens the first time only
    known: set[Step] = set()
    for data in target.seeds():
        known |= _steps(target, data)
    found = sorted(
        (unit.read_bytes() for unit in units.iterdir()), key=lambda data: (len(data), data)
    )
    size = 0
    for data in found:
        line = base64.b64encode(data).decode("ascii")
        if not data or len(data) > _LONGEST_BYTES or size + len(line) >= _KEPT_BYTES:
            continue
        steps = _steps(target, data)
        if not steps <= known:
            known |= steps
            size += len(line) + 1
            lines.append(line)
    path.write_text("\n".join(lines) + "\n", "ascii")


def _steps(target: Target, data: bytes) -> set[Step]:
    """From which line to which, in the product's own code."""
    steps: set[Step] = set()
    before: dict[FrameType, int] = {}

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(str(_ROOT)) or "/.venv" in code.co_filename:
            return None
        if event == "line":
            steps.add((code, before.get(frame, 0), frame.f_lineno))
            before[frame] = frame.f_lineno
        return trace

    sys.settrace(trace)
    try:
        target.run(data)
    finally:
        sys.settrace(None)
    return steps


if __name__ == "__main__":
    main()
