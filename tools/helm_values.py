"""Brings the comments of the charts' values.yaml into their schemas and into docs/helm.md.

    python -m tools.helm_values            writes what has changed
    python -m tools.helm_values --check    exit code 1 when something would change

A line `# -- text` describes the key below it. In docs/helm.md the table of a chart lies between
`<!-- values: CHART -->` and `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[1]
CHARTS: Final = ("mattermost-calls-offloader", "mattermost-rtcd")
_COMMENT: Final = re.compile(r"\s*# -- (.+)")
_KEY: Final = re.compile(r"(\s*)([A-Za-z][A-Za-z0-9_]*):")


class Undescribed(Exception):
    """A value without a comment, or a comment without a value; the message names it."""


@dataclass(frozen=True, slots=True)
class Value:
    """One line of the table."""

    path: tuple[str, ...]
    default: Any
    description: str


def described(text: str) -> list[Value]:
    """The values that have a comment, in the file's order.

    Raises:
        Undescribed: a value has none, neither itself nor around it or in it.
    """
    comments = dict(_comments(text))
    values = list(_values(yaml.safe_load(text), (), comments))
    left = comments.keys() - {value.path for value in values}
    if left:
        raise Undescribed(f"a comment for no value: {'.'.join(sorted(left)[0])}")
    return values


def _comments(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Paths of keys with the comment above them, by indentation of two."""
    path: list[str] = []
    comment = ""
    for line in text.splitlines():
        if found := _COMMENT.fullmatch(line):
            comment = found[1]
        elif found := _KEY.match(line):
            path[len(found[1]) // 2 :] = [found[2]]
            if comment:
                yield tuple(path), comment
            comment = ""


def _values(
    values: dict[str, Any], path: tuple[str, ...], comments: dict[tuple[str, ...], str]
) -> Iterator[Value]:
    for key, value in values.items():
        here = (*path, key)
        if here in comments:
            yield Value(here, value, comments[here])
        elif isinstance(value, dict) and value:
            yield from _values(value, here, comments)
        else:
            raise Undescribed(f"no comment above {'.'.join(here)}")


def schema_with(schema: dict[str, Any], values: list[Value]) -> dict[str, Any]:
    """The schema, its properties described.

    Raises:
        Undescribed: it lacks one of the values.
    """
    for value in values:
        node = schema
        for key in value.path:
            if key not in node.get("properties", {}):
                raise Undescribed(f"the schema lacks {'.'.join(value.path)}")
            node = node["properties"][key]
        rest = {key: part for key, part in node.items() if key != "description"}
        node.clear()
        node.update({"description": value.description, **rest})
    return schema


def table(values: list[Value]) -> str:
    """The values as Markdown."""
    lines = ["| Value | Default | Meaning |", "|---|---|---|"]
    for value in values:
        default = json.dumps(value.default, ensure_ascii=False)
        description = value.description.replace("|", "\\|")
        lines.append(f"| `{'.'.join(value.path)}` | `{default}` | {description} |")
    return "\n".join(lines)


def outputs(root: Path) -> dict[Path, str]:
    """What the schemas and docs/helm.md should be."""
    page = root / "docs" / "helm.md"
    text, found = page.read_text(), dict[Path, str]()
    for chart in CHARTS:
        folder = root / "helm" / chart
        values = described((folder / "values.yaml").read_text())
        path = folder / "values.schema.json"
        schema = schema_with(json.loads(path.read_text()), values)
        found[path] = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        before, begin, rest = text.partition(f"<!-- values: {chart} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        text = f"{before}{begin}{table(values)}\n{end}{after}"
    return {**found, page: text}


def main() -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    try:
        stale = {p: text for p, text in outputs(ROOT).items() if p.read_text() != text}
    except Undescribed as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for path, text in stale.items():
        sys.stderr.write(f"{'out of date' if arguments.check else 'written'}: {path}\n")
        if not arguments.check:
            path.write_text(text)
    return int(arguments.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
