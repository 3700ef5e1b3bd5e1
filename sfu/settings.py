"""Settings of the SFU: rtcd's TOML keys, environment names, defaults and texts (rtcd.md 1.2, 1.3)."""

from __future__ import annotations

import ipaddress
import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foundation.layered_config import ConfigError, Key, LayeredConfig, load_layers

_LEVELS = ("panic", "fatal", "error", "warn", "info", "debug", "trace", "stdlog")
_MIN_PORT, _MAX_PORT = 80, 49151
_WEEK_MINUTES = 10080
_NACK_SIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)

KEYS: dict[str, Key] = {
    "api.http.listen_address": Key(
        "str", ":8045", "RTCD_API_HTTP_LISTENADDRESS", "Where HTTP and /ws listen, host:port."
    ),
    "api.http.tls.enable": Key("bool", False, "RTCD_API_HTTP_TLS_ENABLE", "Serve HTTPS and wss."),
    "api.http.tls.cert_file": Key("str", "", "RTCD_API_HTTP_TLS_CERTFILE", "PEM chain."),
    "api.http.tls.cert_key": Key("str", "", "RTCD_API_HTTP_TLS_CERTKEY", "PEM private key file."),
    "api.security.allow_self_registration": Key(
        "bool", False, "RTCD_API_SECURITY_ALLOWSELFREGISTRATION", "Anybody may register a client."
    ),
    "api.security.enable_admin": Key(
        "bool", False, "RTCD_API_SECURITY_ENABLEADMIN", "Accept the admin key."
    ),
    "api.security.admin_secret_key": Key(
        "str", "", "RTCD_API_SECURITY_ADMINSECRETKEY", "The admin's password.", secret=True
    ),
    "api.security.session_cache.expiration_minutes": Key(
        "int",
        1440,
        "RTCD_API_SECURITY_SESSIONCACHE_EXPIRATIONMINUTES",
        "How long a bearer token lives, minutes.",
    ),
    "rtc.ice_address_udp": Key(
        "str", "", "RTCD_RTC_ICEADDRESSUDP", "Local addresses for UDP media; empty: all."
    ),
    "rtc.ice_address_tcp": Key(
        "str", "", "RTCD_RTC_ICEADDRESSTCP", "Local addresses for TCP media; empty: all."
    ),
    "rtc.ice_port_udp": Key("int", 8443, "RTCD_RTC_ICEPORTUDP", "UDP media port."),
    "rtc.ice_port_tcp": Key("int", 8443, "RTCD_RTC_ICEPORTTCP", "TCP media port."),
    "rtc.enable_ipv6": Key("bool", False, "RTCD_RTC_ENABLEIPV6", "Use IPv6 too."),
    "rtc.ice_host_override": Key(
        "str", "", "RTCD_RTC_ICEHOSTOVERRIDE", "Address or host that clients are told."
    ),
    "rtc.ice_host_port_override": Key(
        "any", "", "RTCD_RTC_ICEHOSTPORTOVERRIDE", "Port that clients are told."
    ),
    "rtc.ice_servers": Key("any", [], "RTCD_RTC_ICESERVERS", "STUN and TURN servers."),
    "rtc.turn.static_auth_secret": Key(
        "str", "", "RTCD_RTC_TURNCONFIG_STATICAUTHSECRET", "TURN REST secret.", secret=True
    ),
    "rtc.turn.credentials_expiration_minutes": Key(
        "int",
        1440,
        "RTCD_RTC_TURNCONFIG_CREDENTIALSEXPIRATIONMINUTES",
        "How long TURN credentials live, minutes.",
    ),
    "rtc.udp_sockets_count": Key(
        "int",
        (os.cpu_count() or 1) * 100,
        "RTCD_RTC_UDPSOCKETSCOUNT",
        "Accepted for compatibility; one socket serves all peers here.",
    ),
    "rtc.nack_buffer_size": Key(
        "int", 256, "RTCD_RTC_NACKBUFFERSIZE", "Packets kept for retransmission, per track."
    ),
    "rtc.nack_disable_copy": Key(
        "bool", True, "RTCD_RTC_NACKDISABLECOPY", "Accepted for compatibility; without effect."
    ),
    "store.data_source": Key(
        "str", "/tmp/rtcd_db", "RTCD_STORE_DATASOURCE", "Directory of the client store."
    ),
    "logger.enable_console": Key(
        "bool", True, "RTCD_LOGGER_ENABLECONSOLE", "Log to standard error."
    ),
    "logger.console_json": Key("bool", False, "RTCD_LOGGER_CONSOLEJSON", "As JSON lines."),
    "logger.console_level": Key("str", "INFO", "RTCD_LOGGER_CONSOLELEVEL", "Lowest level."),
    "logger.enable_file": Key("bool", True, "RTCD_LOGGER_ENABLEFILE", "Log to a file."),
    "logger.file_json": Key("bool", True, "RTCD_LOGGER_FILEJSON", "As JSON lines."),
    "logger.file_level": Key("str", "DEBUG", "RTCD_LOGGER_FILELEVEL", "Lowest level."),
    "logger.file_location": Key("str", "rtcd.log", "RTCD_LOGGER_FILELOCATION", "The file."),
    "logger.enable_color": Key("bool", False, "RTCD_LOGGER_ENABLECOLOR", "Colours on the console."),
}


@dataclass(frozen=True, slots=True)
class IceServer:
    """A STUN or TURN server."""

    urls: tuple[str, ...]
    username: str = ""
    credential: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class SfuSettings:
    """Validated settings."""

    listen_host: str
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
    ice_port_udp: int
    ice_servers: tuple[IceServer, ...]
    store_directory: Path
    console_level: str
    """Empty when the console target is off."""
    console_json: bool
    file_level: str
    """Empty when the file target is off."""
    file_json: bool
    file_location: Path
    unknown_keys: tuple[str, ...] = ()


def load_settings(path: Path | None, environ: Mapping[str, str]) -> SfuSettings:
    """Read and check the settings.

    Raises:
        ConfigError: with rtcd's text for the first rule broken, in rtcd's order.
    """
    config = load_layers(KEYS, path=path, environ=environ)
    values = config.values
    _check_api(values)
    addresses = {k: _addresses(values, k) for k in ("udp", "tcp")}
    for protocol in ("udp", "tcp"):
        port = values[f"rtc.ice_port_{protocol}"]
        if not _MIN_PORT <= port <= _MAX_PORT:
            raise ConfigError(
                f"invalid ICEPort{protocol.upper()} value: {port} is not in allowed range "
                f"[{_MIN_PORT}, {_MAX_PORT}]"
            )
    servers = _ice_servers(values["rtc.ice_servers"])
    _check_rtc(values)
    _check_logger(values)
    return _settings(config, addresses["udp"], servers)


def _settings(
    config: LayeredConfig, addresses_udp: tuple[str, ...], servers: tuple[IceServer, ...]
) -> SfuSettings:
    values = config.values
    host, port = _listen_address(values["api.http.listen_address"])
    tls = values["api.http.tls.enable"]
    console, file = values["logger.enable_console"], values["logger.enable_file"]
    return SfuSettings(
        listen_host=host,
        listen_port=port,
        tls_cert_file=values["api.http.tls.cert_file"] if tls else "",
        tls_cert_key=values["api.http.tls.cert_key"] if tls else "",
        allow_self_registration=values["api.security.allow_self_registration"],
        enable_admin=values["api.security.enable_admin"],
        admin_secret_key=values["api.security.admin_secret_key"],
        session_expiration_minutes=values["api.security.session_cache.expiration_minutes"],
        ice_addresses_udp=addresses_udp,
        ice_port_udp=values["rtc.ice_port_udp"],
        ice_servers=servers,
        store_directory=Path(values["store.data_source"]),
        console_level=values["logger.console_level"] if console else "",
        console_json=values["logger.console_json"],
        file_level=values["logger.file_level"] if file else "",
        file_json=values["logger.file_json"],
        file_location=Path(values["logger.file_location"]),
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


def _listen_address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(
            f"failed to validate http config: api.http.listen_address = {text!r}: "
            "should be host:port, such as :8045"
        )
    return host.strip("[]"), int(port)


def _addresses(values: Mapping[str, Any], protocol: str) -> tuple[str, ...]:
    text: str = values[f"rtc.ice_address_{protocol}"]
    addresses = tuple(part.strip() for part in text.split(",") if part.strip())
    for address in addresses:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise ConfigError(
                f"invalid ICEAddress{protocol.upper()} value: invalid ICEAddress value: "
                f"{address} is not a valid IP address"
            ) from None
    return addresses


def _ice_servers(value: Any) -> tuple[IceServer, ...]:
    if isinstance(value, str):
        value = _ice_servers_from_env(value)
    if not isinstance(value, list):
        raise ConfigError("invalid ICEServers value: should be a list")
    servers = []
    for entry in value:
        if isinstance(entry, str):
            server = IceServer((entry,))
        elif isinstance(entry, dict):
            urls = entry.get("urls") or []
            urls = [urls] if isinstance(urls, str) else urls
            if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
                raise ConfigError("invalid ICEServers value: urls should be a text or texts")
            server = IceServer(
                tuple(urls),
                str(entry.get("username") or ""),
                str(entry.get("credential") or ""),
            )
        else:
            raise ConfigError("invalid ICEServers value: should hold texts or tables")
        _check_ice_server(server)
        servers.append(server)
    return tuple(servers)


def _ice_servers_from_env(text: str) -> Any:
    try:
        value = json.loads(text or "[]")
    except ValueError:
        raise ConfigError("invalid ICEServers value: should be JSON") from None
    if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        return [{"urls": value}]  # a list of URLs in the environment is one server
    return value


def _check_ice_server(server: IceServer) -> None:
    if not server.urls:
        raise ConfigError("invalid ICEServers value: invalid empty URLs")
    if not all(server.urls):
        raise ConfigError("invalid ICEServers value: invalid empty URL")
    stun = all(url.startswith(("stun:", "stuns:")) for url in server.urls)
    turn = all(url.startswith(("turn:", "turns:")) for url in server.urls)
    if not stun and not turn:
        raise ConfigError("invalid ICEServers value: URL is not a valid STUN/TURN server")


def _check_rtc(values: Mapping[str, Any]) -> None:
    if values["rtc.turn.static_auth_secret"]:
        minutes = values["rtc.turn.credentials_expiration_minutes"]
        prefix = "invalid TURNConfig: invalid CredentialsExpirationMinutes value: "
        if minutes <= 0:
            raise ConfigError(prefix + "should be a positive number")
        if minutes >= _WEEK_MINUTES:
            raise ConfigError(prefix + "should be less than 1 week")
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
    if not values["store.data_source"]:
        raise ConfigError("invalid DataSource value: should not be empty")


def _check_logger(values: Mapping[str, Any]) -> None:
    if not values["logger.enable_console"] and not values["logger.enable_file"]:
        raise ConfigError("should enable at least one logging target")
    for target in ("console", "file"):
        level = values[f"logger.{target}_level"]
        if values[f"logger.enable_{target}"] and level.lower() not in _LEVELS:
            raise ConfigError(f'invalid {target.title()}Level value "{level}"')
    if values["logger.enable_file"] and not values["logger.file_location"]:
        raise ConfigError("invalid FileLocation value: should not be empty")
    if values["api.security.session_cache.expiration_minutes"] <= 0:
        raise ConfigError("invalid ExpirationMinutes value: should be a positive number")
