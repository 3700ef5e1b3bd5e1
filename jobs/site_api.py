"""A job's way to its site."""

from __future__ import annotations

from callclient.plugin_api import PluginApi
from jobs.settings import JobSettings


def site_api(settings: JobSettings) -> PluginApi:
    """Its site, as the job's bot. Raises OSError when `ca_file` cannot be read."""
    return PluginApi(
        site_url=settings.site_url,
        auth_token=settings.auth_token,
        ca_file=settings.ca_file,
        site_is_allowed=settings.site_is_allowed,
    )
