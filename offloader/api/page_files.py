"""The files of the admin's page: read once, sent with an ETag and with headers that browsers keep to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastapi import Request, Response

DIRECTORY: Final = Path(__file__).parents[1] / "page"
INDEX: Final = "index.html"
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Of every answer of the page's routes: nothing from elsewhere, nothing inline, in no other page's frame."""
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    etag: str


class PageFiles:
    """All of them, by name."""

    def __init__(self, directory: Path = DIRECTORY) -> None:
        """Raises OSError: they cannot be read."""
        self._files = {
            path.name: _read(path)
            for path in sorted(directory.iterdir())
            if path.suffix in _TYPES and path.is_file()
        }

    def answer(self, request: Request, name: str) -> Response | None:
        """The file, or 304 for who has it; None: there is no such file."""
        file = self._files.get(name)
        if file is None:
            return None
        # Asked for again with every load, which costs nothing: so a new release shows at once.
        headers = {**HEADERS, "ETag": file.etag, "Cache-Control": "no-cache"}
        known = request.headers.get("if-none-match", "")
        if file.etag in [tag.strip().removeprefix("W/") for tag in known.split(",")]:
            return Response(status_code=304, headers=headers)
        return Response(file.content, headers=headers, media_type=file.media_type)


def _read(path: Path) -> _File:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:32]
    return _File(content, _TYPES[path.suffix], f'"{digest}"')
