"""Whose word counts about where a request comes from: that of the proxies in the configuration alone."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from offloader.api.proxies import TrustedProxies

OURS = tuple(ipaddress.ip_network(text) for text in ("10.0.0.0/8", "fd00::/8"))
NETWORKS = {"API_SECURITY_ALLOWEDNETWORKS": "198.51.100.0/24"}
FORWARDED = {"X-Forwarded-For": "198.51.100.7"}
INIT = {"Runners": ["mattermost/calls-recorder:v0.8.13"]}


def told(peer: str, *forwarded: str, proto: str = "", trusted: Any = OURS) -> tuple[str, str]:
    """Address and scheme that the service believes."""
    headers = [(b"x-forwarded-for", text.encode()) for text in forwarded]
    headers += [(b"x-forwarded-proto", proto.encode())] if proto else []
    scope = {"type": "http", "client": (peer, 5), "scheme": "http", "headers": headers}
    scope = dict(TrustedProxies(trusted).unwrapped(scope))
    return scope["client"][0], scope["scheme"]


@pytest.mark.parametrize(
    ("peer", "forwarded", "sender"),
    [
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),  # no proxy of ours
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("::ffff:10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["1.2.3.4, 198.51.100.7"], "198.51.100.7"),  # the sender made up the first
        ("10.0.0.1", ["1.2.3.4", "198.51.100.7, 10.9.9.9"], "198.51.100.7"),  # two of ours
        ("10.0.0.1", ["10.2.2.2, 10.3.3.3"], "10.2.2.2"),
        ("fd00::1", ["[2001:db8::7]:443"], "2001:db8::7"),
        ("10.0.0.1", ["198.51.100.7:1234"], "198.51.100.7"),
        ("10.0.0.1", ["1.2.3.4, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4, "], "10.0.0.1"),
        ("", ["198.51.100.7"], ""),
    ],
)
def test_the_nearest_stranger_is_who_asks(peer: str, forwarded: list[str], sender: str) -> None:
    assert told(peer, *forwarded)[0] == sender
    assert told(peer, *forwarded, trusted=())[0] == peer


def test_a_proxy_of_ours_says_whether_it_was_asked_over_tls_and_nobody_else() -> None:
    assert told("10.0.0.1", proto="https")[1] == "https"
    assert told("10.0.0.1", proto="gopher")[1] == "http"
    assert told("192.0.2.1", proto="https")[1] == "http"


async def test_over_a_real_port_a_header_moves_nobody_into_a_network(
    serve: Any, tmp_path: Any
) -> None:
    async with serve(tmp_path, **NETWORKS) as served:
        headers = served.basic("plugin") | FORWARDED
        answer = await served.http.post("/jobs/init", json=INIT, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")


async def test_a_trusted_proxy_s_does(start: Any) -> None:
    running = await start(**NETWORKS, API_HTTP_TRUSTEDPROXIES="127.0.0.0/8")
    for headers, status in (({}, 401), (FORWARDED, 200)):
        headers = running.basic("plugin") | headers
        answer = await running.http.post("/jobs/init", json=INIT, headers=headers)
        assert answer.status_code == status
