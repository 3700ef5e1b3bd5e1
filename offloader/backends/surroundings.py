"""What every job needs to reach its site from where it runs: pure, shared by all backends.

A private CA, proxies, other addresses for a site. The service adds these to a job's own variables; where a
client has set one itself, the client's stays.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from offloader.errors import LaunchFailed
from offloader.setting_groups import NetworkSettings
from offloader.speech_rules import named_endpoints


@dataclass(slots=True)
class Surroundings:
    """The way from jobs to sites, as the admin has set it. One for each backend, which changes it when the
    settings are taken over anew."""

    network: NetworkSettings
    good_ca: bytes | None = field(default=None, repr=False)
    """What jobs.ca_cert_file held when it could last be used; None: nobody has looked."""

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
            if self.network.names_site(given["SITE_URL"]):
                result["SITE_URL_ALLOWED"] = "true"
        if any(named_endpoints(given)):
            result["ALLOWED_SPEECH_URLS"] = ",".join(sorted(self.network.allowed_speech))
        return result

    def copies(self, *, kept: bool = True) -> dict[str, str]:
        """Where a job copies its files to, with the bucket's keys: for programs of our own only. A client
        cannot set these (environment.py). `kept`: its files outlive it, so that others can finish it."""
        if not self.network.copies_url:
            return {}
        in_bucket = self.network.copies_url.startswith("s3:")
        keys = self.network.bucket_variables if in_bucket else {}
        last_chance = {} if kept else {"FILES_GO_WITH_JOB": "true"}
        return {**keys, **last_chance, "COPIES_URL": self.network.copies_url}

    def tracing(self) -> dict[str, str]:
        """Where a job sends its spans: for programs of our own only, and no client can set it."""
        return dict(self.network.tracing_variables)

    def read_ca(self) -> bytes | None:
        """The CA file's content, as it was when it could last be used. Blocks.

        Raises:
            LaunchFailed: it cannot be read.
        """
        path = self.network.ca_cert_file
        if path is None:
            return None
        if self.good_ca is not None:
            return self.good_ca
        try:
            return path.read_bytes()
        except OSError as error:
            text = f"jobs.ca_cert_file: cannot read {path}: {error.strerror}"
            raise LaunchFailed(text) from error

    def means_the_job_itself(self, site_url: str) -> bool:
        """Whether a job with a network of its own would reach nobody else under that URL."""
        host = (urlsplit(site_url).hostname or "").rstrip(".")
        return _is_loopback(host) and host not in {name for name, _ in self.network.extra_hosts}

    def check_reachable(self, site_url: str, *, network_mode: str) -> None:
        """A loopback URL means the container itself, unless it shares the host's network.

        Raises:
            LaunchFailed: with both ways out.
        """
        shared = network_mode == "host" or network_mode.startswith("container:")
        if shared or not self.means_the_job_itself(site_url):
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
