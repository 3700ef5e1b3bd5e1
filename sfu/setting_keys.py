"""Every key of the SFU's configuration: rtcd's names, environment and defaults (rtcd.md 1.2), and ours.

`OWN` names the keys that rtcd does not have.
"""

from __future__ import annotations

import os
from typing import Final

from foundation.layered_config import Key

KEYS: Final[dict[str, Key]] = {
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
    "api.monitor.listen_address": Key(
        "str",
        "",
        "RTCD_API_MONITOR_LISTENADDRESS",
        "Where /metrics and /debug/pprof are instead, host:port; /healthz and /readyz too. Empty: with "
        "the rest.",
    ),
    "api.monitor.system": Key(
        "bool",
        False,
        "RTCD_API_MONITOR_SYSTEM",
        "/system is there alone as well: only where one host serves all calls.",
    ),
    "rtc.ice_address_udp": Key(
        "str",
        "",
        "RTCD_RTC_ICEADDRESSUDP",
        "Local IP addresses for UDP media, separated by commas; empty: all.",
    ),
    "rtc.ice_address_tcp": Key(
        "str",
        "",
        "RTCD_RTC_ICEADDRESSTCP",
        "Local IP addresses for TCP media, separated by commas; empty: all.",
    ),
    "rtc.ice_port_udp": Key("int", 8443, "RTCD_RTC_ICEPORTUDP", "UDP media port."),
    "rtc.ice_port_tcp": Key("int", 8443, "RTCD_RTC_ICEPORTTCP", "TCP media port."),
    "rtc.enable_ipv6": Key(
        "bool", False, "RTCD_RTC_ENABLEIPV6", "Use IPv6 addresses of this host too."
    ),
    "rtc.ice_host_override": Key(
        "str",
        "",
        "RTCD_RTC_ICEHOSTOVERRIDE",
        "What clients are told instead of local addresses: an IP address, a host name, or pairs "
        "EXTERNAL/LOCAL separated by commas.",
    ),
    "rtc.ice_host_port_override": Key(
        "any",
        "",
        "RTCD_RTC_ICEHOSTPORTOVERRIDE",
        "Port that clients are told together with an external address: a port, or pairs LOCAL/PORT "
        "separated by commas.",
    ),
    "rtc.ice_servers": Key(
        "any",
        [],
        "RTCD_RTC_ICESERVERS",
        "STUN and TURN servers: texts, or tables of urls, username and credential. The first STUN "
        "server finds the public address when ice_host_override is empty.",
    ),
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
        "Accepted for compatibility; without effect.",
    ),
    "rtc.nack_buffer_size": Key(
        "int", 256, "RTCD_RTC_NACKBUFFERSIZE", "Packets kept for retransmission, per track."
    ),
    "rtc.nack_disable_copy": Key(
        "bool", True, "RTCD_RTC_NACKDISABLECOPY", "Accepted for compatibility; without effect."
    ),
    "rtc.worker_processes": Key(
        "int",
        0,
        "RTCD_RTC_WORKERPROCESSES",
        "Processes that carry media, each with whole calls; 0: one for each core.",
    ),
    "drain.timeout_seconds": Key(
        "int",
        -1,
        "RTCD_DRAIN_TIMEOUTSECONDS",
        "How long SIGTERM waits for sessions to end by themselves before it ends them; -1: without "
        "limit.",
    ),
    "drain.refuse": Key(
        "str",
        "none",
        "RTCD_DRAIN_REFUSE",
        "What SIGTERM refuses while it waits: `none`, `calls` (joins that would begin a call), "
        "`joins` (every join).",
    ),
    "flood.session_messages_per_second": Key(
        "int",
        100,
        "RTCD_FLOOD_SESSIONMESSAGESPERSECOND",
        "Signaling messages that one session may send, ten seconds' worth at once; the rest is "
        "dropped. 0: no limit.",
    ),
    "flood.client_joins_per_second": Key(
        "int",
        200,
        "RTCD_FLOOD_CLIENTJOINSPERSECOND",
        "Joins of one client, ten seconds' worth at once; the rest is refused. 0: no limit.",
    ),
    "limits.client_sessions": Key(
        "int",
        10_000,
        "RTCD_LIMITS_CLIENTSESSIONS",
        "Sessions of one client at a time; further joins are refused. 0: no limit.",
    ),
    "limits.client_calls": Key(
        "int",
        5_000,
        "RTCD_LIMITS_CLIENTCALLS",
        "Calls of one client at a time; joins that would begin another are refused. 0: no limit.",
    ),
    "limits.session_tracks": Key(
        "int",
        20,
        "RTCD_LIMITS_SESSIONTRACKS",
        "Tracks that one session publishes at a time; further ones go to nobody. 0: no limit.",
    ),
    "limits.session_candidates": Key(
        "int",
        100,
        "RTCD_LIMITS_SESSIONCANDIDATES",
        "Remote candidates of one session, anew with each ICE restart; the rest is ignored.",
    ),
    "limits.audio_bits_per_second": Key(
        "int",
        2_000_000,
        "RTCD_LIMITS_AUDIOBITSPERSECOND",
        "Bit rate of one voice or one screen's sound, five seconds' worth at once; the rest is "
        "dropped. 0: no limit.",
    ),
    "limits.video_bits_per_second": Key(
        "int",
        30_000_000,
        "RTCD_LIMITS_VIDEOBITSPERSECOND",
        "Bit rate of one screen or camera with all its layers, five seconds' worth at once; the rest "
        "is dropped. 0: no limit.",
    ),
    "limits.tcp_queue_bytes": Key(
        "int",
        262_144,
        "RTCD_LIMITS_TCPQUEUEBYTES",
        "Bytes that wait for one TCP connection of a participant, besides what the kernel holds; "
        "the rest is dropped.",
    ),
    "limits.signal_bytes": Key(
        "int",
        524_288,
        "RTCD_LIMITS_SIGNALBYTES",
        "Size of a session description, inflated; larger ones are refused.",
    ),
    "limits.signal_bytes_per_second": Key(
        "int",
        2_097_152,
        "RTCD_LIMITS_SIGNALBYTESPERSECOND",
        "Size of all descriptions of one session, inflated, ten seconds' worth at once; the rest is "
        "refused. 0: no limit.",
    ),
    "limits.checks_per_second": Key(
        "int",
        20,
        "RTCD_LIMITS_CHECKSPERSECOND",
        "Connectivity checks that one session makes us send to addresses without consent; the rest "
        "waits. 0: no limit.",
    ),
    "limits.link_local": Key(
        "bool",
        False,
        "RTCD_LIMITS_LINKLOCAL",
        "Send checks and answers to link-local and metadata addresses too.",
    ),
    "store.data_source": Key(
        "str",
        "/tmp/rtcd_db",
        "RTCD_STORE_DATASOURCE",
        "Directory of the client store.",  # nosec B108  # rtcd's default; warned of
    ),
    "logger.enable_console": Key(
        "bool", True, "RTCD_LOGGER_ENABLECONSOLE", "Log to standard output."
    ),
    "logger.console_json": Key("bool", False, "RTCD_LOGGER_CONSOLEJSON", "As JSON lines."),
    "logger.console_level": Key("str", "INFO", "RTCD_LOGGER_CONSOLELEVEL", "Lowest level."),
    "logger.enable_file": Key(
        "bool",
        True,
        "RTCD_LOGGER_ENABLEFILE",
        "Log to a file; put aside and compressed at 100 MB.",
    ),
    "logger.file_json": Key("bool", True, "RTCD_LOGGER_FILEJSON", "As JSON lines."),
    "logger.file_level": Key("str", "DEBUG", "RTCD_LOGGER_FILELEVEL", "Lowest level."),
    "logger.file_location": Key("str", "rtcd.log", "RTCD_LOGGER_FILELOCATION", "The file."),
    "logger.enable_color": Key("bool", False, "RTCD_LOGGER_ENABLECOLOR", "Colours on the console."),
}

OWN: Final = frozenset(
    {
        "rtc.worker_processes",
        "drain.timeout_seconds",
        "drain.refuse",
        "flood.session_messages_per_second",
        "flood.client_joins_per_second",
        "api.monitor.listen_address",
        "api.monitor.system",
        *(name for name in KEYS if name.startswith("limits.")),
    }
)
"""Keys that rtcd does not know; their defaults make us behave as it does, but for floods and limits."""
