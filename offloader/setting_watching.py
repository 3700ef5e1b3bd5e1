"""The settings of traces and of the line to the admins' channel."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from foundation.tracing import TRACES_ENDPOINT, check_collector, endpoint_of, traces_url
from offloader.setting_reader import Reader
from offloader.setting_webhooks import WebhookSettings, parse_webhooks

_NOT_FOR_JOBS: Final = re.compile(
    r"OTEL_EXPORTER_OTLP_(TRACES_)?(ENDPOINT|CERTIFICATE|CLIENT_KEY|CLIENT_CERTIFICATE)|OTEL_SERVICE_NAME"
)
"""What names a place of this host, or this service."""


@dataclass(frozen=True, slots=True)
class TracingSettings:
    """Where traces go."""

    endpoint: str = ""
    """The collector's whole URL for traces; empty: there is none, and nothing is traced."""
    job_variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What jobs of ours are told of it, keys included; empty: they trace nothing."""


@dataclass(frozen=True, slots=True)
class NotifySettings:
    """Whom to tell, and how to get there."""

    webhook: str = field(default="", repr=False)
    """A secret: whoever has it can post. Empty: nobody is told."""
    webhooks: tuple[WebhookSettings, ...] = ()
    """Programs that are told of each change of a job's state."""
    ca_cert_file: Path | None = None
    http_proxy: str = field(default="", repr=False)
    https_proxy: str = field(default="", repr=False)
    no_proxy: str = ""


def read_tracing(reader: Reader, environ: Mapping[str, str]) -> TracingSettings:
    """`tracing.*`, else OpenTelemetry's own variables."""
    own = reader.parsed("tracing.otlp_endpoint", check_collector, stand_in="")
    of_jobs = reader.parsed("tracing.jobs_otlp_endpoint", check_collector, stand_in="")
    endpoint = traces_url(own) or endpoint_of(environ)
    if not endpoint:
        return TracingSettings()
    shared = {
        name: text
        for name, text in environ.items()
        if name.startswith("OTEL_") and not _NOT_FOR_JOBS.fullmatch(name)
    }
    shared[TRACES_ENDPOINT] = traces_url(of_jobs) or endpoint
    return TracingSettings(endpoint, MappingProxyType(shared))


def read_notify(
    reader: Reader, *, ca_cert_file: Path | None, http_proxy: str, https_proxy: str, no_proxy: str
) -> NotifySettings:
    """`notify.*`; the way to Mattermost is the one of the jobs."""
    return NotifySettings(
        webhook=reader.parsed("notify.mattermost_webhook", parse_webhook, stand_in=""),
        webhooks=reader.parsed("notify.webhooks", parse_webhooks, stand_in=()),
        ca_cert_file=ca_cert_file,
        http_proxy=http_proxy,
        https_proxy=https_proxy,
        no_proxy=no_proxy,
    )


def parse_webhook(url: str) -> str:
    """`https://chat.example.com/hooks/…`, or empty.

    Raises:
        ValueError: another form; the value is not shown, since whoever has it can post.
    """
    url = url.strip()
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable, parts = False, urlsplit("")
    named = parts.path.strip("/") and not parts.query and not parts.fragment
    if url and not (usable and named and parts.username is None):
        raise ValueError(
            "should be the URL of an incoming webhook, such as https://chat.example.com/hooks/…"
        )
    return url
