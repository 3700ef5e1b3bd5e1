"""RabbitMQ as a broker: publishing with a confirmation, and queues that outlive a restart. Blocks."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from offloader.backends.celery.messages import launch_queue
from offloader.doctor.broker import WHAT, shown, unreachable
from offloader.doctor.finding import Finding, failure, note, ok
from offloader.models import JobType

_TIMEOUT_S: Final = 3.0


def look_at_rabbitmq(url: str, ca_file: Path | None, prefix: str) -> list[Finding]:
    """Publishes one message into a queue of its own, which goes with the connection."""
    amqp, kombu = _libraries()
    options: dict[str, Any] = {"confirm_publish": True, "read_timeout": _TIMEOUT_S}
    options["write_timeout"] = _TIMEOUT_S
    tls: dict[str, Any] | None = None
    if url.startswith("amqps"):
        tls = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": urlsplit(url).hostname}
        tls |= {"ca_certs": str(ca_file)} if ca_file is not None else {}
    transport = kombu.Connection(
        url, connect_timeout=_TIMEOUT_S, transport_options=options, ssl=tls or False
    ).transport
    try:
        connection = transport.establish_connection()  # once: kombu's own way tries for seconds
    except (amqp.AMQPError, OSError) as error:
        return [unreachable(url, error)]
    try:
        return [
            _answers(url, connection),
            *_queues(connection, prefix),
            publishes(connection, prefix),
        ]
    except (amqp.AMQPError, OSError) as error:
        return [unreachable(url, error)]
    finally:
        _close(connection)


def _close(connection: Any) -> None:
    """A server that stops publishers does not answer their goodbyes either."""
    amqp, _ = _libraries()
    try:
        connection.close()
    except (amqp.AMQPError, OSError):
        connection.collect()  # without a word


def _libraries() -> tuple[Any, Any]:
    """amqp and kombu, which have no types; imported only where there is such a broker."""
    return import_module("amqp"), import_module("kombu")


def _answers(url: str, connection: Any) -> Finding:
    told = connection.server_properties
    version = str(told.get("version", "unknown"))
    product = f"{told.get('product', 'AMQP')} {version}"
    return ok("broker_answers", WHAT, f"{shown(url)}: {product}", data={"version": version})


def _queues(connection: Any, prefix: str) -> Iterator[Finding]:
    """Those that there are; asked for as durable ones, which the server refuses where they are not."""
    amqp, _ = _libraries()
    for job_type in JobType:
        name = launch_queue(prefix, job_type)
        channel = connection.channel()
        try:
            told = channel.queue_declare(name, passive=True)
        except amqp.NotFound:
            yield note(
                "broker_no_queue",
                f"queue {name}",
                "not there yet",
                cause="the first worker makes it: none has connected to this broker so far",
                fix=("systemctl start calls-offloader-worker",),
            )
            continue
        try:
            channel.queue_declare(name, durable=True, auto_delete=False)
        except amqp.PreconditionFailed as error:
            yield failure(
                "broker_queue_not_durable",
                f"queue {name}",
                f"made otherwise: {error.reply_text}",
                cause="service and workers cannot use it: somebody else made it, or a policy",
                fix=(f"rabbitmqctl delete_queue {name}", "it is made anew by the next worker"),
            )
            continue
        data = {"messages": told.message_count, "workers": told.consumer_count}
        value = f"durable, {told.message_count} waiting, {told.consumer_count} consumers"
        yield ok("broker_persistent", f"queue {name}", value, data=data)
        channel.close()


def publishes(connection: Any, prefix: str) -> Finding:
    """Whether a message is confirmed. Blocks."""
    amqp, _ = _libraries()
    channel = connection.channel()
    name = f"{prefix}.doctor.{secrets.token_hex(4)}"
    channel.queue_declare(name, exclusive=True, auto_delete=True, durable=False)
    try:
        channel.basic_publish_confirm(
            amqp.Message("1"), exchange="", routing_key=name, timeout=_TIMEOUT_S
        )
    except (TimeoutError, amqp.AMQPError) as error:
        return failure(
            "broker_refuses_writes",
            "publishing",
            str(error) or "not confirmed in time",
            cause="RabbitMQ stops publishers while memory or disk are low: no job can start",
            fix=("rabbitmq-diagnostics check_local_alarms", "df -h /var/lib/rabbitmq"),
        )
    return ok("broker_takes", "publishing", "confirmed")
