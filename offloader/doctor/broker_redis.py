"""Redis as a broker: version, writing, memory and its policy, persistence. Blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from offloader.doctor.broker import WHAT, shown, unreachable
from offloader.doctor.finding import Finding, failure, note, ok, skipped, warning
from offloader.doctor.machine import size

_TIMEOUT_S: Final = 3.0
_LEAST_MAJOR: Final = 6
_NEARLY_FULL: Final = 0.9
_OPTIONS: Final = ("appendonly", "save", "maxmemory-policy")


def look_at_redis(url: str, ca_file: Path | None, prefix: str) -> list[Finding]:
    """Writes one key that ends by itself after some seconds."""
    import redis

    options: dict[str, Any] = {"socket_timeout": _TIMEOUT_S, "socket_connect_timeout": _TIMEOUT_S}
    if url.startswith("rediss:") and ca_file is not None:
        options["ssl_ca_certs"] = str(ca_file)
    address = url.replace("redis+socket://", "unix://", 1)
    try:
        client = redis.Redis.from_url(address, **options)
    except ValueError as error:  # an option of the URL
        return [unreachable(url, error)]
    try:
        info: dict[str, Any] = dict(client.info())
        try:
            client.set(f"{prefix}.doctor", "1", ex=5)
            refusal = ""
        except redis.ResponseError as error:
            refusal = str(error)
        settings = _settings(client)
    except (redis.RedisError, OSError) as error:
        return [unreachable(url, error)]
    finally:
        client.close()
    return list(judge(url, info, settings, refusal=refusal))


def judge(
    url: str, info: Mapping[str, Any], settings: Mapping[str, str] | None, *, refusal: str
) -> Iterator[Finding]:
    """From what INFO and CONFIG GET tell; `settings` None: they are not told. `refusal`: of a write."""
    version = str(info.get("redis_version", "0"))
    told = f"{shown(url)}: Redis {version}"
    if int(version.split(".")[0]) < _LEAST_MAJOR:
        yield failure(
            "broker_too_old",
            WHAT,
            told,
            cause="Redis 6 or later is needed",
            fix=("apt install redis-server (Debian 12: 7.0)",),
        )
    elif not refusal:
        yield ok("broker_answers", WHAT, told, data={"version": version})
    if refusal:
        yield failure(
            "broker_refuses_writes",
            WHAT,
            f"{told}: {refusal}",
            cause=_why_refused(refusal),
            fix=(
                "redis-cli info persistence",
                "redis-cli info replication",
                "df -h /var/lib/redis",
            ),
        )
    if settings is None:
        why = "the server does not tell its settings (CONFIG is not allowed)"
        yield skipped("broker_settings_unseen", "persistence of the broker", why)
        return
    yield from _memory(info, settings)
    yield _persistence(info, settings)


def _why_refused(refusal: str) -> str:
    if "MISCONF" in refusal:
        return "it cannot save its snapshots (disk full, no rights), and takes nothing meanwhile"
    # redis-py leaves out the first word of this one, READONLY.
    if "READONLY" in refusal or "read only replica" in refusal:
        return "it is a replica: launches cannot be put into its queues"
    if "maxmemory" in refusal:
        return "its memory (maxmemory) is full"
    return "launches cannot be put into its queues: the user lacks a right"


def _memory(info: Mapping[str, Any], settings: Mapping[str, str]) -> Iterator[Finding]:
    most = int(info.get("maxmemory", 0))
    used = int(info.get("used_memory", 0))
    policy = settings.get("maxmemory-policy", "")
    if policy != "noeviction":
        yield warning(
            "broker_evicts",
            "maxmemory-policy",
            f"{policy}, maxmemory {size(most) if most else 'none'}",
            cause="with a limit of memory Redis throws launches away: their jobs never start",
            fix=("redis-cli config set maxmemory-policy noeviction", "redis-cli config rewrite"),
        )
    else:
        yield ok("broker_keeps", "maxmemory-policy", policy)
    if most and used > _NEARLY_FULL * most:
        yield warning(
            "broker_memory_low",
            "memory of the broker",
            f"{size(used)} of {size(most)}",
            cause="when it is full no job starts",
            fix=("redis-cli config set maxmemory 0, or a larger value", "redis-cli --bigkeys"),
            data={"used_bytes": used, "maxmemory_bytes": most},
        )


def _persistence(info: Mapping[str, Any], settings: Mapping[str, str]) -> Finding:
    what = "persistence of the broker"
    appendonly = settings.get("appendonly") == "yes"
    saves = settings.get("save", "")
    data = {"appendonly": appendonly, "save": saves}
    if saves and info.get("rdb_last_bgsave_status") == "err":
        return warning(
            "broker_save_failed",
            what,
            "the last snapshot failed",
            cause="disk full, or no right to write: Redis soon refuses writes, and no job starts",
            fix=("sudo journalctl -u redis-server -n 50", "redis-cli config get dir"),
            data=data,
        )
    if appendonly:
        return ok("broker_persistent", what, "appendonly yes", data=data)
    shown_as = f"snapshots ({saves})" if saves else "none"
    return note(
        "broker_forgets",
        what,
        shown_as,
        cause="a restart of it loses launches that no worker has taken yet, which are seconds old: "
        "the plugin is told after jobs.celery.claim_wait_s. Jobs that run are not touched",
        fix=("redis-cli config set appendonly yes", "redis-cli config rewrite"),
        data=data,
    )


def _settings(client: Any) -> dict[str, str] | None:
    import redis

    found: dict[str, str] = {}
    try:
        for name in _OPTIONS:
            for key, value in client.config_get(name).items():
                found[_text(key)] = _text(value)
    except redis.ResponseError:
        return None  # managed servers do not allow it
    return found


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
