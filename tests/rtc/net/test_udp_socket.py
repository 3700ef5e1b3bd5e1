"""One bound UDP socket, read in bursts."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from rtc.errors import PortTaken
from rtc.net.udp_socket import UdpSocket, bind_udp

pytestmark = pytest.mark.usefixtures("nothing_left")


async def test_all_of_a_burst_arrives_in_order_and_others_get_their_turn(udp_client, until) -> None:
    got: list[bytes] = []
    turns: list[int] = []
    udp = UdpSocket(bind_udp("127.0.0.1", 0), lambda data, source: got.append(data))
    client = udp_client()
    sent = [number.to_bytes(2, "big") for number in range(300)]
    for datagram in sent:
        client.sendto(datagram, udp.local)

    def turn() -> None:
        turns.append(len(got))
        if len(got) < len(sent):
            asyncio.get_running_loop().call_soon(turn)

    turn()
    await until(lambda: len(got) == len(sent))
    assert got == sent
    assert len(set(turns)) > 3
    udp.close()


class CountedSocket(socket.socket):
    """How often it was read."""

    reads = 0

    def recvfrom(self, *arguments: int) -> Any:
        self.reads += 1
        return super().recvfrom(*arguments)


async def test_where_datagrams_come_one_by_one_no_second_is_looked_for(udp_client, until) -> None:
    got: list[bytes] = []
    sock = CountedSocket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    udp = UdpSocket(sock, lambda data, source: got.append(data))
    client = udp_client()
    for number in range(32):
        client.sendto(bytes([number]), udp.local)
        await until(lambda number=number: len(got) == number + 1)
    assert sock.reads == 34
    sent = [number.to_bytes(2, "big") for number in range(200)]
    for datagram in sent:
        client.sendto(datagram, udp.local)
    await until(lambda: len(got) == 232)
    assert got[32:] == sent
    udp.close()


async def test_the_source_of_each_datagram_is_told(udp_client, until) -> None:
    got: list[tuple[bytes, Any]] = []
    udp = UdpSocket(bind_udp("127.0.0.1", 0), lambda data, source: got.append((data, source)))
    one, two = udp_client(), udp_client()
    one.sendto(b"1", udp.local)
    two.sendto(b"2", udp.local)
    await until(lambda: len(got) == 2)
    assert got == [(b"1", one.getsockname()), (b"2", two.getsockname())]
    udp.close()


async def test_a_port_that_is_gone_disturbs_nobody_else(udp_client, until) -> None:
    got: list[bytes] = []
    udp = UdpSocket(bind_udp("127.0.0.1", 0), lambda data, source: got.append(data))
    gone, alive = udp_client(), udp_client()
    address = gone.getsockname()
    gone.close()
    for _ in range(50):
        udp.send(b"x", address)  # ICMP port unreachable comes back, on loopback at once
    alive.sendto(b"hello", udp.local)
    await until(lambda: got == [b"hello"])
    udp.send(b"answer", alive.getsockname())
    assert alive.recv(100) == b"answer"
    udp.close()


async def test_an_icmp_error_on_a_connected_socket_is_passed_over(udp_client, until) -> None:
    got: list[bytes] = []
    sock = bind_udp("127.0.0.1", 0)
    peer = udp_client()
    address = peer.getsockname()
    sock.connect(address)
    peer.close()
    udp = UdpSocket(sock, lambda data, source: got.append(data))
    sock.send(b"x")
    back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    back.bind(address)
    back.sendto(b"back again", udp.local)
    await until(lambda: got == [b"back again"])
    back.close()
    udp.close()


async def test_what_cannot_be_sent_is_counted(udp_client) -> None:
    udp = UdpSocket(bind_udp("127.0.0.1", 0), lambda data, source: None)
    udp.send(b"x", ("255.255.255.255", 9))  # broadcast is not allowed to us
    udp.send(bytes(70_000), udp_client().getsockname())
    udp.send(b"x", ("::1", 9))
    assert udp.unsendable == 3
    udp.close()
    udp.send(b"x", ("127.0.0.1", 9))
    assert udp.unsendable == 4


async def test_close_in_the_callback_ends_the_burst(udp_client, until) -> None:
    got: list[bytes] = []

    def received(data: bytes, source: object) -> None:
        got.append(data)
        udp.close()
        udp.close()

    udp = UdpSocket(bind_udp("127.0.0.1", 0), received)
    client = udp_client()
    for number in range(5):
        client.sendto(bytes([number]), udp.local)
    await until(lambda: got)
    await asyncio.sleep(0.01)
    assert got == [b"\0"]
    assert udp.closed


async def test_a_callback_that_fails_costs_its_own_datagram_only(udp_client, until) -> None:
    got: list[bytes] = []
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))

    def received(data: bytes, source: object) -> None:
        got.append(data)
        if data == b"\0":
            raise RuntimeError("a bug above")

    udp = UdpSocket(bind_udp("127.0.0.1", 0), received)
    client = udp_client()
    for number in range(5):
        client.sendto(bytes([number]), udp.local)
    await until(lambda: len(got) == 5)
    assert len(failures) == 1
    udp.close()


async def test_a_taken_port_is_named(udp_client) -> None:
    port = udp_client().getsockname()[1]
    with pytest.raises(PortTaken, match=rf"UDP 127\.0\.0\.1:{port} cannot be bound"):
        bind_udp("127.0.0.1", port)
    with pytest.raises(PortTaken, match=r"UDP 192\.0\.2\.1:0"):
        bind_udp("192.0.2.1", 0)
