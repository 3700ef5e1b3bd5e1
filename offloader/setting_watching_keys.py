"""The keys `tracing.*` and `notify.*`: see `setting_keys.py`, whose table they are part of."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from foundation.layered_config import Key

WATCHING_KEYS: Final[Mapping[str, Key]] = MappingProxyType(
    {
        "tracing.otlp_endpoint": Key(
            "str",
            "",
            "TRACING_OTLPENDPOINT",
            "Where traces of jobs go to: an OpenTelemetry collector over HTTP, such as "
            "http://collector:4318. Empty: to OTEL_EXPORTER_OTLP_ENDPOINT if that is set, else nowhere.",
        ),
        "tracing.jobs_otlp_endpoint": Key(
            "str",
            "",
            "TRACING_JOBSOTLPENDPOINT",
            "The same collector under the address that jobs reach it by, where it is another one.",
        ),
        "notify.mattermost_webhook": Key(
            "str",
            "",
            "NOTIFY_MATTERMOSTWEBHOOK",
            "Incoming webhook of an admins' channel, which gets a line when a recording failed or waits, "
            "something runs low or is gone, and when all is well again. Empty: nobody is told.",
            secret=True,
        ),
        "notify.webhooks": Key(
            "table",
            MappingProxyType({}),
            "NOTIFY_WEBHOOKS",
            "Programs that are told of each change of a job's state (docs/webhooks.md), each a table by its "
            'name, as {billing = {url = "https://…", secret_file = "/etc/…"}}.',
            secret=True,
        ),
    }
)
