"""Hosts with several networks, IPv6, and servers that announce a name: the whole client on real sockets."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from callclient.media import CallMedia
from rtc.ice.pair import PairReport
from rtc.ice.path import Path
from rtc.net.client_network import ClientNetwork
from testbed.rtcd_double.script import Script
from testbed.rtcd_double.server import DoubleServer


def own_addresses(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """This host has these."""
    monkeypatch.setattr("rtc.net.client_network.local_addresses", lambda *, ipv6: [*addresses])


def selected(listener: Any) -> PairReport:
    [pair] = [pair for pair in listener.media._transport.pairs() if pair.selected]
    return pair


async def hears(listener: Any, double: Any, tools: Any) -> None:
    voice = double.puppet("alice").voice()
    voice.send(tools.silence)
    await tools.heard(voice, await listener.track(), b"\x08here")


async def test_of_several_networks_the_one_that_gets_through_is_used_and_the_rest_is_evidence(
    lobby: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_addresses(monkeypatch, "127.0.0.2", "127.0.0.3")
    send = ClientNetwork.send

    def send_but_there(self: Any, path: Path, datagram: bytes, transport: Any) -> None:
        if path.local[0] != "127.0.0.2":
            send(self, path, datagram, transport)

    monkeypatch.setattr(ClientNetwork, "send", send_but_there)
    double = await lobby.double()
    listener = await lobby.enter(double)
    await hears(listener, double, tools)
    assert selected(listener).path.local[0] == "127.0.0.3"
    told = listener.media.explain("why")
    assert re.search(r"udp 127\.0\.0\.2:\d+ -> 127\.0\.0\.1:\d+ (idle|no answer)", told)
    assert re.search(r"udp 127\.0\.0\.3:\d+ -> 127\.0\.0\.1:\d+ succeeded, RTT \d+ ms", told)


@pytest.mark.usefixtures("ipv6")
@pytest.mark.parametrize("announces_udp", [True, False])
async def test_a_server_on_ipv6_alone_is_reached_over_udp_and_tcp(
    lobby: Any, tools: Any, announces_udp: bool
) -> None:
    script = Script(announces_udp=announces_udp)
    double = DoubleServer(script, address="::1", connect_timeout_s=5)
    await double.start()
    lobby.stack.push_async_callback(double.close)
    listener = await lobby.enter(double)
    await hears(listener, double, tools)
    path = selected(listener).path
    assert (path.transport, path.remote[0]) == ("udp" if announces_udp else "tcp", "::1")


async def test_a_server_that_announces_a_name_is_reached(
    lobby: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ice_host_override` may be one (rtcd.md 1.2)."""
    own_addresses(monkeypatch, "127.0.0.1")
    asked: list[str] = []
    resolve = asyncio.BaseEventLoop.getaddrinfo

    async def getaddrinfo(self: Any, host: str, port: Any, **options: Any) -> Any:
        asked.append(host)
        return await resolve(self, "127.0.0.1", port, **options)

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    described, candidate = CallMedia.description_received, CallMedia.candidate_received

    def by_name(line: str) -> str:
        return line.replace(" 127.0.0.1 ", " sfu.test ")

    def description_received(self: Any, kind: str, text: str, **options: Any) -> None:
        lines = [by_name(line) if "candidate:" in line else line for line in text.split("\r\n")]
        described(self, kind, "\r\n".join(lines), **options)

    async def candidate_received(self: Any, line: str) -> None:
        await candidate(self, by_name(line))

    monkeypatch.setattr(CallMedia, "description_received", description_received)
    monkeypatch.setattr(CallMedia, "candidate_received", candidate_received)
    double = await lobby.double()
    listener = await lobby.enter(double)
    await hears(listener, double, tools)
    assert set(asked) == {"sfu.test"}
    assert len(asked) <= 8
    assert selected(listener).path.remote[0] == "127.0.0.1"
