"""Which sites jobs may connect to (jobs.allowed_site_urls). Pure: jobs resolve names."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from foundation.addresses import why_forbidden
from offloader.setting_groups import NetworkSettings

_SHOWN: Final = 200
"""Characters of a URL that an error repeats."""


def why_refused(site_url: str, *, network: NetworkSettings) -> str:
    """Why no job may connect there, to be put after a subject; empty when one may."""
    if network.names_site(site_url):
        return ""
    shown = site_url[:_SHOWN]
    if network.allowed_sites:
        return f"is {shown!r}, which is not among jobs.allowed_site_urls"
    try:
        host = urlsplit(site_url).hostname or ""
    except ValueError:
        return ""  # the job refuses it in the wire's own words
    reason = why_forbidden(host)
    return f"is {shown!r}: {reason}; jobs.allowed_site_urls can allow it" if reason else ""
