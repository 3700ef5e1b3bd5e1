"""Every entry of docs/troubleshooting.md has a test that provokes it, and every such test an entry.

The tests are where the errors are: marked `documents("entry")`, and with a fixture `documented` that compares
what was emitted and fails when a marked entry was not compared.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "troubleshooting.md"


def _marks(tree: ast.AST) -> Iterator[str]:
    """The entries in `pytest.mark.documents(…)` anywhere below."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.documents":
            for argument in node.args:
                if isinstance(argument, ast.Constant):
                    yield str(argument.value)


def _named(tree: ast.Module) -> Iterator[str]:
    """Entries of rows that a module's own `entry(…)` makes and marks."""
    makers = [
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "entry"
    ]
    if not any("mark.documents" in ast.unparse(maker) for maker in makers):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "entry":
            first = node.args[0]
            if isinstance(first, ast.Constant):
                yield str(first.value)


@pytest.fixture(scope="module")
def provoked() -> dict[str, list[str]]:
    """Entry → files whose tests say that they provoke it."""
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if "mark.documents" not in text or path == Path(__file__):
            continue
        tree = ast.parse(text)
        for name in {*_marks(tree), *_named(tree), *_rows(text)}:
            found.setdefault(name, []).append(str(path.relative_to(TESTS)))
    return found


def _rows(text: str) -> Iterator[str]:
    """Names in tables whose rows are marked by their first column."""
    if "marks=pytest.mark.documents(row[0])" in text:
        yield from re.findall(
            r'^    \(\s*"([a-z0-9]+(?:-[a-z0-9]+)+(?:/[0-9]+)?)",', text, re.MULTILINE
        )


def test_every_entry_is_provoked_by_a_test(
    documented_texts: dict[str, str], provoked: dict[str, list[str]]
) -> None:
    assert documented_texts
    assert sorted(set(documented_texts) - set(provoked)) == []


def test_every_provocation_has_its_entry(
    documented_texts: dict[str, str], provoked: dict[str, list[str]]
) -> None:
    assert {name: provoked[name] for name in set(provoked) - set(documented_texts)} == {}


def test_who_marks_a_test_also_compares() -> None:
    missing = []
    for path in sorted(TESTS.rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if "mark.documents" not in text or path == Path(__file__):
            continue
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            marked = any(list(_marks(decorator)) for decorator in node.decorator_list)
            if marked and "documented" not in {
                argument.arg for argument in [*node.args.args, *node.args.kwonlyargs]
            }:
                missing.append(f"{path.name}: {node.name}")
    assert missing == []


def test_an_entry_says_where_what_and_what_to_do() -> None:
    page = PAGE.read_text(encoding="utf-8")
    entries = re.findall(r"^### (.+?)\n(.*?)(?=^##|\Z)", page, re.DOTALL | re.MULTILINE)
    assert len({title for title, _ in entries}) == len(entries)
    parts = ("```text\n", "**Where:**", "**Means:**", "**Do:**")
    wanting = [title for title, body in entries if not all(part in body for part in parts)]
    assert wanting == []


@pytest.mark.parametrize(
    ("text", "emitted", "same"),
    [
        ("job ‹id› is still running", "job 5f0c is still running", True),
        ("job ‹id› is still running", "job  is still running", False),
        ("job is running", "job is running now", False),
        ("a\n  b", "a b", True),
    ],
)
def test_only_what_differs_each_time_may_differ(
    documented_texts: dict[str, str],
    documented: Any,
    text: str,
    emitted: str,
    same: bool,
) -> None:
    """The comparison itself, on an entry that only this test has."""
    documented_texts["only-here"] = " ".join(text.split())
    try:
        documented("only-here", emitted)
    except AssertionError:
        assert not same
    else:
        assert same
    finally:
        del documented_texts["only-here"]
