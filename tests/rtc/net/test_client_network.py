"""A client's own sockets."""

from __future__ import annotations

import socket

import pytest

from rtc.errors import TransportError
from rtc.ice.path import Path
from rtc.net.client_network import ClientNetwork
from rtc.net.udp_socket import bind_udp

pytestmark = pytest.mark.usefixtures("nothing_left")

STUN = b"\x00\x01" + bytes(18)


async def test_each_address_has_a_socket_of_its_own_and_may_dial(recorded) -> None:
    network = ClientNetwork(addresses=["127.0.0.1", "127.0.0.2"])
    lines = [local.candidate.format() for local in network.candidates()]
    assert [("127.0.0.1" in line, "udp" in line, "tcptype active" in line) for line in lines] == [
        (True, True, False),
        (True, False, True),
        (False, True, False),
        (False, False, True),
    ]
    network.forget(recorded())


async def test_an_address_that_vanished_is_left_out(recorded) -> None:
    network = ClientNetwork(addresses=["192.0.2.77", "127.0.0.1"], tcp=False)
    [local] = network.candidates()
    assert local.candidate.host == "127.0.0.1"
    network.forget(recorded())


@pytest.mark.documents("no-address-of-this-host-can-be-used")
async def test_without_any_address_the_reason_names_them(documented) -> None:
    with pytest.raises(TransportError, match=r"no local address can be used: 192\.0\.2\.77"):
        ClientNetwork(addresses=["192.0.2.77"], tcp=False)
    with pytest.raises(TransportError, match="no local address can be used: none") as none:
        ClientNetwork(addresses=[])
    documented("no-address-of-this-host-can-be-used", str(none.value))


async def test_what_is_sent_from_an_address_that_vanishes_later_is_dropped(recorded) -> None:
    network = ClientNetwork(addresses=["127.0.0.1"], tcp=False)
    transport = recorded()
    [local] = network.candidates()
    network.send(Path("udp", local.base, ("203.0.113.9", 0)), STUN, transport)
    network.send(Path("udp", ("192.0.2.1", 5), ("127.0.0.1", 9)), STUN, transport)
    assert network.route(Path("udp", ("192.0.2.1", 5), ("127.0.0.1", 9))) is None
    network.forget(transport)
    network.send(Path("udp", local.base, ("127.0.0.1", 9)), STUN, transport)


async def test_media_is_taken_over_validated_paths_only(recorded, udp_client, until) -> None:
    network = ClientNetwork(addresses=["127.0.0.1"], tcp=False)
    transport, server, stranger = recorded(), udp_client(), udp_client()
    [local] = network.candidates()
    path = Path("udp", local.base, server.getsockname())
    network.register("a" * 16, transport)
    server.sendto(b"\x80 early", local.base)
    server.sendto(STUN, local.base)
    await until(lambda: transport.stun == [(STUN, path)])
    network.bind(path, transport)
    stranger.sendto(b"\x80 forged", local.base)
    server.sendto(b"", local.base)
    server.sendto(b"\x80 media", local.base)
    await until(lambda: transport.data)
    assert transport.data == [b"\x80 media"]
    assert network.dropped_datagrams == 2
    network.release(path, transport)
    server.sendto(b"\x80 late", local.base)
    await until(lambda: network.dropped_datagrams == 3)
    network.forget(transport)


async def test_a_tcp_flow_is_dialled_from_the_address_of_its_path(recorded, until) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        network = ClientNetwork(addresses=["127.0.0.2"], udp=False)
        transport = recorded()
        network.register("a" * 16, transport)
        path = Path("tcp", ("127.0.0.2", 9), listener.getsockname())
        network.connect(path, transport)
        await until(lambda: transport.opened == [path])
        far, source = listener.accept()
        assert source[0] == "127.0.0.2"
        route = network.route(path)
        assert route is not None
        route.send(b"out")
        assert far.recv(100) == b"\x00\x03out"
        network.forget(transport)
        assert far.recv(100) == b""
        far.close()


async def test_it_follows_the_addresses_that_come_and_go(recorded) -> None:
    network = ClientNetwork(addresses=["127.0.0.1", "127.0.0.2"])
    stays, leaves = network.candidates()[0], network.candidates()[2:]
    came, gone = network.follow(["127.0.0.1", "127.0.0.3"])
    assert [(c.base[0], c.candidate.transport) for c in came] == [
        ("127.0.0.3", "udp"),
        ("127.0.0.3", "tcp"),
    ]
    assert gone == [local.base for local in leaves]
    assert network.candidates()[0] is stays
    assert network.candidates()[2:] == came
    assert {host for host, _ in network.udp_sockets} == {"127.0.0.1", "127.0.0.3"}
    priorities = [local.candidate.priority for local in network.candidates()]
    assert len(set(priorities)) == len(priorities)
    assert network.follow(["127.0.0.1", "127.0.0.3"]) == ([], [])
    network.forget(recorded())


async def test_addresses_that_come_and_go_leave_a_relay_alone(recorded) -> None:
    """Its paths begin at the relay's address, which is none of this host's."""
    network = ClientNetwork(addresses=["127.0.0.1", "127.0.0.2"])
    transport = recorded()
    network.register("ours", transport)
    relayed = Path("udp", ("198.51.100.7", 50_000), ("192.0.2.1", 8443))
    network.bind(relayed, transport)
    network.follow(["127.0.0.1", "127.0.0.3"])
    network.datagram_came(relayed, b"\x80media")
    assert transport.data == [b"\x80media"]
    network.forget(transport)


async def test_an_address_that_cannot_be_bound_yet_is_tried_again(recorded, monkeypatch) -> None:
    network = ClientNetwork(addresses=["127.0.0.1"])
    assert network.follow(["127.0.0.1", "192.0.2.77"]) == ([], [])  # as IPv6 before it is verified
    with monkeypatch.context() as patched:
        patched.setattr(
            "rtc.net.client_network.bind_udp", lambda host, port: bind_udp("0.0.0.0", 0)
        )
        came, _ = network.follow(["127.0.0.1", "192.0.2.77"])
    assert len(came) == 2
    network.forget(recorded())


async def test_addresses_that_come_and_go_for_ever_do_not_cost_ever_more(recorded) -> None:
    network = ClientNetwork(addresses=["127.0.0.1"], tcp=False)
    came, _ = network.follow([f"127.0.0.{number}" for number in range(1, 40)])
    assert len(came) == 15
    in_use = 1
    for number in range(40, 140):
        came, _ = network.follow(["127.0.0.1", f"127.0.0.{number}"])
        in_use += len(came)
    assert in_use == 64 - 15
    assert len(network.udp_sockets) == 1
    network.forget(recorded())


async def test_flows_from_an_address_that_went_are_closed(recorded, until) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        network = ClientNetwork(addresses=["127.0.0.1", "127.0.0.2"], udp=False)
        transport = recorded()
        path = Path("tcp", ("127.0.0.2", 9), listener.getsockname())
        network.connect(path, transport)
        await until(lambda: transport.opened == [path])
        far, _ = listener.accept()
        assert network.follow(["127.0.0.1"]) == ([], [("127.0.0.2", 9)])
        assert network.route(path) is None
        assert far.recv(100) == b""
        far.close()
        network.forget(transport)
