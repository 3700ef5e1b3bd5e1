"""Step `broker`: can Redis or RabbitMQ be used as Celery needs it, and what a restart of it would lose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from offloader.doctor.finding import Finding, failure, note, skipped, warning
from offloader.doctor.step import Context, Step, aside
from offloader.setting_broker import on_this_host

WHAT: Final = "jobs.celery.broker_url"


async def look(context: Context) -> Sequence[Finding]:
    """Skipped where no job goes through a broker."""
    jobs = context.settings.jobs
    if not context.brokered:
        return [skipped("broker_not_used", WHAT, f"jobs.api_type = {jobs.api_type}")]
    url, ca_file = jobs.celery.broker_url, jobs.network.ca_cert_file
    if url.startswith("amqp"):
        from offloader.doctor.broker_rabbitmq import look_at_rabbitmq

        found = await aside(lambda: look_at_rabbitmq(url, ca_file, jobs.celery.queue_prefix))
    else:
        from offloader.doctor.broker_redis import look_at_redis

        found = await aside(lambda: look_at_redis(url, ca_file, jobs.celery.queue_prefix))
    return [*_exposure(url), *found]


def shown(url: str) -> str:
    """Without user and password."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def unreachable(url: str, error: Exception) -> Finding:
    """By what the library says; never with the password."""
    text = str(error) or type(error).__name__
    password = urlsplit(url).password
    text = text.replace(password, "***") if password else text
    causes = (
        (("in connection URL",), "an option in the URL has a wrong value", f"{WHAT}, after its ?"),
        (
            ("Authentication required", "NOAUTH", "HELLO must be called"),
            "it wants a password",
            f"{WHAT} = redis://:PASSWORD@…",
        ),
        (
            ("WRONGPASS", "invalid username-password", "ACCESS_REFUSED", "invalid password"),
            "user or password are wrong",
            f"{WHAT}; what is special in a password is percent-encoded",
        ),
        (
            ("NOT_ALLOWED", "not found"),
            "there is no such virtual host, or the user may not use it",
            "rabbitmqctl list_vhosts; the default one, /, is written // at the URL's end",
        ),
        (
            ("CERTIFICATE_VERIFY", "certificate verify"),
            "its certificate is not trusted, or names another host",
            "jobs.ca_cert_file = FILE",
        ),
        (
            ("reset by peer", "WRONG_VERSION", "closed by server", "Server unexpectedly closed"),
            "one side speaks TLS and the other does not",
            "rediss:// or amqps://",
        ),
        (
            ("Name or service", "getaddrinfo", "Temporary failure in name"),
            "its name is not known here",
            "getent hosts HOST",
        ),
        (("refused",), "it does not run, or listens elsewhere", "systemctl status redis-server"),
        (
            ("imed out", "imeout"),
            "a firewall that drops, or a broker without memory or disk",
            "nc -vz HOST PORT",
        ),
    )
    fitting = [(cause, fix) for signs, cause, fix in causes if any(sign in text for sign in signs)]
    cause, fix = [*fitting, ("no job can be handed to a worker", "docs/celery.md")][0]
    return failure("broker_unreachable", WHAT, f"{shown(url)}: {text}", cause=cause, fix=(fix,))


def _exposure(url: str) -> list[Finding]:
    """Who reads the broker learns little; who writes can empty its queues."""
    parts = urlsplit(url)
    if on_this_host(url):
        return []
    if not parts.password:
        return [
            warning(
                "broker_open",
                WHAT,
                f"{shown(url)}: without a password",
                cause="whoever reaches it can empty its queues: no job starts then",
                fix=(
                    "requirepass LONG-PASSWORD in /etc/redis/redis.conf",
                    f"{WHAT} = redis://:…@…",
                ),
            )
        ]
    if parts.scheme in ("redis", "amqp"):
        return [
            note(
                "broker_without_tls",
                WHAT,
                shown(url),
                cause="its password crosses the network unencrypted; what jobs are told is sealed",
                fix=("rediss:// or amqps://, see docs/celery.md",),
            )
        ]
    return []


BROKER: Final = Step("broker", "Broker", look, timeout_s=20)
