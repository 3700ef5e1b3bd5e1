"""rtcd's configuration: names, defaults, environment, texts of its refusals (rtcd.md 1.2, 1.3)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from foundation.layered_config import ConfigError
from sfu.setting_keys import KEYS, OWN
from sfu.settings import IceServer, PortOverride, SfuSettings, load_settings

NOWHERE = Path("/nonexistent/config.toml")


def from_toml(tmp_path: Path, text: str, **environ: str) -> SfuSettings:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return load_settings(path, environ)


def refusal(path: Path | None = NOWHERE, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(path, environ)
    return str(caught.value)


TABLE: dict[str, tuple[str, Any]] = {
    "api.http.listen_address": ("API_HTTP_LISTENADDRESS", ":8045"),
    "api.http.tls.enable": ("API_HTTP_TLS_ENABLE", False),
    "api.http.tls.cert_file": ("API_HTTP_TLS_CERTFILE", ""),
    "api.http.tls.cert_key": ("API_HTTP_TLS_CERTKEY", ""),
    "api.security.allow_self_registration": ("API_SECURITY_ALLOWSELFREGISTRATION", False),
    "api.security.enable_admin": ("API_SECURITY_ENABLEADMIN", False),
    "api.security.admin_secret_key": ("API_SECURITY_ADMINSECRETKEY", ""),
    "api.security.session_cache.expiration_minutes": (
        *("API_SECURITY_SESSIONCACHE_EXPIRATIONMINUTES", 1440),
    ),
    "rtc.ice_address_udp": ("RTC_ICEADDRESSUDP", ""),
    "rtc.ice_address_tcp": ("RTC_ICEADDRESSTCP", ""),
    "rtc.ice_port_udp": ("RTC_ICEPORTUDP", 8443),
    "rtc.ice_port_tcp": ("RTC_ICEPORTTCP", 8443),
    "rtc.enable_ipv6": ("RTC_ENABLEIPV6", False),
    "rtc.ice_host_override": ("RTC_ICEHOSTOVERRIDE", ""),
    "rtc.ice_host_port_override": ("RTC_ICEHOSTPORTOVERRIDE", ""),
    "rtc.ice_servers": ("RTC_ICESERVERS", []),
    "rtc.turn.static_auth_secret": ("RTC_TURNCONFIG_STATICAUTHSECRET", ""),
    "rtc.turn.credentials_expiration_minutes": (
        *("RTC_TURNCONFIG_CREDENTIALSEXPIRATIONMINUTES", 1440),
    ),
    "rtc.udp_sockets_count": ("RTC_UDPSOCKETSCOUNT", (os.cpu_count() or 1) * 100),
    "rtc.nack_buffer_size": ("RTC_NACKBUFFERSIZE", 256),
    "rtc.nack_disable_copy": ("RTC_NACKDISABLECOPY", True),
    "store.data_source": ("STORE_DATASOURCE", "/tmp/rtcd_db"),
    "logger.enable_console": ("LOGGER_ENABLECONSOLE", True),
    "logger.console_json": ("LOGGER_CONSOLEJSON", False),
    "logger.console_level": ("LOGGER_CONSOLELEVEL", "INFO"),
    "logger.enable_file": ("LOGGER_ENABLEFILE", True),
    "logger.file_json": ("LOGGER_FILEJSON", True),
    "logger.file_level": ("LOGGER_FILELEVEL", "DEBUG"),
    "logger.file_location": ("LOGGER_FILELOCATION", "rtcd.log"),
    "logger.enable_color": ("LOGGER_ENABLECOLOR", False),
}


def test_keys_variables_and_defaults_are_those_of_the_contract() -> None:
    ours = {name: (key.env, key.default) for name, key in KEYS.items() if name not in OWN}
    assert ours == {name: ("RTCD_" + env, value) for name, (env, value) in TABLE.items()}


OWN_TABLE: dict[str, tuple[str, Any]] = {
    "rtc.worker_processes": ("RTC_WORKERPROCESSES", 0),
    "drain.timeout_seconds": ("DRAIN_TIMEOUTSECONDS", -1),
    "drain.refuse": ("DRAIN_REFUSE", "none"),
    "flood.session_messages_per_second": ("FLOOD_SESSIONMESSAGESPERSECOND", 100),
    "flood.client_joins_per_second": ("FLOOD_CLIENTJOINSPERSECOND", 200),
    "api.monitor.listen_address": ("API_MONITOR_LISTENADDRESS", ""),
    "api.monitor.system": ("API_MONITOR_SYSTEM", False),
    "limits.client_sessions": ("LIMITS_CLIENTSESSIONS", 10_000),
    "limits.client_calls": ("LIMITS_CLIENTCALLS", 5_000),
    "limits.session_tracks": ("LIMITS_SESSIONTRACKS", 20),
    "limits.session_candidates": ("LIMITS_SESSIONCANDIDATES", 100),
    "limits.audio_bits_per_second": ("LIMITS_AUDIOBITSPERSECOND", 2_000_000),
    "limits.video_bits_per_second": ("LIMITS_VIDEOBITSPERSECOND", 30_000_000),
    "limits.tcp_queue_bytes": ("LIMITS_TCPQUEUEBYTES", 262_144),
    "limits.signal_bytes": ("LIMITS_SIGNALBYTES", 524_288),
    "limits.signal_bytes_per_second": ("LIMITS_SIGNALBYTESPERSECOND", 2_097_152),
    "limits.checks_per_second": ("LIMITS_CHECKSPERSECOND", 20),
    "limits.link_local": ("LIMITS_LINKLOCAL", False),
}


def test_our_own_keys_are_named_by_the_same_habits() -> None:
    assert {name: (KEYS[name].env, KEYS[name].default) for name in OWN} == {
        name: ("RTCD_" + env, value) for name, (env, value) in OWN_TABLE.items()
    }


def test_the_keys_that_hold_secrets_are_marked() -> None:
    secret = {name for name, key in KEYS.items() if key.secret}
    assert secret == {"api.security.admin_secret_key", "rtc.turn.static_auth_secret"}


def test_without_file_and_environment_the_defaults_hold() -> None:
    settings = load_settings(NOWHERE, {})
    assert settings == SfuSettings(
        listen_host="",
        listen_port=8045,
        tls_cert_file="",
        tls_cert_key="",
        allow_self_registration=False,
        enable_admin=False,
        admin_secret_key="",
        session_expiration_minutes=1440,
        ice_addresses_udp=(),
        ice_port_udp=8443,
        ice_servers=(),
        ice_addresses_tcp=(),
        ice_port_tcp=8443,
        enable_ipv6=False,
        ice_host_override="",
        ice_port_override=PortOverride(),
        turn_secret="",
        turn_expiration_minutes=1440,
        nack_buffer_size=256,
        worker_processes=0,
        drain_timeout_s=None,
        drain_refuse="none",
        session_messages_per_s=100,
        client_joins_per_s=200,
        console_color=False,
        store_directory=Path("/tmp/rtcd_db"),
        console_level="INFO",
        console_json=False,
        file_level="DEBUG",
        file_json=True,
        file_location=Path("rtcd.log"),
    )
    assert settings == load_settings(None, {})


def test_an_empty_file_equals_defaults(tmp_path: Path) -> None:
    assert from_toml(tmp_path, "") == load_settings(NOWHERE, {})


FULL = """
[api.http]
listen_address = "127.0.0.1:18045"
[api.security]
allow_self_registration = true
enable_admin = true
admin_secret_key = "from-the-file"
session_cache.expiration_minutes = 5
[rtc]
ice_address_udp = "127.0.0.1, ::1"
ice_port_udp = 18443
ice_address_tcp = "10.0.0.2"
ice_port_tcp = 18444
enable_ipv6 = true
ice_host_override = "sfu.example.com"
ice_host_port_override = "10.0.0.1/443,10.0.0.2/444"
turn.static_auth_secret = "from-the-file-too"
turn.credentials_expiration_minutes = 5
nack_buffer_size = 64
worker_processes = 3
[drain]
timeout_seconds = 600
refuse = "calls"
[flood]
session_messages_per_second = 5
client_joins_per_second = 0
[store]
data_source = "/srv/clients"
[logger]
console_json = true
console_level = "warn"
file_json = false
file_level = "ERROR"
file_location = "/srv/sfu.log"
enable_color = true
"""


def test_the_file_wins_over_the_defaults(tmp_path: Path) -> None:
    assert from_toml(tmp_path, FULL) == SfuSettings(
        listen_host="127.0.0.1",
        listen_port=18045,
        tls_cert_file="",
        tls_cert_key="",
        allow_self_registration=True,
        enable_admin=True,
        admin_secret_key="from-the-file",
        session_expiration_minutes=5,
        ice_addresses_udp=("127.0.0.1", "::1"),
        ice_port_udp=18443,
        ice_servers=(),
        ice_addresses_tcp=("10.0.0.2",),
        ice_port_tcp=18444,
        enable_ipv6=True,
        ice_host_override="sfu.example.com",
        ice_port_override=PortOverride(by_address=(("10.0.0.1", 443), ("10.0.0.2", 444))),
        turn_secret="from-the-file-too",
        turn_expiration_minutes=5,
        nack_buffer_size=64,
        worker_processes=3,
        drain_timeout_s=600.0,
        drain_refuse="calls",
        session_messages_per_s=5,
        client_joins_per_s=0,
        console_color=True,
        file_wanted=True,
        store_directory=Path("/srv/clients"),
        console_level="warn",
        console_json=True,
        file_level="ERROR",
        file_json=False,
        file_location=Path("/srv/sfu.log"),
    )


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    settings = from_toml(
        tmp_path,
        FULL,
        RTCD_API_HTTP_LISTENADDRESS="[::1]:1",
        RTCD_API_SECURITY_ALLOWSELFREGISTRATION="F",
        RTCD_API_SECURITY_ADMINSECRETKEY="from-the-environment",
        RTCD_API_SECURITY_SESSIONCACHE_EXPIRATIONMINUTES="7",
        RTCD_RTC_ICEADDRESSUDP="10.0.0.1",
        RTCD_RTC_ICEPORTUDP="2000",
        RTCD_STORE_DATASOURCE="/elsewhere",
        RTCD_LOGGER_FILELEVEL="trace",
    )
    assert (settings.listen_host, settings.listen_port) == ("::1", 1)
    assert not settings.allow_self_registration
    assert settings.admin_secret_key == "from-the-environment"
    assert settings.session_expiration_minutes == 7
    assert (settings.ice_addresses_udp, settings.ice_port_udp) == (("10.0.0.1",), 2000)
    assert settings.store_directory == Path("/elsewhere")
    assert settings.file_level == "trace"
    assert settings.console_level == "warn"


@pytest.mark.parametrize("text", ["1", "t", "T", "TRUE", "true", "True"])
def test_the_forms_of_go_for_true_are_read(text: str) -> None:
    assert load_settings(
        NOWHERE, {"RTCD_API_SECURITY_ALLOWSELFREGISTRATION": text}
    ).allow_self_registration


@pytest.mark.parametrize("text", ["", "yes", "on", "2", " true"])
def test_another_form_of_a_bool_and_even_an_empty_one_is_refused(text: str) -> None:
    message = refusal(RTCD_API_SECURITY_ALLOWSELFREGISTRATION=text)
    assert "RTCD_API_SECURITY_ALLOWSELFREGISTRATION" in message
    assert "true or false" in message


@pytest.mark.parametrize("text", ["", "84x", "8443.0"])
def test_a_number_that_is_none_and_even_an_empty_one_is_refused(text: str) -> None:
    assert "RTCD_RTC_ICEPORTUDP" in refusal(RTCD_RTC_ICEPORTUDP=text)


def test_a_variable_that_is_set_but_empty_replaces_the_text_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(FULL)
    message = refusal(path, RTCD_API_SECURITY_ADMINSECRETKEY="")
    assert message.endswith("invalid AdminSecretKey value: should not be empty")


def test_unknown_sections_and_keys_are_ignored_but_kept_for_the_log(tmp_path: Path) -> None:
    settings = from_toml(tmp_path, "[rtc]\nudp_speed = 3\n[cloud]\nname = 'x'\n")
    assert settings.unknown_keys == ("rtc.udp_speed", "cloud.name")
    assert settings.ice_port_udp == 8443


@pytest.mark.parametrize(
    "text", ["[rtc", "[rtc]\nice_port_udp = '8443'", "[api.http]\nlisten_address = 1"]
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"config\.toml: "):
        from_toml(tmp_path, text)


def test_a_secret_is_in_no_text_that_a_person_sees(tmp_path: Path) -> None:
    settings = from_toml(
        tmp_path,
        FULL,
        RTCD_RTC_ICESERVERS='[{"urls":["turn:t:3478"],"username":"u","credential":"hidden"}]',
    )
    assert settings.ice_servers[0].credential == "hidden"
    assert settings.turn_secret == "from-the-file-too"
    assert "from-the-file" not in repr(settings)
    assert "hidden" not in repr(settings)
    path = tmp_path / "wrong.toml"
    path.write_text("[api.security]\nadmin_secret_key = 123456\n")
    assert "123456" not in refusal(path)


REFUSALS: list[tuple[dict[str, str], str]] = [
    (
        {"API_SECURITY_ENABLEADMIN": "true"},
        "failed to validate admin config: invalid AdminSecretKey value: should not be empty",
    ),
    (
        {"API_HTTP_LISTENADDRESS": ""},
        "failed to validate http config: invalid ListenAddress value: should not be empty",
    ),
    (
        {"API_HTTP_TLS_ENABLE": "true"},
        "failed to validate http config: invalid TLS config: "
        "invalid CertFile value: should not be empty",
    ),
    (
        {"API_HTTP_TLS_ENABLE": "true", "API_HTTP_TLS_CERTFILE": "c.pem"},
        "failed to validate http config: invalid TLS config: "
        "invalid CertKey value: should not be empty",
    ),
    (
        {"RTC_ICEADDRESSUDP": "127.0.0.0.1"},
        "invalid ICEAddressUDP value: invalid ICEAddress value: "
        "127.0.0.0.1 is not a valid IP address",
    ),
    (
        {"RTC_ICEADDRESSTCP": "127.0.0.1, localhost"},
        "invalid ICEAddressTCP value: invalid ICEAddress value: localhost is not a valid IP address",
    ),
    (
        {"RTC_ICEPORTUDP": "22"},
        "invalid ICEPortUDP value: 22 is not in allowed range [80, 49151]",
    ),
    (
        {"RTC_ICEPORTUDP": "79"},
        "invalid ICEPortUDP value: 79 is not in allowed range [80, 49151]",
    ),
    (
        {"RTC_ICEPORTTCP": "49152"},
        "invalid ICEPortTCP value: 49152 is not in allowed range [80, 49151]",
    ),
    (
        {"RTC_ICEPORTTCP": "-1"},
        "invalid ICEPortTCP value: -1 is not in allowed range [80, 49151]",
    ),
    ({"RTC_ICESERVERS": '[{"urls":[]}]'}, "invalid ICEServers value: invalid empty URLs"),
    ({"RTC_ICESERVERS": "[{}]"}, "invalid ICEServers value: invalid empty URLs"),
    ({"RTC_ICESERVERS": '[""]'}, "invalid ICEServers value: invalid empty URL"),
    (
        {"RTC_ICESERVERS": '["http://x"]'},
        "invalid ICEServers value: URL is not a valid STUN/TURN server",
    ),
    (
        {"RTC_ICESERVERS": '["stun:a:1","turn:b:2"]'},
        "invalid ICEServers value: URL is not a valid STUN/TURN server",
    ),
    (
        {
            "RTC_TURNCONFIG_STATICAUTHSECRET": "s",
            "RTC_TURNCONFIG_CREDENTIALSEXPIRATIONMINUTES": "0",
        },
        "invalid TURNConfig: invalid CredentialsExpirationMinutes value: "
        "should be a positive number",
    ),
    (
        {
            "RTC_TURNCONFIG_STATICAUTHSECRET": "s",
            "RTC_TURNCONFIG_CREDENTIALSEXPIRATIONMINUTES": "10080",
        },
        "invalid TURNConfig: invalid CredentialsExpirationMinutes value: "
        "should be less than 1 week",
    ),
    (
        {"RTC_ICEHOSTPORTOVERRIDE": "45"},
        "invalid ICEHostPortOverride value: 45 is not in allowed range [80, 49151]",
    ),
    (
        {"RTC_ICEHOSTPORTOVERRIDE": "65000"},
        "invalid ICEHostPortOverride value: 65000 is not in allowed range [80, 49151]",
    ),
    (
        {"RTC_ICEHOSTPORTOVERRIDE": "127.0.0.1,8443"},
        "invalid ICEHostPortOverride value: failed to parse mapping: invalid map pairing syntax",
    ),
    (
        {"RTC_ICEHOSTPORTOVERRIDE": "127.0.0.1/8443/1"},
        "invalid ICEHostPortOverride value: failed to parse mapping: invalid map pairing syntax",
    ),
    (
        {"RTC_ICEHOSTPORTOVERRIDE": "127.0.0.1/x"},
        "invalid ICEHostPortOverride value: failed to parse mapping: failed to parse port number: "
        "'x' is not a whole number",
    ),
    (
        {"RTC_ICEHOSTPORTOVERRIDE": "127.0.0.1/8443,127.0.0.1/8444"},
        "invalid ICEHostPortOverride value: failed to parse mapping: "
        "duplicate mapping found for 127.0.0.1",
    ),
    (
        {"RTC_ICEHOSTPORTOVERRIDE": "127.0.0.1/8443,127.0.0.2/8443"},
        "invalid ICEHostPortOverride value: failed to parse mapping: duplicate port found for 8443",
    ),
    ({"RTC_UDPSOCKETSCOUNT": "0"}, "invalid UDPSocketsCount value: should be greater than 0"),
    ({"RTC_NACKBUFFERSIZE": "16"}, "invalid NACKBufferSize value: should be at least 32"),
    ({"RTC_NACKBUFFERSIZE": "-1"}, "invalid NACKBufferSize value: should be at least 32"),
    ({"RTC_NACKBUFFERSIZE": "16384"}, "invalid NACKBufferSize value: should not exceed 8192"),
    (
        {"RTC_NACKBUFFERSIZE": "100"},
        "invalid NACKBufferSize value: must be a power of 2 "
        "(32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)",
    ),
    ({"STORE_DATASOURCE": ""}, "invalid DataSource value: should not be empty"),
    (
        {"LOGGER_ENABLECONSOLE": "false", "LOGGER_ENABLEFILE": "false"},
        "should enable at least one logging target",
    ),
    ({"LOGGER_CONSOLELEVEL": "x"}, 'invalid ConsoleLevel value "x"'),
    ({"LOGGER_FILELEVEL": ""}, 'invalid FileLevel value ""'),
    ({"LOGGER_FILELOCATION": ""}, "invalid FileLocation value: should not be empty"),
    (
        {"API_SECURITY_SESSIONCACHE_EXPIRATIONMINUTES": "0"},
        "invalid ExpirationMinutes value: should be a positive number",
    ),
    (
        {"RTC_WORKERPROCESSES": "-1"},
        "invalid WorkerProcesses value: should not be negative",
    ),
    (
        {"DRAIN_TIMEOUTSECONDS": "-2"},
        "invalid Drain TimeoutSeconds value: should be -1 (no limit) or more",
    ),
    (
        {"DRAIN_REFUSE": "all"},
        "invalid Drain Refuse value 'all': should be none, calls or joins",
    ),
    (
        {"FLOOD_SESSIONMESSAGESPERSECOND": "-1"},
        "invalid Flood SessionMessagesPerSecond value: should not be negative",
    ),
    (
        {"FLOOD_CLIENTJOINSPERSECOND": "-1"},
        "invalid Flood ClientJoinsPerSecond value: should not be negative",
    ),
]


@pytest.mark.parametrize(("variables", "text"), REFUSALS)
def test_a_broken_rule_is_told_in_the_contracts_words(variables: dict[str, str], text: str) -> None:
    assert refusal(**{f"RTCD_{name}": value for name, value in variables.items()}) == text


def test_of_several_broken_rules_the_first_of_the_contracts_order_is_told() -> None:
    # One rule for each setting, so that mending one leaves the others broken.
    names = ("API_SECURITY_ENABLEADMIN", "API_HTTP_LISTENADDRESS", "RTC_ICEADDRESSUDP")
    names += ("RTC_ICEADDRESSTCP", "RTC_ICEPORTUDP", "RTC_ICEPORTTCP", "RTC_ICESERVERS")
    names += (
        "RTC_ICEHOSTPORTOVERRIDE",
        "RTC_UDPSOCKETSCOUNT",
        "RTC_NACKBUFFERSIZE",
        "STORE_DATASOURCE",
    )
    names += ("LOGGER_CONSOLELEVEL", "LOGGER_FILELEVEL")
    broken = {name: next(v[name] for v, _ in REFUSALS if name in v) for name in names}
    expected = [next(text for v, text in REFUSALS if name in v) for name in names]
    told = []
    for name in names:
        told.append(refusal(**{f"RTCD_{n}": value for n, value in broken.items()}))
        del broken[name]
    assert told == expected


@pytest.mark.parametrize("port", [80, 49151])
def test_the_ends_of_the_port_range_are_allowed(port: int) -> None:
    variables = {"RTCD_RTC_ICEPORTUDP": str(port), "RTCD_RTC_ICEPORTTCP": str(port)}
    assert load_settings(NOWHERE, variables).ice_port_udp == port


@pytest.mark.parametrize("size", [0, 32, 256, 8192])
def test_a_retransmission_buffer_of_a_power_of_two_or_none_is_allowed(size: int) -> None:
    load_settings(NOWHERE, {"RTCD_RTC_NACKBUFFERSIZE": str(size)})


@pytest.mark.parametrize("minutes", [0, 20000])
def test_the_life_of_turn_credentials_matters_only_with_a_turn_secret(minutes: int) -> None:
    load_settings(NOWHERE, {"RTCD_RTC_TURNCONFIG_CREDENTIALSEXPIRATIONMINUTES": str(minutes)})


@pytest.mark.parametrize(
    "level", ["panic", "FATAL", "Error", "warn", "info", "DEBUG", "trace", "stdlog"]
)
def test_all_levels_are_known_in_any_letter_case(level: str) -> None:
    environ = {"RTCD_LOGGER_CONSOLELEVEL": level, "RTCD_LOGGER_FILELEVEL": level}
    settings = load_settings(NOWHERE, environ)
    assert (settings.console_level, settings.file_level) == (level, level)


def test_the_level_of_a_target_that_is_off_does_not_matter() -> None:
    environ = {"RTCD_LOGGER_ENABLEFILE": "false", "RTCD_LOGGER_FILELEVEL": "x"}
    assert load_settings(NOWHERE, environ).file_level == ""
    environ = {"RTCD_LOGGER_ENABLECONSOLE": "false", "RTCD_LOGGER_CONSOLELEVEL": "x"}
    assert load_settings(NOWHERE, environ).console_level == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (":8045", ("", 8045)),
        ("127.0.0.1:1", ("127.0.0.1", 1)),
        ("[::1]:65535", ("::1", 65535)),
        ("sfu.example:0", ("sfu.example", 0)),
    ],
)
def test_a_listen_address_is_a_host_and_a_port(text: str, expected: tuple[str, int]) -> None:
    settings = load_settings(NOWHERE, {"RTCD_API_HTTP_LISTENADDRESS": text})
    assert (settings.listen_host, settings.listen_port) == expected


@pytest.mark.parametrize("text", ["8045", "localhost", ":", ":x", ":65536", ":-1", ":²"])
def test_a_listen_address_without_a_port_is_refused(text: str) -> None:
    message = refusal(RTCD_API_HTTP_LISTENADDRESS=text)
    assert message.startswith("failed to validate http config: ")
    assert text in message


def test_addresses_are_trimmed_and_may_be_ipv6() -> None:
    environ = {"RTCD_RTC_ICEADDRESSUDP": " 10.0.0.1 , ::1,,"}
    assert load_settings(NOWHERE, environ).ice_addresses_udp == ("10.0.0.1", "::1")


def test_certificate_files_are_told_about_before_anything_starts(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    environ = {
        "RTCD_API_HTTP_TLS_ENABLE": "true",
        "RTCD_API_HTTP_TLS_CERTFILE": str(certificate),
        "RTCD_API_HTTP_TLS_CERTKEY": str(key),
    }
    wanted = "failed to validate http config: invalid TLS config: failed to load cert files: "
    assert refusal(**environ).startswith(wanted)
    certificate.write_text("no certificate")
    key.write_text("no key")
    assert refusal(**environ).startswith(wanted)


def test_certificate_files_that_fit_are_taken_and_without_tls_left_out(
    tmp_path: Path, certificate_files: tuple[Path, Path]
) -> None:
    certificate, key = certificate_files
    environ = {
        "RTCD_API_HTTP_TLS_ENABLE": "true",
        "RTCD_API_HTTP_TLS_CERTFILE": str(certificate),
        "RTCD_API_HTTP_TLS_CERTKEY": str(key),
    }
    settings = load_settings(NOWHERE, environ)
    assert (settings.tls_cert_file, settings.tls_cert_key) == (str(certificate), str(key))
    settings = load_settings(NOWHERE, environ | {"RTCD_API_HTTP_TLS_ENABLE": "false"})
    assert (settings.tls_cert_file, settings.tls_cert_key) == ("", "")


def test_texts_in_the_file_are_one_ice_server_each_and_tables_have_credentials(
    tmp_path: Path,
) -> None:
    text = """
    [rtc]
    ice_servers = ["stun:one.example:3478", "stuns:two.example:5349"]
    """
    assert from_toml(tmp_path, text).ice_servers == (
        IceServer(("stun:one.example:3478",)),
        IceServer(("stuns:two.example:5349",)),
    )
    text = """
    [[rtc.ice_servers]]
    urls = ["turn:three.example:3478", "turns:three.example:5349"]
    username = "u"
    credential = "c"
    """
    assert from_toml(tmp_path, text).ice_servers == (
        IceServer(("turn:three.example:3478", "turns:three.example:5349"), "u", "c"),
    )


def test_texts_in_the_environment_are_one_ice_server_together() -> None:
    value = json.dumps(["stun:one:1", "stun:two:2"])
    assert load_settings(NOWHERE, {"RTCD_RTC_ICESERVERS": value}).ice_servers == (
        IceServer(("stun:one:1", "stun:two:2")),
    )


def test_tables_in_the_environment_are_one_ice_server_each() -> None:
    value = json.dumps([{"urls": ["stun:one:1"]}, {"urls": "turn:two:2", "username": "u"}])
    assert load_settings(NOWHERE, {"RTCD_RTC_ICESERVERS": value}).ice_servers == (
        IceServer(("stun:one:1",)),
        IceServer(("turn:two:2",), "u"),
    )


@pytest.mark.parametrize("value", ["", "[]"])
def test_no_ice_servers_in_the_environment_are_no_reason_to_fail(value: str, tmp_path) -> None:
    text = '[rtc]\nice_servers = ["stun:x:1"]\n'
    assert from_toml(tmp_path, text, RTCD_RTC_ICESERVERS=value).ice_servers == ()


@pytest.mark.parametrize(
    "value",
    ["stun:x:1", "{", "{}", "3", "[3]", "[null]", '[{"urls": 5}]', '[{"urls": [1]}]'],
)
def test_ice_servers_of_a_wrong_form_are_refused_by_name(value: str) -> None:
    assert refusal(RTCD_RTC_ICESERVERS=value).startswith("invalid ICEServers value: ")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("8443", PortOverride(8443)),
        ('"8443"', PortOverride(8443)),
        ('""', PortOverride()),
        ('"127.0.0.1/8443"', PortOverride(by_address=(("127.0.0.1", 8443),))),
        (
            '"10.0.0.1/8443,10.0.0.2/8444,::1/22"',  # ports of a map are not checked against the range
            PortOverride(by_address=(("10.0.0.1", 8443), ("10.0.0.2", 8444), ("::1", 22))),
        ),
    ],
)
def test_the_port_that_clients_are_told_may_be_a_number_a_text_or_a_map(
    tmp_path: Path, value: str, expected: PortOverride
) -> None:
    settings = from_toml(tmp_path, f"[rtc]\nice_host_port_override = {value}\n")
    assert settings.ice_port_override == expected


@pytest.mark.parametrize("value", ["true", "1.5", "[8443]"])
def test_a_port_that_clients_are_told_of_another_form_is_refused(
    tmp_path: Path, value: str
) -> None:
    with pytest.raises(ConfigError, match="invalid ICEHostPortOverride value: should be a port"):
        from_toml(tmp_path, f"[rtc]\nice_host_port_override = {value}\n")


def test_a_retransmission_buffer_of_0_is_the_default_one() -> None:
    assert load_settings(NOWHERE, {"RTCD_RTC_NACKBUFFERSIZE": "0"}).nack_buffer_size == 256


@pytest.mark.parametrize(("seconds", "expected"), [("-1", None), ("0", 0.0), ("30", 30.0)])
def test_a_drain_waits_without_limit_or_so_many_seconds(
    seconds: str, expected: float | None
) -> None:
    settings = load_settings(NOWHERE, {"RTCD_DRAIN_TIMEOUTSECONDS": seconds})
    assert settings.drain_timeout_s == expected


def test_the_switches_that_only_the_environment_has_are_off_unless_true() -> None:
    off = load_settings(NOWHERE, {"PERF_PROFILES": "1"})
    assert (off.skip_hello_verify, off.profile_allocations) == (False, False)
    on = load_settings(
        NOWHERE, {"PERF_PROFILES": "true", "RTCD_RTC_DTLS_INSECURE_SKIP_HELLOVERIFY": "true"}
    )
    assert (on.skip_hello_verify, on.profile_allocations) == (True, True)


def test_whether_there_was_a_file_is_known(tmp_path: Path) -> None:
    assert from_toml(tmp_path, "").file_found
    assert not load_settings(NOWHERE, {}).file_found
