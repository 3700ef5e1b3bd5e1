"""Which error texts of the code docs/troubleshooting.md has no entry for.

    python -m tools.error_texts [PACKAGE …]     # one line each: place, type, text

What counts is read from the source: texts given to exceptions and to whatever else answers clients and
admins with an error, and what is told of a job as `detail`. Fields of a text are written as ‹field›. What
never reaches an admin or a client has its reason in `tests/docs/internal_errors`.
"""

from __future__ import annotations

import ast
import bisect
import builtins
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
REASONS: Final = ROOT / "tests" / "docs" / "internal_errors"
PACKAGES: Final = (
    "offloader", "clientauth", "foundation", "rtc", "callclient", "jobs", "sfu", "testbed"
)  # fmt: skip
_CALL: Final = re.compile(r"(\w+)\(|\bdetail=")
_CLASS: Final = re.compile(r"^ *class (\w+)\(([^)]*)\):", re.MULTILINE)
_ANSWERS: Final = frozenset({"error_response", "_refuse", "complain"})
"""Functions that tell an admin or client of an error without an exception."""
_WORTH_READING: Final = frozenset({"__init__", ""})
"""What else makes a line worth reading: super's, and a keyword `detail`, which findall gives as nothing."""
_FEW_LETTERS: Final = 7
"""A text with fewer letters of its own is another one's words."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why no admin or client meets some texts. A row `[[internal]]` of REASONS/<package>.toml."""

    where: str
    """Files, as fnmatch patterns from the repository's root on."""
    reason: str
    raises: str = ""
    """Name of the exception or function; empty: any."""
    text: str = ""
    """The text, with ‹…› for its fields; empty: any."""

    def fits(self, text: Text) -> bool:
        """It is about this one."""
        return (
            fnmatch(text.place.rpartition(":")[0], self.where)
            and self.raises in ("", text.kind)
            and (not self.text or _bare(self.text) == _bare(text.text))
        )


@dataclass(frozen=True, slots=True)
class Text:
    """An error text as it stands in the source."""

    place: str
    """File and line, from the repository's root on."""
    kind: str
    """Name of the exception or function that gets it."""
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.kind}: {self.text}"

    def is_in(self, entries: str) -> bool:
        """Some entry, a line each, has its words, with anything for its fields, and maybe more around it."""
        parts = re.split("‹[^›]*›", self.text)
        pattern = ".*?".join(re.escape(part) for part in parts)
        return re.search(pattern.removeprefix(".*?").removesuffix(".*?"), entries) is not None


@cache
def reasons(package: str) -> tuple[Reason, ...]:
    """Those of a package; nothing else may be in its file."""
    path = REASONS / f"{package}.toml"
    rows = tomllib.loads(path.read_text(encoding="utf-8"))["internal"] if path.exists() else []
    return tuple(Reason(**row) for row in rows)


def missing(package: str, entries: str) -> list[Text]:
    """Texts of a package that none of the entries' texts contains."""
    return [
        text
        for text in texts(package)
        if not any(reason.fits(text) for reason in reasons(package)) and not text.is_in(entries)
    ]


def page_texts() -> str:
    """The texts of docs/troubleshooting.md, a line each."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```text\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return "\n".join(" ".join(block.split()) for block in blocks)


@cache
def texts(package: str) -> tuple[Text, ...]:
    """Every error text of a package that has words of its own."""
    return tuple(
        text
        for path in sorted((ROOT / package).rglob("*.py"))
        for text in _Module(path).texts()
        if len(re.findall(r"[^\W\d_]", re.sub("‹[^›]*›", "", text.text))) >= _FEW_LETTERS
    )


@cache
def exceptions() -> frozenset[str]:
    """Names of the exception classes: Python's, and whatever is derived from one here."""
    found = {
        name
        for name, value in vars(builtins).items()
        if isinstance(value, type) and issubclass(value, BaseException)
    }
    found |= {"HTTPException", "Reject"}
    classes = [
        (name, {base.strip().rpartition(".")[2] for base in bases.split(",")})
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for name, bases in _CLASS.findall(path.read_text(encoding="utf-8"))
    ]
    while more := {name for name, bases in classes if bases & found} - found:
        found |= more
    return frozenset(found)


def _name(node: ast.expr) -> str:
    """The last part of a dotted name; empty for anything else."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


@cache
def _sinks() -> frozenset[str]:
    return exceptions() | _ANSWERS


class _Module:
    """The error texts of one file."""

    def __init__(self, path: Path) -> None:
        self._file = str(path.relative_to(ROOT))
        source = path.read_text(encoding="utf-8")
        self._lines = [
            number
            for number, line in enumerate(source.splitlines(), 1)
            if any(name in _sinks() or name in _WORTH_READING for name in _CALL.findall(line))
        ]
        self._tree = ast.parse(source if self._lines else "")
        self._constants = _assigned(self._tree.body)

    def texts(self) -> Iterator[Text]:
        seen: set[tuple[int, str]] = set()
        for scope, node, owner in self._calls():
            kind = _name(node.func)
            if kind == "__init__":  # super's
                kind = owner
            keywords = [keyword.value for keyword in node.keywords]
            values = [*node.args, *keywords] if kind in _sinks() else _details(node)
            found = [text for value in values for text in self._read(value, scope)]
            worded = [text for text in found if " " in text.strip()]
            for text in worded or found:
                if (node.lineno, text) not in seen:
                    seen.add((node.lineno, text))
                    yield Text(f"{self._file}:{node.lineno}", kind, " ".join(text.split()))

    def _calls(self) -> Iterator[tuple[dict[str, list[ast.expr]], ast.Call, str]]:
        """Each call with the names assigned around it, and the class that it is in."""
        waiting: list[tuple[ast.AST, dict[str, list[ast.expr]], str]] = [(self._tree, {}, "")]
        while waiting:
            node, scope, owner = waiting.pop()
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                scope = scope | _assigned(node.body)
            elif isinstance(node, ast.ClassDef):
                owner = node.name
            elif isinstance(node, ast.Call):
                yield scope, node, owner
            waiting += [
                (child, scope, owner)
                for child in ast.iter_child_nodes(node)
                if not isinstance(child, ast.stmt) or self._tells(child)
            ]

    def _tells(self, node: ast.stmt) -> bool:
        """Some line of it calls what tells of an error: all else need not be looked at."""
        place = bisect.bisect_left(self._lines, node.lineno)
        return place < len(self._lines) and self._lines[place] <= (node.end_lineno or 0)

    def _read(self, node: ast.expr, scope: dict[str, list[ast.expr]], depth: int = 0) -> list[str]:
        """What a text may be; empty for what is not written here."""
        if depth > 4:
            return []
        match node:
            case ast.Constant(value=str(text)):
                return [text]
            case ast.JoinedStr(values=parts):
                texts = [""]
                for part in parts:
                    if isinstance(part, ast.Constant):
                        ends = [str(part.value)]
                    else:
                        assert isinstance(part, ast.FormattedValue)
                        ends = self._field(part, scope, depth)
                    texts = [text + end for text in texts for end in ends]
                return texts
            case ast.BinOp(op=ast.Add(), left=left, right=right):
                starts = self._read(left, scope, depth + 1)
                ends = self._read(right, scope, depth + 1)
                if not starts and not ends:
                    return []
                starts, ends = starts or [f"‹{_short(left)}›"], ends or [f"‹{_short(right)}›"]
                return [start + end for start in starts for end in ends]
            case ast.IfExp(body=body, orelse=orelse):
                return self._read(body, scope, depth + 1) + self._read(orelse, scope, depth + 1)
            case ast.BoolOp(values=values):
                return [text for value in values for text in self._read(value, scope, depth + 1)]
            case ast.Name(id=name):
                values = scope.get(name) or self._constants.get(name, [])
                return [text for value in values for text in self._read(value, scope, depth + 1)]
            case ast.Call(func=ast.Name(id="str"), args=[inner]):
                return self._read(inner, scope, depth + 1)
            case ast.Call(func=ast.Attribute(value=inner, attr="strip" | "rstrip")):
                return self._read(inner, scope, depth + 1)
        return []

    def _field(
        self, part: ast.FormattedValue, scope: dict[str, list[ast.expr]], depth: int
    ) -> list[str]:
        """A constant of the module is part of the text, anything else differs each time."""
        value = part.value
        if isinstance(value, ast.Name) and value.id in self._constants and value.id not in scope:
            texts = self._read(value, scope, depth + 1)
            if any(character.isalpha() for text in texts for character in text):
                return texts
        return [f"‹{_short(value)}›"]


def _details(node: ast.Call) -> list[ast.expr]:
    """What is told of a job."""
    return [keyword.value for keyword in node.keywords if keyword.arg == "detail"]


def _bare(text: str) -> str:
    return re.sub("‹[^›]*›", "‹›", text)


def _short(node: ast.expr) -> str:
    return re.sub("[‹›]", "", ast.unparse(node))


def _assigned(body: list[ast.stmt]) -> dict[str, list[ast.expr]]:
    """What is assigned to plain names in these statements and the blocks within."""
    found: dict[str, list[ast.expr]] = {}
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.expr | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, []).append(node.value)
        waiting += ast.iter_child_nodes(node)
    return found


def main(packages: list[str]) -> int:
    """Print what has no entry; 1 if there is any."""
    entries = page_texts()
    left = [text for package in packages or PACKAGES for text in missing(package, entries)]
    sys.stdout.writelines(f"{text}\n" for text in left)
    return 1 if left else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
