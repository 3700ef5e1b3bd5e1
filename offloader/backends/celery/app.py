"""The Celery application, configured alike for the service and its workers: JSON only, no results."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from celery import Celery
from kombu import compression
from kombu.entity import Exchange, Queue

from offloader.setting_celery import CelerySettings

PUBLISHERS: Final = 8
"""Threads that publish, and connections for them."""
_CONNECT_S: Final = 2.0
_KEEP_ALIVE: Final = (
    (socket.TCP_KEEPIDLE, 5),
    (socket.TCP_KEEPINTVL, 3),
    (socket.TCP_KEEPCNT, 3),
)
"""Redis has no heartbeat: only so does who waits for a message learn that the broker's host is gone."""
_VISIBLE_AGAIN_S: Final = 3600
"""After which Redis gives out again what nobody acknowledged; nothing depends on it."""


def celery_app(
    settings: CelerySettings, *, patience_s: float | None = None, ca_cert_file: Path | None = None
) -> Celery:
    """`patience_s`: how long an answer of the broker may take, for who publishes; a consumer, which waits for
    messages, has none. `ca_cert_file`: whom to trust behind TLS; None: the system's authorities."""
    _take_nothing_compressed()
    app = Celery(settings.queue_prefix, broker=settings.broker_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        event_serializer="json",
        result_backend=None,
        task_ignore_result=True,
        broker_connection_timeout=_CONNECT_S,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_heartbeat=10,
        broker_pool_limit=PUBLISHERS,
        broker_transport_options=_transport_options(settings.broker_url, patience_s),
        broker_use_ssl=_tls_options(settings.broker_url, ca_cert_file),
        control_exchange=f"{settings.queue_prefix}.control",
        task_default_queue=f"{settings.queue_prefix}.default",
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
    )
    return app


def durable_queue(name: str) -> Queue:
    """A queue as both sides declare it: whoever comes first makes it."""
    exchange = Exchange(name, type="direct")  # type: ignore[no-untyped-call]  # kombu's own have no types
    return Queue(name, exchange, routing_key=name)  # type: ignore[no-untyped-call]  # as above


def _take_nothing_compressed() -> None:
    """In this process: neither side compresses, and kombu would inflate a stranger's message to any size,
    before it is looked at."""
    for content_type in compression.encoders():  # type: ignore[no-untyped-call]  # kombu's own have no types
        compression.register(None, _refuse, content_type)  # type: ignore[no-untyped-call]  # as above


def _refuse(_body: bytes) -> bytes:
    """Raises ValueError, as a decoder does of what is damaged."""
    raise ValueError("compressed")


def _transport_options(broker_url: str, patience_s: float | None) -> dict[str, Any]:
    patience = {} if patience_s is None else {"read_timeout": patience_s}
    if broker_url.startswith("amqp"):
        if patience_s is not None:
            patience["write_timeout"] = patience_s
        return {"confirm_publish": True, **patience}
    options: dict[str, Any] = {
        "visibility_timeout": _VISIBLE_AGAIN_S,
        "socket_connect_timeout": _CONNECT_S,
        "socket_keepalive": True,
        "socket_keepalive_options": dict(_KEEP_ALIVE),
    }
    if patience_s is not None:
        options["socket_timeout"] = patience_s
    return options


def _tls_options(broker_url: str, ca_cert_file: Path | None) -> dict[str, Any] | None:
    """A certificate that nobody checks protects nothing: it is always checked."""
    scheme = broker_url.partition("://")[0]
    trusted = {} if ca_cert_file is None else {"ca_certs": str(ca_cert_file)}
    if scheme == "amqps":
        host = urlsplit(broker_url).hostname
        return {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": host, **trusted}
    if scheme == "rediss":
        prefixed = {f"ssl_{key}": value for key, value in trusted.items()}
        return {"ssl_cert_reqs": ssl.CERT_REQUIRED, **prefixed}
    return None
