"""With what the SFU refuses to start, provoked and held against docs/troubleshooting.md."""

from __future__ import annotations

import contextlib
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from sfu.__main__ import main


def entry(name: str, toml: str) -> Any:
    return pytest.param(name, toml, marks=pytest.mark.documents(name), id=name)


TABLE = [
    entry("an-sfu-port-out-of-range", "[rtc]\nice_port_udp = 22"),
    entry("an-sfu-address-that-is-none", '[rtc]\nice_address_udp = "chat.example.com"'),
    entry("an-ice-server-of-another-kind", '[rtc]\nice_servers = ["https://stun.example.com"]'),
    entry("an-sfu-admin-without-a-key", "[api]\nsecurity.enable_admin = true"),
    entry("an-sfu-certificate-that-cannot-be-used", "[api]\nhttp.tls.enable = true"),
    entry("a-host-override-that-has-no-address", '[rtc]\nice_host_override = "sfu.invalid"'),
    entry("an-sfu-override-of-another-form", '[rtc]\nice_host_override = "203.0.113.7/eth0"'),
    entry("an-sfu-on-no-address-of-this-host", '[rtc]\nice_address_udp = "192.0.2.1"'),
    entry("an-sfu-without-an-address", '[api]\nhttp.listen_address = ""'),
    entry("an-sfu-address-of-another-form", '[api]\nhttp.listen_address = "8045"'),
    entry(
        "an-sfu-certificate-that-cannot-be-loaded",
        '[api]\nhttp.tls = {enable = true, cert_file = "/no.pem", cert_key = "/no.key"}',
    ),
    entry(
        "turn-credentials-without-a-life",
        '[rtc]\nturn.static_auth_secret = "s"\nturn.credentials_expiration_minutes = 0',
    ),
    entry(
        "turn-credentials-that-live-too-long",
        '[rtc]\nturn.static_auth_secret = "s"\nturn.credentials_expiration_minutes = 20000',
    ),
    entry("no-udp-sockets", "[rtc]\nudp_sockets_count = 0"),
    entry("a-nack-buffer-that-is-too-small", "[rtc]\nnack_buffer_size = 8"),
    entry("a-nack-buffer-that-is-too-large", "[rtc]\nnack_buffer_size = 16384"),
    entry("a-nack-buffer-that-is-no-power-of-2", "[rtc]\nnack_buffer_size = 100"),
    entry("a-negative-number-of-processes", "[rtc]\nworker_processes = -1"),
    entry("a-drain-of-another-length", "[drain]\ntimeout_seconds = -2"),
    entry("a-drain-that-refuses-something-else", '[drain]\nrefuse = "all"'),
    entry("a-negative-flood-limit", "[flood]\nclient_joins_per_second = -1"),
    entry("a-limit-of-the-sfu-that-is-too-low", "[limits]\nsignal_bytes = 0"),
    entry("the-sfus-load-told-to-nobody", "[api]\nmonitor.system = true"),
    entry("ice-servers-that-are-no-list", "[rtc]\nice_servers = 7"),
    entry("ice-servers-that-are-neither-texts-nor-tables", "[rtc]\nice_servers = [7]"),
    entry("urls-of-an-ice-server-of-another-kind", "[rtc]\nice_servers = [{urls = 7}]"),
    entry("an-ice-server-without-urls", "[rtc]\nice_servers = [{urls = []}]"),
    entry("an-ice-server-with-an-empty-url", '[rtc]\nice_servers = [""]'),
    entry("a-port-override-of-another-form", "[rtc]\nice_host_port_override = true"),
    entry("a-port-override-without-a-pair", '[rtc]\nice_host_port_override = "10.0.0.1"'),
    entry("a-port-override-without-a-number", '[rtc]\nice_host_port_override = "10.0.0.1/x"'),
    entry(
        "a-port-override-with-an-address-twice",
        '[rtc]\nice_host_port_override = "10.0.0.1/8443,10.0.0.1/8444"',
    ),
    entry(
        "a-port-override-with-a-port-twice",
        '[rtc]\nice_host_port_override = "10.0.0.1/8443,10.0.0.2/8443"',
    ),
]


@pytest.mark.parametrize(("name", "toml"), TABLE)
def test_settings_that_end_the_start(
    documented: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    toml: str,
) -> None:
    documented(name, _refusal(tmp_path, monkeypatch, capsys, toml))


@pytest.mark.documents(
    "nowhere-to-log-to", "an-sfu-log-level-that-is-unknown", "ice-servers-that-are-no-json"
)
def test_variables_that_end_the_start(
    documented: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, variable, value in (
        ("nowhere-to-log-to", "RTCD_LOGGER_ENABLECONSOLE", "false"),
        ("an-sfu-log-level-that-is-unknown", "RTCD_LOGGER_CONSOLELEVEL", "loud"),
        ("ice-servers-that-are-no-json", "RTCD_RTC_ICESERVERS", "[stun:"),
    ):
        with monkeypatch.context() as environment:
            environment.setenv(variable, value)
            documented(name, _refusal(tmp_path, environment, capsys, "[rtc]"))


@pytest.mark.documents(
    "the-sfus-http-port-is-taken",
    "the-sfus-port-for-monitors-is-taken",
    "the-sfus-media-port-is-taken",
    "the-sfus-media-port-is-taken/2",
)
def test_ports_that_are_taken(
    documented: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        toml = f'[api]\nhttp.listen_address = "127.0.0.1:{port}"'
        text = _refusal(tmp_path, monkeypatch, capsys, toml)
        documented("the-sfus-http-port-is-taken", text)
        toml = f'[api]\nmonitor.listen_address = "127.0.0.1:{port}"\n'
        toml += 'http.listen_address = "127.0.0.1:0"'
        text = _refusal(tmp_path, monkeypatch, capsys, toml)
        documented("the-sfus-port-for-monitors-is-taken", text)
    with socket.socket(type=socket.SOCK_DGRAM) as media:
        port = _bound(media)
        toml = f'[rtc]\nice_port_udp = {port}\nice_port_tcp = {port}\nice_address_udp = "127.0.0.1"'
        text = _refusal(tmp_path, monkeypatch, capsys, toml)
        documented("the-sfus-media-port-is-taken", text)
    with socket.socket() as media:
        port = _bound(media)
        media.listen()
        toml = (
            f"[rtc]\nice_port_udp = {port}\nice_port_tcp = {port}\n"
            'ice_address_udp = "127.0.0.1"\nice_address_tcp = "127.0.0.1"'
        )
        text = _refusal(tmp_path, monkeypatch, capsys, toml)
        documented("the-sfus-media-port-is-taken/2", text)


def _bound(sock: socket.socket) -> int:
    """The port that it got, of those that the SFU allows; the system's own choice may be above."""
    for port in range(21000, 21200):
        with contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    raise AssertionError("200 ports are all taken")


def _refusal(directory: Path, monkeypatch: Any, capsys: Any, toml: str) -> str:
    """The last line on standard error of an SFU with these settings."""
    path = directory / "config.toml"
    rest = f'\n[store]\ndata_source = "{directory}/db"\n[logger]\nenable_file = false\n'
    if "listen_address" not in toml:
        monkeypatch.setenv("RTCD_API_HTTP_LISTENADDRESS", "127.0.0.1:0")
    else:
        monkeypatch.delenv("RTCD_API_HTTP_LISTENADDRESS", raising=False)
    path.write_text(toml + rest)
    monkeypatch.setattr(sys, "argv", ["sfu", "--config", str(path)])
    assert main() == 1
    return str(capsys.readouterr().err.splitlines()[-1]).replace(str(path), "config.toml")
