"""Which proxy the environment wants: the same for the WebSocket as for the HTTP requests of the same site."""

from __future__ import annotations

import urllib.request
from urllib.parse import urlsplit


def proxy_for(site_url: str) -> str | None:
    """The proxy for `http(s)://host[:port]` by HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY; None: direct.

    websockets by itself would take HTTPS_PROXY for plain `ws` too, which no other client does.
    """
    parts = urlsplit(site_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if urllib.request.proxy_bypass(f"{parts.hostname}:{port}"):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy is None:
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
