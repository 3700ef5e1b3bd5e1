"""Settings of the SFU, read and checked in rtcd's order and with its texts (rtcd.md 1.2, 1.3)."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, cast

from foundation.layered_config import ConfigError, LayeredConfig, load_layers
from sfu.ice_settings import (
    IceServer,
    PortOverride,
    check_port,
    read_addresses,
    read_ice_servers,
    read_port_override,
)
from sfu.limits import LEAST_SIGNAL_BYTES, LEAST_TCP_QUEUE_BYTES, Limits
from sfu.setting_keys import KEYS

__all__ = ["KEYS", "IceServer", "PortOverride", "Refusal", "SfuSettings", "load_settings"]

Refusal = Literal["none", "calls", "joins"]
"""What a drain refuses: nothing, joins that would begin a call, every join."""

REFUSALS: Final[tuple[Refusal, ...]] = ("none", "calls", "joins")
_LEVELS: Final = ("panic", "fatal", "error", "warn", "info", "debug", "trace", "stdlog")
_WEEK_MINUTES: Final = 10080
_NACK_SIZES: Final = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
_NACK_DEFAULT: Final = 256
_LEAST: Final = {
    "limits.session_candidates": 1,
    "limits.tcp_queue_bytes": LEAST_TCP_QUEUE_BYTES,
    "limits.signal_bytes": LEAST_SIGNAL_BYTES,
}
"""Where 0 would let nothing through; elsewhere it is no limit."""


@dataclass(frozen=True, slots=True)
class SfuSettings:
    """Validated settings."""

    listen_host: str
    """Empty: every address of this host."""
    listen_port: int
    tls_cert_file: str
    """Empty when TLS is off."""
    tls_cert_key: str
    allow_self_registration: bool
    enable_admin: bool
    admin_secret_key: str = field(repr=False)
    session_expiration_minutes: int
    ice_addresses_udp: tuple[str, ...]
    """Empty: all addresses of this host."""
    ice_addresses_tcp: tuple[str, ...]
    ice_port_udp: int
    ice_port_tcp: int
    enable_ipv6: bool
    ice_host_override: str
    ice_port_override: PortOverride
    ice_servers: tuple[IceServer, ...]
    turn_secret: str = field(repr=False)
    turn_expiration_minutes: int
    nack_buffer_size: int
    """Packets kept of each track; a power of two."""
    worker_processes: int
    """0: one for each core."""
    drain_timeout_s: float | None
    """None: without limit."""
    drain_refuse: Refusal
    session_messages_per_s: int
    """0: no limit."""
    client_joins_per_s: int
    """0: no limit."""
    store_directory: Path
    console_level: str
    """Empty when the console target is off."""
    console_json: bool
    console_color: bool
    file_level: str
    """Empty when the file target is off."""
    file_json: bool
    file_location: Path
    limits: Limits = field(default_factory=Limits)
    monitor: tuple[str, int] | None = None
    """Host and port of a listener of its own for monitors; None: there is none."""
    monitor_system: bool = False
    """`/system` is on that listener alone."""
    file_wanted: bool = False
    """Somebody set where the file is; the default one may be given up."""
    skip_hello_verify: bool = False
    """RTCD_RTC_DTLS_INSECURE_SKIP_HELLOVERIFY: DTLS without proof of the sender's address."""
    profile_allocations: bool = False
    """PERF_PROFILES: trace where memory is allocated from the start."""
    file_found: bool = field(default=False, compare=False)
    """There is a configuration file."""
    unknown_keys: tuple[str, ...] = ()


def load_settings(path: Path | None, environ: Mapping[str, str]) -> SfuSettings:
    """Read and check the settings.

    Raises:
        ConfigError: with rtcd's text for the first rule broken, in rtcd's order.
    """
    config = load_layers(KEYS, path=path, environ=environ)
    values = config.values
    _check_api(values)
    udp = read_addresses(values["rtc.ice_address_udp"], "UDP")
    tcp = read_addresses(values["rtc.ice_address_tcp"], "TCP")
    check_port(values["rtc.ice_port_udp"], "ICEPortUDP")
    check_port(values["rtc.ice_port_tcp"], "ICEPortTCP")
    servers = read_ice_servers(values["rtc.ice_servers"])
    _check_turn(values)
    port_override = read_port_override(values["rtc.ice_host_port_override"])
    _check_rtc(values)
    if not values["store.data_source"]:
        raise ConfigError("invalid DataSource value: should not be empty")
    _check_logger(values)
    if values["api.security.session_cache.expiration_minutes"] <= 0:
        raise ConfigError("invalid ExpirationMinutes value: should be a positive number")
    _check_own(values)
    return _settings(config, environ, (udp, tcp), servers, port_override)


def _settings(
    config: LayeredConfig,
    environ: Mapping[str, str],
    addresses: tuple[tuple[str, ...], tuple[str, ...]],
    servers: tuple[IceServer, ...],
    port_override: PortOverride,
) -> SfuSettings:
    values = config.values
    host, port = _listen_address(values["api.http.listen_address"], "api.http.listen_address")
    monitor = values["api.monitor.listen_address"]
    tls = values["api.http.tls.enable"]
    console, file = values["logger.enable_console"], values["logger.enable_file"]
    drain_s = values["drain.timeout_seconds"]
    return SfuSettings(
        listen_host=host,
        listen_port=port,
        tls_cert_file=values["api.http.tls.cert_file"] if tls else "",
        tls_cert_key=values["api.http.tls.cert_key"] if tls else "",
        allow_self_registration=values["api.security.allow_self_registration"],
        enable_admin=values["api.security.enable_admin"],
        admin_secret_key=values["api.security.admin_secret_key"],
        session_expiration_minutes=values["api.security.session_cache.expiration_minutes"],
        ice_addresses_udp=addresses[0],
        ice_addresses_tcp=addresses[1],
        ice_port_udp=values["rtc.ice_port_udp"],
        ice_port_tcp=values["rtc.ice_port_tcp"],
        enable_ipv6=values["rtc.enable_ipv6"],
        ice_host_override=values["rtc.ice_host_override"].strip(),
        ice_port_override=port_override,
        ice_servers=servers,
        turn_secret=values["rtc.turn.static_auth_secret"],
        turn_expiration_minutes=values["rtc.turn.credentials_expiration_minutes"],
        nack_buffer_size=values["rtc.nack_buffer_size"] or _NACK_DEFAULT,
        worker_processes=values["rtc.worker_processes"],
        drain_timeout_s=None if drain_s < 0 else float(drain_s),
        drain_refuse=cast(Refusal, values["drain.refuse"]),
        session_messages_per_s=values["flood.session_messages_per_second"],
        client_joins_per_s=values["flood.client_joins_per_second"],
        limits=Limits(
            client_sessions=values["limits.client_sessions"],
            client_calls=values["limits.client_calls"],
            session_tracks=values["limits.session_tracks"],
            session_candidates=values["limits.session_candidates"],
            audio_bps=values["limits.audio_bits_per_second"],
            video_bps=values["limits.video_bits_per_second"],
            tcp_queue_bytes=values["limits.tcp_queue_bytes"],
            signal_bytes=values["limits.signal_bytes"],
            signal_bytes_per_s=values["limits.signal_bytes_per_second"],
            checks_per_s=values["limits.checks_per_second"],
            link_local=values["limits.link_local"],
        ),
        monitor=_listen_address(monitor, "api.monitor.listen_address") if monitor else None,
        monitor_system=bool(monitor) and values["api.monitor.system"],
        store_directory=Path(values["store.data_source"]),
        console_level=values["logger.console_level"] if console else "",
        console_json=values["logger.console_json"],
        console_color=values["logger.enable_color"],
        file_level=values["logger.file_level"] if file else "",
        file_json=values["logger.file_json"],
        file_location=Path(values["logger.file_location"]),
        file_wanted=config.sources["logger.file_location"] != "default",
        skip_hello_verify=environ.get("RTCD_RTC_DTLS_INSECURE_SKIP_HELLOVERIFY") == "true",
        profile_allocations=environ.get("PERF_PROFILES") == "true",
        file_found=config.file_found,
        unknown_keys=config.unknown,
    )


def _check_api(values: Mapping[str, Any]) -> None:
    if values["api.security.enable_admin"] and not values["api.security.admin_secret_key"]:
        raise ConfigError(
            "failed to validate admin config: invalid AdminSecretKey value: should not be empty"
        )
    prefix = "failed to validate http config: "
    if not values["api.http.listen_address"]:
        raise ConfigError(f"{prefix}invalid ListenAddress value: should not be empty")
    if values["api.http.tls.enable"]:
        for key, name in (("cert_file", "CertFile"), ("cert_key", "CertKey")):
            if not values[f"api.http.tls.{key}"]:
                raise ConfigError(
                    f"{prefix}invalid TLS config: invalid {name} value: should not be empty"
                )
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
                values["api.http.tls.cert_file"], values["api.http.tls.cert_key"]
            )
        except OSError as error:  # SSLError is one
            raise ConfigError(
                f"{prefix}invalid TLS config: failed to load cert files: {error}"
            ) from error


def _listen_address(text: str, key: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(
            f"failed to validate http config: {key} = {text!r}: should be host:port, such as :8045"
        )
    return host.strip("[]"), int(port)


def _check_turn(values: Mapping[str, Any]) -> None:
    if not values["rtc.turn.static_auth_secret"]:
        return
    minutes = values["rtc.turn.credentials_expiration_minutes"]
    prefix = "invalid TURNConfig: invalid CredentialsExpirationMinutes value: "
    if minutes <= 0:
        raise ConfigError(prefix + "should be a positive number")
    if minutes >= _WEEK_MINUTES:
        raise ConfigError(prefix + "should be less than 1 week")


def _check_rtc(values: Mapping[str, Any]) -> None:
    if values["rtc.udp_sockets_count"] <= 0:
        raise ConfigError("invalid UDPSocketsCount value: should be greater than 0")
    size = values["rtc.nack_buffer_size"]
    if size and size < _NACK_SIZES[0]:
        raise ConfigError("invalid NACKBufferSize value: should be at least 32")
    if size > _NACK_SIZES[-1]:
        raise ConfigError("invalid NACKBufferSize value: should not exceed 8192")
    if size and size not in _NACK_SIZES:
        raise ConfigError(
            "invalid NACKBufferSize value: must be a power of 2 "
            f"({', '.join(str(s) for s in _NACK_SIZES)})"
        )


def _check_logger(values: Mapping[str, Any]) -> None:
    if not values["logger.enable_console"] and not values["logger.enable_file"]:
        raise ConfigError("should enable at least one logging target")
    for target in ("console", "file"):
        level = values[f"logger.{target}_level"]
        if values[f"logger.enable_{target}"] and level.lower() not in _LEVELS:
            raise ConfigError(f'invalid {target.title()}Level value "{level}"')
    if values["logger.enable_file"] and not values["logger.file_location"]:
        raise ConfigError("invalid FileLocation value: should not be empty")


def _check_own(values: Mapping[str, Any]) -> None:
    """Keys that rtcd does not have."""
    if values["rtc.worker_processes"] < 0:
        raise ConfigError("invalid WorkerProcesses value: should not be negative")
    if values["drain.timeout_seconds"] < -1:
        raise ConfigError("invalid Drain TimeoutSeconds value: should be -1 (no limit) or more")
    if values["drain.refuse"] not in REFUSALS:
        raise ConfigError(
            f"invalid Drain Refuse value {values['drain.refuse']!r}: should be none, calls or joins"
        )
    for key, name in (
        ("flood.session_messages_per_second", "SessionMessagesPerSecond"),
        ("flood.client_joins_per_second", "ClientJoinsPerSecond"),
    ):
        if values[key] < 0:
            raise ConfigError(f"invalid Flood {name} value: should not be negative")
    for key in (key for key in KEYS if key.startswith("limits.")):
        least = _LEAST.get(key, 0)
        if values[key] < least:
            raise ConfigError(f"{key} = {values[key]}: should be {least} or more")
    if values["api.monitor.system"] and not values["api.monitor.listen_address"]:
        raise ConfigError("api.monitor.system = true: should come with api.monitor.listen_address")
