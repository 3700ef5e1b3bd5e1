"""Whoever silences a linter or the type checker says which rule, and why, on the same line."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SILENCES = re.compile(
    r"#\s*(?:(?:ruff|flake8|mypy)\s*:\s*)?(?:noqa|type:\s*ignore)\b", re.IGNORECASE
)
WITH_REASON = re.compile(
    r"# (?:noqa: [A-Z]+\d+(?:, ?[A-Z]+\d+)*|type: ignore\[[a-z-]+(?:, ?[a-z-]+)*\]) +(?:-|#) +\S+"
)


def unexplained(source: str) -> Iterator[int]:
    """Numbers of lines with a comment that silences and does not say what or why."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and SILENCES.search(token.string):
            places = len(SILENCES.findall(token.string))
            if len(WITH_REASON.findall(token.string)) < places:
                yield token.start[0]


def test_every_silenced_check_says_which_and_why() -> None:
    found = []
    for directory in ROOT.iterdir():
        if directory.is_dir() and not directory.name.startswith("."):
            for path in directory.rglob("*.py"):
                source = path.read_text(encoding="utf-8")
                if SILENCES.search(source):
                    found += [f"{path.relative_to(ROOT)}:{line}" for line in unexplained(source)]
    assert found == [], "write `# noqa: CODE - why` or `# type: ignore[code]  # why`"


@pytest.mark.parametrize(
    ("comment", "explained"),
    [
        ("# noqa: BLE001 - one bad track must not silence the others", True),
        ("# noqa: F401, E402 - for whoever needs it next", True),
        ("# type: ignore[arg-type]  # one of the two", True),
        ("# no quarrel", True),
        ("# noqa", False),
        ("# noqa: BLE001", False),
        ("# noqa: BLE001 -", False),
        ("# type: ignore", False),
        ("# type: ignore  # it is so", False),
        ("# type: ignore[arg-type]", False),
        ("# ruff: noqa", False),
        ("# type: ignore[arg-type]  # noqa: BLE001 - one of two reasons", False),
    ],
)
def test_what_counts_as_a_reason(comment: str, explained: bool) -> None:
    assert list(unexplained(f"value = 1  {comment}\n")) == ([] if explained else [1])
