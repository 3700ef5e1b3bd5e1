"""Reads what a job tells in its log: metrics, that it is in its call, that the call is over.

The lines: docs/job-contract.md 5.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Final

TAIL_BYTES: Final = 64 * 1024
"""How much of the end of a log is searched; a metrics line comes every 10 s."""
_MAX_FIGURES: Final = 64
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")


def tells_that_the_call_is_over(log_tail: bytes) -> bool:
    """Whether there is a whole `{"event":"progress",…}` line: jobs write it after they left their call."""
    return any(
        document.get("event") == "progress" for document in documents(log_tail, b'"progress"')
    )


def joined_after_s(log_tail: bytes) -> float | None:
    """How long the job took from its start until it was in its call and had said so, seconds; None: no whole
    `{"event":"started",…}` line tells."""
    for document in documents(log_tail, b'"started"'):
        if document.get("event") == "started":
            seconds = _number(document.get("joined_after_s"))
            return seconds if seconds is not None and seconds >= 0 else None
    return None


def newest_figures(log_tail: bytes) -> Mapping[str, float] | None:
    """The numbers of the last whole `{"event":"metrics",…}` line, or None when there is none.

    Jobs are not trusted with the size of our metrics: at most 64 figures with plain names count.
    """
    for document in documents(log_tail, b'"metrics"'):
        if document.get("event") == "metrics":
            return _numbers(document)
    return None


def documents(log_tail: bytes, word: bytes) -> Iterator[dict[str, object]]:
    """The JSON objects of the lines that hold `word`, newest first. The others are not even cut apart."""
    end = len(log_tail)
    while (found := log_tail.rfind(word, 0, end)) >= 0:
        end = log_tail.rfind(b"\n", 0, found) + 1
        after = log_tail.find(b"\n", found)
        for line in reversed(log_tail[end : None if after < 0 else after].splitlines()):
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
        number = _number(value)
        if number is not None and _NAME.fullmatch(name):
            numbers[sys.intern(name)] = number  # of thousands of jobs the same
        if len(numbers) == _MAX_FIGURES:
            break
    return numbers


def _number(value: object) -> float | None:
    """A finite number; JSON's booleans are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
