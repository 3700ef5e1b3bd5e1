"""Links lead somewhere, pages are reached, and addresses elsewhere have at least the right form."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

ROOT = Path(__file__).parents[2]


def test_links_within_the_repository_lead_somewhere(
    pages: Any, read_page: Callable[..., Any]
) -> None:
    dead = []
    for page in pages:
        for link in page.links:
            if urlsplit(link).scheme:
                continue
            target, _, anchor = link.partition("#")
            path = posixpath.normpath(posixpath.join(posixpath.dirname(page.file), target))
            file = page.file if not target else path
            if not (ROOT / file).exists():
                dead.append(f"{page.file}: {link}: no such file")
            elif anchor and file.endswith(".md") and anchor not in read_page(file).anchors:
                dead.append(f"{page.file}: {link}: no such heading")
    assert not dead, "\n" + "\n".join(dead)


def test_addresses_elsewhere_have_the_form_of_a_url(pages: Any) -> None:
    odd = []
    for page in pages:
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme and (
                parts.scheme not in ("http", "https", "mailto") or not re.search(r"\w", link)
            ):
                odd.append(f"{page.file}: {link}")
            if parts.scheme in ("http", "https") and "." not in (parts.hostname or ""):
                odd.append(f"{page.file}: {link}: no host")
    assert odd == []


def _navigation() -> set[str]:
    class Loader(yaml.SafeLoader):
        """Reads what mkdocs makes of tags as nothing."""

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
    site = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)

    def leaves(node: Any) -> set[str]:
        if isinstance(node, str):
            return {node}
        children = node.values() if isinstance(node, dict) else node
        return set().union(*(leaves(child) for child in children))

    return leaves(site["nav"])


def test_every_page_is_in_the_navigation_and_nothing_else() -> None:
    written = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    named = {name for name in _navigation() if not name.startswith("repository/")}
    assert sorted(written - named) == [], "not in mkdocs.yml"
    assert sorted(named - written) == [], "in mkdocs.yml, and not written"
    for name in _navigation() - named:
        assert (ROOT / name.removeprefix("repository/")).is_file()


def test_the_site_fetches_nothing_from_elsewhere() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in text
    assert not re.search(r"https?://", text)
    drawn = list((ROOT / "docs").rglob("*.svg"))
    assert drawn
    for path in drawn:
        outside = re.findall(
            r"(?:href|src)\s*=\s*\"(?!#)[^\"]*\"|@import|url\((?!#)", path.read_text()
        )
        assert outside == [], path


def test_generated_pages_are_what_their_generators_write() -> None:
    """configuration.md: tests/offloader/cli/test_config_command.py; helm.md: tests/helm."""
    from offloader.api.openapi import openapi_document
    from tools.api_page import api_page

    written = (ROOT / "docs" / "api-reference.md").read_text(encoding="utf-8")
    assert api_page(openapi_document()) == written, (
        "python -m tools.api_page > docs/api-reference.md"
    )
