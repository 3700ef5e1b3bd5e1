"""One port for all peers: whose is a datagram?"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import pytest

from rtc import stun
from rtc.ice.path import Path
from rtc.net.announced import Announced
from rtc.net.client_network import client_transport
from rtc.net.server_port import MAX_UFRAGS
from rtc.net.shared_port import SharedPort
from rtc.net.transport import IceTransport

pytestmark = pytest.mark.usefixtures("nothing_left")

MEDIA = b"\x80" + bytes(40)


def check(ufrag: str, *, key: bytes = b"password", number: int = 0) -> bytes:
    return stun.binding_request(
        number.to_bytes(12, "big"),
        username=f"{ufrag}:theirs".encode(),
        key=key,
        priority=1,
        tie_breaker=bytes(8),
        controlling=True,
    )


@pytest.fixture
async def port(nothing_left: None) -> AsyncIterator[SharedPort]:
    port = SharedPort()
    announced = [Announced(kind, "127.0.0.1", 0, "127.0.0.1") for kind in ("udp", "tcp")]
    port.open(announced, udp_port=0, tcp_port=0)
    yield port
    port.close()


def sizes(port: SharedPort) -> dict[str, int]:
    return {
        "ufrags": len(port._by_ufrag),
        "asked": len(port._asked),
        "sources": sum(len(shared.by_source) for shared in port._sockets.values()),
        "flows": len(port._flows),
        "owners": len(port._flows._owners),
        "validated": len(port._flows._validated),
        "dialling": len(port._flows._dialling),
        "waiting": sum(door.waiting for door in port._doors),
    }


def path_from(port: SharedPort, client: socket.socket) -> Path:
    return Path("udp", ("127.0.0.1", port.udp_port), client.getsockname())


async def test_a_check_goes_to_whose_ufrag_it_names(
    port: SharedPort, recorded, udp_client, until
) -> None:
    one, two, client = recorded(), recorded(), udp_client()
    port.register("a" * 16, one)
    port.register("b" * 16, two)
    for ufrag in ("b" * 16, "a" * 16, "c" * 16, ""):
        client.sendto(check(ufrag), ("127.0.0.1", port.udp_port))
    await until(lambda: port.dropped_datagrams == 2)
    assert one.stun == [(check("a" * 16), path_from(port, client))]
    assert two.stun == [(check("b" * 16), path_from(port, client))]
    assert port.peers == 2


async def test_media_is_taken_from_bound_addresses_only(
    port: SharedPort, recorded, udp_client, until
) -> None:
    transport, client, stranger = recorded(), udp_client(), udp_client()
    port.register("a" * 16, transport)
    client.sendto(check("a" * 16), ("127.0.0.1", port.udp_port))
    client.sendto(MEDIA, ("127.0.0.1", port.udp_port))
    await until(lambda: port.dropped_datagrams == 1)  # a check alone binds nothing
    port.bind(path_from(port, client), transport)
    stranger.sendto(MEDIA, ("127.0.0.1", port.udp_port))
    client.sendto(b"", ("127.0.0.1", port.udp_port))
    client.sendto(MEDIA, ("127.0.0.1", port.udp_port))
    await until(lambda: transport.data)
    assert transport.data == [MEDIA]
    assert port.dropped_datagrams == 3
    port.release(path_from(port, client), transport)
    client.sendto(MEDIA, ("127.0.0.1", port.udp_port))
    await until(lambda: port.dropped_datagrams == 4)


async def test_an_address_goes_to_who_proved_it_last(
    port: SharedPort, recorded, udp_client, until
) -> None:
    old, new, client = recorded(), recorded(), udp_client()
    path = path_from(port, client)
    port.bind(path, old)
    port.bind(path, new)
    port.release(path, old)  # says nothing about the new one
    client.sendto(MEDIA, ("127.0.0.1", port.udp_port))
    await until(lambda: new.data)
    assert not old.data


async def test_an_answer_goes_to_who_asked(port: SharedPort, recorded, udp_client, until) -> None:
    transport, client = recorded(), udp_client()
    path = path_from(port, client)
    port.send(path, check("theirs", number=7), transport)
    assert client.recv(2000) == check("theirs", number=7)
    answer = stun.binding_success((7).to_bytes(12, "big"), mapped=path.remote, key=b"password")
    other = stun.binding_success((8).to_bytes(12, "big"), mapped=path.remote, key=b"password")
    client.sendto(other, ("127.0.0.1", port.udp_port))
    client.sendto(answer, ("127.0.0.1", port.udp_port))
    await until(lambda: transport.stun)
    assert transport.stun == [(answer, path)]
    assert port.dropped_datagrams == 1


async def test_questions_that_nobody_answers_are_forgotten_with_who_asked(
    port: SharedPort, recorded
) -> None:
    for number in range(100):
        transport = recorded()
        port.send(
            Path("udp", ("127.0.0.1", port.udp_port), ("127.0.0.1", 9)),
            check("theirs", number=number),
            transport,
        )
        port.forget(transport)
    assert sizes(port)["asked"] == 0


async def test_restarts_do_not_pile_up_names(port: SharedPort) -> None:
    transport = port.create_transport(
        controlling=False,
        on_data=lambda data: None,
        on_selected=lambda: None,
        on_lost=lambda reason: None,
    )
    for _ in range(50):
        transport.restart()
    assert sizes(port)["ufrags"] == MAX_UFRAGS
    assert transport.credentials.ufrag in port._by_ufrag
    transport.close()
    assert sizes(port)["ufrags"] == 0


class Joined:
    """A client and its server side, on ICE alone."""

    def __init__(self, port: SharedPort, *, udp: bool) -> None:
        self.selected = 0
        self.data: list[bytes] = []
        self.server = port.create_transport(
            controlling=False,
            on_data=self.data.append,
            on_selected=self._selected,
            on_lost=lambda reason: None,
        )
        self.client = client_transport(
            controlling=True,
            on_data=self.data.append,
            on_selected=self._selected,
            on_lost=lambda reason: None,
            addresses=["127.0.0.1"],
            udp=udp,
        )
        for near, far in ((self.server, self.client), (self.client, self.server)):
            near.start(far.credentials)
            for line in far.candidate_lines():
                near.add_remote_candidate(line)

    def _selected(self) -> None:
        self.selected += 1

    def ends(self) -> list[IceTransport]:
        return [self.client, self.server]


async def test_two_hundred_who_came_and_went_leave_nothing(port: SharedPort, until) -> None:
    empty = sizes(port)
    for number in range(4):
        joined = [Joined(port, udp=place % 5 > 0) for place in range(50)]
        await until(lambda joined=joined: all(one.selected >= 2 for one in joined))
        for one in joined:
            one.client.send(MEDIA)
            one.server.send(MEDIA)
        await until(lambda joined=joined: all(len(one.data) == 2 for one in joined))
        assert port.peers == 50
        for one in joined:
            for end in one.ends()[:: 1 if number % 2 else -1]:
                end.close()
                end.close()
    await until(lambda: sizes(port) == empty)


async def test_a_tcp_connection_goes_to_whose_ufrag_its_first_frame_names(
    port: SharedPort, recorded, until
) -> None:
    transport = recorded()
    port.register("a" * 16, transport)
    first = check("a" * 16)
    with socket.create_connection(("127.0.0.1", port.tcp_port)) as sock:
        sock.sendall(len(first).to_bytes(2, "big") + first)
        await until(lambda: transport.stun)
        [(_, path)] = transport.stun
        assert path == Path("tcp", ("127.0.0.1", port.tcp_port), sock.getsockname())
        for frame in (MEDIA, first):
            sock.sendall(len(frame).to_bytes(2, "big") + frame)
        await until(lambda: len(transport.stun) == 2)
        assert not transport.data
        port.bind(path, transport)
        sock.sendall(len(MEDIA).to_bytes(2, "big") + MEDIA)
        await until(lambda: transport.data == [MEDIA])
    await until(lambda: transport.lost)
    port.forget(transport)


async def test_a_stranger_over_tcp_is_hung_up_on(port: SharedPort) -> None:
    first = check("nobody" * 4)
    reader, writer = await asyncio.open_connection("127.0.0.1", port.tcp_port)
    writer.write(len(first).to_bytes(2, "big") + first)
    async with asyncio.timeout(25):
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_ten_thousand_bogus_checks_are_sorted_out_quickly(
    port: SharedPort, recorded, udp_client, until
) -> None:
    """What a flood of forged requests costs; an honest client is served in between."""
    transport, client = recorded(), udp_client()
    port.register("a" * 16, transport)
    [shared] = port._sockets.values()
    bogus = check("x" * 16)
    began = time.process_time()
    for _ in range(10_000):
        port.stun_received(shared, bogus, ("198.51.100.1", 1))
    assert time.process_time() - began < 1
    client.sendto(check("a" * 16), ("127.0.0.1", port.udp_port))
    await until(lambda: transport.stun)
    assert sizes(port)["sources"] == sizes(port)["asked"] == 0


async def test_another_server_cannot_take_the_port(port: SharedPort) -> None:
    other = SharedPort()
    with pytest.raises(OSError, match=f":{port.udp_port} cannot be bound"):
        other.open(
            [Announced("udp", "127.0.0.1", 0, "127.0.0.1")], udp_port=port.udp_port, tcp_port=0
        )
    assert not other._sockets
