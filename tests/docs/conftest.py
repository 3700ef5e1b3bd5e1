"""The documentation as it is written: its files, links, anchors and blocks of code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
_SKIPPED = frozenset({".venv", ".venv-docs", ".uv", "node_modules", "site", "dist", "demo-output"})


@dataclass(frozen=True)
class Block:
    """A block of code."""

    file: str
    """From the repository's root on."""
    line: int
    language: str
    """Empty: not named."""
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Page:
    """A Markdown file."""

    file: str
    anchors: frozenset[str]
    links: tuple[str, ...]
    blocks: tuple[Block, ...]
    spans: tuple[str, ...]
    """Code within lines."""


def _slug(text: str) -> str:
    """As code hosts and the site make anchors."""
    return re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-")


def _plain(token: Token) -> str:
    return "".join(
        child.content for child in token.children or () if child.type in ("text", "code_inline")
    )


def _read(file: str) -> Page:
    text = (ROOT / file).read_text(encoding="utf-8")
    anchors: set[str] = set()
    links: list[str] = []
    blocks: list[Block] = []
    spans: list[str] = []
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            slug, number = _slug(_plain(tokens[place + 1])), 0
            while (anchor := f"{slug}-{number}" if number else slug) in anchors:
                number += 1
            anchors.add(anchor)
        if token.type in ("fence", "code_block"):
            line = (token.map or [0])[0] + 1
            blocks.append(Block(file, line, token.info.split(" ")[0], token.content))
        for child in token.children or ():
            target = child.attrGet("href") or child.attrGet("src")
            if target is not None:
                links.append(str(target))
            if child.type == "code_inline":
                spans.append(child.content)
    return Page(file, frozenset(anchors), tuple(links), tuple(blocks), tuple(spans))


@pytest.fixture(scope="session")
def read_page() -> Callable[[str], Page]:
    """A page by its path from the repository's root on."""
    return cache(_read)


def _files() -> Iterator[str]:
    for path in sorted(ROOT.rglob("*.md")):
        parts = path.relative_to(ROOT).parts
        if not any(part in _SKIPPED or part.startswith(".") for part in parts):
            yield "/".join(parts)


@pytest.fixture(scope="session")
def pages(read_page: Callable[[str], Page]) -> list[Page]:
    """All of the repository."""
    return [read_page(file) for file in _files()]


@pytest.fixture(scope="session")
def blocks(pages: list[Page]) -> list[Block]:
    """What admins paste: of docs/, README, CONTRIBUTING, charts and models; not what the change log tells."""
    shown = ("docs/", "README.md", "CONTRIBUTING.md", "helm/", "models/", "packaging/", "deploy/")
    return [block for page in pages if page.file.startswith(shown) for block in page.blocks]
