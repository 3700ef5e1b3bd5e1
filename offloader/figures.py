"""Reads what a job tells in its log: the newest metrics line (docs/job-contract.md 5)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Final

TAIL_BYTES: Final = 64 * 1024
"""How much of the end of a log is searched; a metrics line comes every 10 s."""
_MAX_FIGURES: Final = 64
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")


def tells_that_the_call_is_over(log_tail: bytes) -> bool:
    """Whether there is a whole `{"event":"progress",…}` line: jobs write it after they left their call."""
    return any(
        document.get("event") == "progress" for document in _documents(log_tail, b'"progress"')
    )


def newest_figures(log_tail: bytes) -> Mapping[str, float] | None:
    """The numbers of the last whole `{"event":"metrics",…}` line, or None when there is none.

    Jobs are not trusted with the size of our metrics: at most 64 figures with plain names count.
    """
    for document in _documents(log_tail, b'"metrics"'):
        if document.get("event") == "metrics":
            return _numbers(document)
    return None


def _documents(log_tail: bytes, word: bytes) -> Iterator[dict[str, object]]:
    """The JSON objects of the lines that hold `word`, newest first."""
    for line in reversed(log_tail.splitlines()):
        if word not in line:
            continue
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(document, dict):
            yield document


def _numbers(document: Mapping[str, object]) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for name, value in document.items():
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        if plain and _NAME.fullmatch(name) and abs(value) < math.inf:  # type: ignore[arg-type]
            numbers[name] = float(value)  # type: ignore[arg-type]
        if len(numbers) == _MAX_FIGURES:
            break
    return numbers
