"""What every job needs to reach its site from where it runs: pure, shared by all backends.

A private CA, proxies, other addresses for a site. The service adds these to a job's own variables; where a
client has set one itself, the client's stays.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from offloader.errors import LaunchFailed
from offloader.setting_groups import NetworkSettings


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The way from jobs to sites, as the admin has set it."""

    network: NetworkSettings

    def variables(self, given: Mapping[str, str], *, ca_path: str | None) -> dict[str, str]:
        """`given` and what the surroundings add; `ca_path` is where the job finds the CA file."""
        added = {
            "HTTP_PROXY": self.network.http_proxy,
            "HTTPS_PROXY": self.network.https_proxy,
            "NO_PROXY": self.network.no_proxy,
            "TLS_CA_CERT_FILE": ca_path or "",
        }
        result = {name: value for name, value in added.items() if value} | dict(given)
        if "SITE_URL" in given:
            result["SITE_URL"] = self.network.site_url_for_jobs(given["SITE_URL"])
        return result

    def read_ca(self) -> bytes | None:
        """The CA file's content. Blocks.

        Raises:
            LaunchFailed: it cannot be read.
        """
        path = self.network.ca_cert_file
        if path is None:
            return None
        try:
            return path.read_bytes()
        except OSError as error:
            text = f"jobs.ca_cert_file: cannot read {path}: {error.strerror}"
            raise LaunchFailed(text) from error

    def check_reachable(self, site_url: str, *, network_mode: str) -> None:
        """A loopback URL means the container itself, unless it shares the host's network.

        Raises:
            LaunchFailed: with both ways out.
        """
        host = (urlsplit(site_url).hostname or "").rstrip(".")
        if (
            network_mode == "host"
            or network_mode.startswith("container:")
            or not _is_loopback(host)
        ):
            return
        if host in {name for name, _ in self.network.extra_hosts}:
            return
        raise LaunchFailed(
            f'the site URL {site_url} means the job\'s own container on the network "{network_mode}": '
            "let jobs share the host's network with DOCKER_NETWORK=host (jobs.docker.network), or name a URL "
            f'that containers reach with jobs.site_url_overrides = {{"{site_url}" = "http://…"}}'
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
