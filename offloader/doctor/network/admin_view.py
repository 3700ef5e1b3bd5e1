"""What only a system admin's token shows: `GET /api/v4/config`, of which the doctor reads a few keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from offloader.doctor.network.way import Way, json_object

_PLUGIN_ID: Final = "com.mattermost.calls"


@dataclass(frozen=True, slots=True)
class AdminView:
    """Settings of the server and of its Calls plugin; keys in any letter case, as the server has them."""

    site_url: str
    _calls: Mapping[str, Any] = field(repr=False)
    """May hold passwords in URLs."""

    def text(self, key: str) -> str:
        """A setting of the plugin, such as `JobServiceURL`; empty where there is none."""
        value = self._calls.get(key.lower())
        return value if isinstance(value, str) else ""


async def admin_view(way: Way, token: str) -> AdminView | None:
    """None for who is no admin. Raises httpx.HTTPError."""
    if not token:
        return None
    async with way.http(token=token) as http:
        response = await http.get("/api/v4/config")
    if response.status_code != httpx.codes.OK:
        return None
    config = json_object(response)
    plugins = _table(_table(config.get("PluginSettings")).get("Plugins"))
    return AdminView(
        str(_table(config.get("ServiceSettings")).get("SiteURL") or ""),
        {key.lower(): value for key, value in _table(plugins.get(_PLUGIN_ID)).items()},
    )


def without_password(url: str) -> str:
    """`http://user:***@host`."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return parts._replace(netloc=f"{parts.username}:***@{parts.netloc.rpartition('@')[2]}").geturl()


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
