"""Hooks of mkdocs: pages link to files of the repository as on a code host, and the site has those files.

Whatever a page links to outside docs/ is put below `repository/` in the site, and links to it are changed;
so the sources read the same everywhere, and the site needs nothing but itself.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).parents[1]
_OUTSIDE = "repository"
_ALWAYS = ("CONTRIBUTING.md", "CHANGELOG.md")
"""In the navigation."""
_FENCE = re.compile(r"^ {0,3}(```+|~~~+).*?^ {0,3}\1[`~]*\s*?$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
_FETCHED = re.compile(
    r'<(?:script|img|iframe|source)[^>]+src="https?:|<link[^>]+stylesheet[^>]+https?:'
)
_LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add what pages link to, and what those link to."""
    waiting = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    seen = set(waiting)
    waiting += _ALWAYS
    while waiting:
        path = waiting.pop()
        if path not in seen or path in _ALWAYS:
            seen.add(path)
            if not path.startswith("docs/"):
                uri = f"{_OUTSIDE}/{path}"
                if (_ROOT / path).is_file():
                    file = File.generated(config, uri, abs_src_path=str(_ROOT / path))
                else:
                    file = File.generated(config, uri, content=_listing(Path(path).parent))
                files.append(file)
        if path.endswith(".md") and (_ROOT / path).is_file():
            text = (_ROOT / path).read_text(encoding="utf-8")
            found = {_file_of(path, match[2]) for match in _links(text)}
            waiting += sorted(name for name in found - seen if name)
    return files


def on_page_markdown(markdown: str, page: Any, files: Files, **_: Any) -> str:
    """Point links at the places that files have in the site."""
    here = page.file.src_uri
    path = here.removeprefix(f"{_OUTSIDE}/") if here.startswith(_OUTSIDE) else f"docs/{here}"
    if not (_ROOT / path).is_file():
        return markdown
    parts: list[str] = []
    end = 0
    for match in _links(markdown):
        target = _file_of(path, match[2])
        if target is None:
            continue
        there = (
            target.removeprefix("docs/") if target.startswith("docs/") else f"{_OUTSIDE}/{target}"
        )
        if files.get_file_from_path(there) is None:
            continue  # mkdocs says that the link leads nowhere
        anchor = match[2].partition("#")[1] + match[2].partition("#")[2]
        link = posixpath.relpath(there, posixpath.dirname(here) or ".") + anchor
        parts += [markdown[end : match.start()], match[1], link, match[3]]
        end = match.end()
    return "".join(parts) + markdown[end:]


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Refuse a page that would fetch something from elsewhere."""
    if found := _FETCHED.search(output):
        raise PluginError(
            f"{page.file.src_uri}: {found[0]}: the site should need nothing but itself"
        )
    return output


def _listing(directory: Path) -> str:
    """A page in the place of a directory that has none."""
    names = sorted(one.name for one in (_ROOT / directory).iterdir() if one.name[0] not in "._")
    return f"# {directory}\n\n" + "".join(f"* `{name}`\n" for name in names)


def _links(text: str) -> list[re.Match[str]]:
    """Links outside of code."""
    code = [match.span() for match in _FENCE.finditer(text)]
    code += [match.span() for match in _CODE.finditer(text)]
    code = [span for span in code if "](" in text[slice(*span)]]
    return [
        match
        for match in _LINK.finditer(text)
        if not any(start < match.start() < end for start, end in code)
    ]


def _file_of(page: str, link: str) -> str | None:
    """The file from the repository's root on that a link of `page` means; None: not one of them."""
    target = link.partition("#")[0]
    if not target or "://" in target or target.startswith(("mailto:", "/")):
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
    if path.startswith(".."):
        return None
    if (_ROOT / path).is_dir():
        names = ("index.md", "README.md")
        there = (f"{path}/{name}" for name in names if (_ROOT / path / name).is_file())
        return next(there, f"{path}/index.md")
    return path if (_ROOT / path).is_file() else None
