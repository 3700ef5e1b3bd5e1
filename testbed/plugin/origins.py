"""Which web pages may open the WebSocket: Mattermost's setting ServiceSettings.AllowCorsFrom."""

from __future__ import annotations

from urllib.parse import urlsplit


class AllowedOrigins:
    """Only browsers send `Origin`; without it everybody may."""

    def __init__(self, allow_cors_from: str, site_url: str) -> None:
        """`allow_cors_from`: origins with spaces between them, `*` for all, or empty for the site alone."""
        self._any = allow_cors_from.strip() == "*"
        self._listed = {*allow_cors_from.split(), site_url} if allow_cors_from.strip() else set()

    def allow(self, origin: str | None, host: str) -> bool:
        """`host` is the request's own Host header: with no list it must be the origin's."""
        if not origin or self._any:
            return True
        if self._listed:
            return origin in self._listed
        return urlsplit(origin).netloc.lower() == host.lower()
