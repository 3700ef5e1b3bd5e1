"""Comments, schema and docs/helm.md say the same of every value."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tools.helm_values import ROOT, Undescribed, described, schema_with, table


def test_schemas_and_docs_are_those_of_the_comments() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.helm_values", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), "run: python -m tools.helm_values"


def test_a_value_without_a_comment_is_found() -> None:
    with pytest.raises(Undescribed, match=r"no comment above a\.c"):
        described("a:\n  # -- One.\n  b: 1\n  c: 2\n")


def test_a_comment_above_a_map_is_for_all_of_it() -> None:
    values = described("# -- Both.\na:\n  b: 1\n  c: [x]\n")
    assert [(v.path, v.default, v.description) for v in values] == [
        (("a",), {"b": 1, "c": ["x"]}, "Both.")
    ]


def test_a_value_that_the_schema_lacks_is_found() -> None:
    with pytest.raises(Undescribed, match=r"the schema lacks a\.b"):
        schema_with(
            {"properties": {"a": {"properties": {}}}}, described("a:\n  # -- One.\n  b: 1\n")
        )


def test_the_table_keeps_bars_out_of_its_columns() -> None:
    (line,) = table(described("# -- this | that\na: null\n")).splitlines()[2:]
    assert line == "| `a` | `null` | this \\| that |"
