"""One media port, several workers: the doorman sorts, workers connect sockets of their own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from rtc import stun
from rtc.errors import PortTaken
from rtc.ice.path import Path
from rtc.net.announced import Announced, Listening
from rtc.net.client_network import client_transport
from rtc.net.doorman import Doorman, worker_tag
from rtc.net.handover import HandoverSender, handover_pair
from rtc.net.transport import IceTransport
from rtc.net.worker_port import WorkerPort

pytestmark = pytest.mark.usefixtures("nothing_left")

HOST = "127.0.0.1"
MEDIA = b"\x80" + bytes(40)


def check(ufrag: str, number: int = 0) -> bytes:
    return stun.binding_request(
        worker_tag(7).encode() + number.to_bytes(10, "big"),
        username=f"{ufrag}:theirs".encode(),
        key=b"password",
        priority=1,
        tie_breaker=bytes(8),
        controlling=True,
    )


class House:
    """A doorman and his workers, all in this process."""

    def __init__(self, workers: int = 2) -> None:
        self.doorman = Doorman()
        self.doorman.open([Listening("udp", HOST), Listening("tcp", HOST)], udp_port=0, tcp_port=0)
        self.ports: list[WorkerPort] = []
        self.senders: list[HandoverSender] = []
        for number in range(workers):
            self.hire(number)

    def hire(self, number: int) -> WorkerPort:
        ours, theirs = handover_pair()
        sender = HandoverSender(ours)
        port = WorkerPort(
            tag=worker_tag(number),
            handover=theirs,
            udp_sockets=[sock.dup() for sock in self.doorman.udp_sockets],
            tcp_port=self.doorman.tcp_port,
        )
        announced = [Announced(kind, HOST, 0, HOST) for kind in ("udp", "tcp")]
        port.open(announced, udp_port=port.udp_port, tcp_port=port.tcp_port)
        self.doorman.serve(number, sender)
        self.ports.append(port)
        self.senders.append(sender)
        return port

    @property
    def address(self) -> tuple[str, int]:
        return HOST, self.doorman.udp_port

    def close(self) -> None:
        self.doorman.close()
        for port in self.ports:
            port.close()


@pytest.fixture
async def house(nothing_left: None) -> AsyncIterator[House]:
    house = House()
    yield house
    house.close()


def path_of(house: House, client: socket.socket) -> Path:
    return Path("udp", house.address, client.getsockname())


def sizes(port: WorkerPort) -> list[int]:
    return [
        *(len(port._by_ufrag), len(port._by_path), len(port._asked)),
        *(len(port._connected), len(port._flows)),
    ]


async def test_names_begin_with_the_tag_of_their_worker(house: House) -> None:
    tags = [port.new_credentials().ufrag[:2] for port in house.ports]
    assert tags == [worker_tag(0), worker_tag(1)]
    assert len({worker_tag(number) for number in range(3844)}) == 3844


async def test_a_check_goes_to_the_worker_whose_name_it_bears(
    house: House, recorded, udp_client, until
) -> None:
    owners = [recorded(), recorded()]
    names = [port.new_credentials().ufrag for port in house.ports]
    for port, owner, name in zip(house.ports, owners, names, strict=True):
        port.register(name, owner)
    client = udp_client()
    for name in (names[1], "nobody" * 4, names[0]):
        client.sendto(check(name), house.address)
    await until(lambda: all(owner.stun for owner in owners))
    for owner, name in zip(owners, names, strict=True):
        assert owner.stun == [(check(name), path_of(house, client))]
    assert house.doorman.dropped_datagrams == 1


async def test_what_comes_right_after_the_check_is_not_lost(
    house: House, recorded, udp_client, until
) -> None:
    """A first flight of DTLS follows the check at once, when the worker has no socket for it yet."""
    port, owner, client = house.ports[1], recorded(), udp_client()
    name = port.new_credentials().ufrag
    port.register(name, owner)
    path = path_of(house, client)
    owner_received = owner.stun_received

    def bind_at_once(datagram: bytes, path: Path) -> None:
        owner_received(datagram, path)
        port.bind(path, owner)

    owner.stun_received = bind_at_once
    for datagram in (b"\x80 before the check", check(name), b"\x16 hello", MEDIA):
        client.sendto(datagram, house.address)
    await until(lambda: len(owner.data) == 2)
    assert owner.data == [b"\x16 hello", MEDIA]
    assert house.doorman.dropped_datagrams == 1
    # From now on the kernel brings everything to the worker's own socket.
    house.doorman.dismiss(1)
    client.sendto(b"\x80 direct", house.address)
    client.sendto(check(name, 1), house.address)
    await until(lambda: len(owner.stun) == 2)
    assert owner.data[2:] == [b"\x80 direct"]
    assert house.doorman.dropped_datagrams == 1
    route = port.route(path)
    assert route is not None
    assert route.address is None  # connected
    route.send(b"\x80 back")
    assert client.recv(100) == b"\x80 back"
    port.forget(owner)
    assert sizes(port) == [0] * 5


async def test_what_reaches_a_socket_before_it_is_connected_is_counted_and_dropped(
    house: House, recorded, udp_client, until
) -> None:
    """Between bind and connect the kernel may bring it anybody's datagrams."""
    port, owner, client = house.ports[0], recorded(), udp_client()
    port.bind(path_of(house, client), owner)
    [connected] = port._connected._open.values()
    remote, connected.remote = connected.remote, (HOST, 9)
    client.sendto(MEDIA, house.address)
    await until(lambda: port._connected.misdelivered == 1)
    connected.remote = remote
    client.sendto(b"\x80 mine", house.address)
    await until(lambda: owner.data)
    assert owner.data == [b"\x80 mine"]
    port.forget(owner)


async def test_empty_datagrams_are_nothing(house: House, recorded, udp_client, until) -> None:
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    port, owner, client = house.ports[0], recorded(), udp_client()
    name = port.new_credentials().ufrag
    port.register(name, owner)
    client.sendto(check(name), house.address)
    client.sendto(b"", house.address)
    await until(lambda: owner.stun and house.doorman.dropped_datagrams)
    port.bind(path_of(house, client), owner)
    client.sendto(b"", house.address)
    client.sendto(MEDIA, house.address)
    await until(lambda: owner.data)
    assert not failures
    port.forget(owner)


async def test_without_descriptors_a_flow_stays_with_the_doorman_and_works(
    house: House, recorded, udp_client, until, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object) -> None:
        raise OSError(24, "Too many open files")

    port, owner, client = house.ports[0], recorded(), udp_client()
    name = port.new_credentials().ufrag
    port.register(name, owner)
    client.sendto(check(name), house.address)
    await until(lambda: owner.stun)
    monkeypatch.setattr(port._connected, "connect", exhausted)
    path = path_of(house, client)
    port.bind(path, owner)
    client.sendto(MEDIA, house.address)
    await until(lambda: owner.data == [MEDIA])
    route = port.route(path)
    assert route is not None
    assert route.address == client.getsockname()
    route.send(b"\x80 back", route.address)
    port.send(path, b"\x80 too", owner)
    assert [client.recv(100), client.recv(100)] == [b"\x80 back", b"\x80 too"]
    port.forget(owner)


async def test_a_new_owner_of_an_address_takes_it_over(
    house: House, recorded, udp_client, until
) -> None:
    port, old, new, client = house.ports[0], recorded(), recorded(), udp_client()
    path = path_of(house, client)
    port.bind(path, old)
    port.bind(path, new)
    port.release(path, old)
    client.sendto(MEDIA, house.address)
    await until(lambda: new.data)
    assert len(port._connected) == 1
    port.forget(old)
    port.forget(new)
    assert sizes(port) == [0] * 5


async def test_a_tcp_flow_is_handed_over_with_what_was_read_of_it(
    house: House, recorded, until
) -> None:
    port, owner = house.ports[1], recorded()
    name = port.new_credentials().ufrag
    port.register(name, owner)
    first = check(name)
    with socket.create_connection((HOST, house.doorman.tcp_port)) as sock:
        sock.sendall(len(first).to_bytes(2, "big") + first + b"\x00\x05\x16he")
        await until(lambda: owner.stun)
        [(_, path)] = owner.stun
        assert path == Path("tcp", (HOST, house.doorman.tcp_port), sock.getsockname())
        port.bind(path, owner)
        sock.sendall(b"ll")
        await until(lambda: owner.data == [b"\x16hell"])
        port.send(path, b"back", owner)
        assert sock.recv(100) == b"\x00\x04back"
    await until(lambda: owner.lost)
    port.forget(owner)
    assert sizes(port) == [0] * 5


@pytest.mark.parametrize("name", ["nobody" * 4, worker_tag(1) + "x" * 14])
async def test_a_tcp_flow_to_nobody_is_hung_up_on(house: House, name: str) -> None:
    first = check(name)
    reader, writer = await asyncio.open_connection(HOST, house.doorman.tcp_port)
    writer.write(len(first).to_bytes(2, "big") + first)
    async with asyncio.timeout(25):
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_a_flow_whose_descriptor_was_lost_on_the_way_is_passed_over(
    house: House, recorded, until
) -> None:
    """The kernel drops it where the worker has none left."""
    port, owner = house.ports[0], recorded()
    name = port.new_credentials().ufrag
    port.register(name, owner)
    first = check(name)
    head = b"\x01\x00" + (4711).to_bytes(2, "big") + b"\x04\x7f\x00\x00\x01"
    house.senders[0]._socket.send(head + len(first).to_bytes(2, "big") + first)
    house.senders[0].datagram(0, (HOST, 4711), first)
    await until(lambda: owner.stun)
    assert len(owner.stun) == 1
    assert owner.stun[0][1].transport == "udp"


async def test_the_successor_of_a_worker_takes_its_place(
    house: House, recorded, udp_client, until
) -> None:
    gone, client = house.ports[1], udp_client()
    gone.close()
    client.sendto(check(worker_tag(1) + "x" * 14), house.address)
    await until(lambda: house.senders[1].dropped == 1)
    port = house.hire(1)
    owner, name = recorded(), port.new_credentials().ufrag
    port.register(name, owner)
    client.sendto(check(name), house.address)
    await until(lambda: owner.stun)
    assert house.senders[1]._socket.fileno() == -1  # not one descriptor more for each that dies


async def test_sources_are_remembered_in_bounds(house: House) -> None:
    datagram = check(worker_tag(0) + "x" * 14)
    for number in range(20_000):
        source = f"198.51.{number >> 8}.{number & 255}", 1
        house.doorman._datagram_came(0, datagram, source)
    assert len(house.doorman._sources) == 16_384


async def test_peers_meet_through_the_door_over_udp_and_tcp(house: House, until) -> None:
    for udp in (True, False):
        data: list[bytes] = []
        selected: list[str] = []

        def ends(port: WorkerPort, udp: bool, on: Callable[[bytes], None], selected: list[str]):
            server = port.create_transport(
                controlling=False,
                on_data=on,
                on_selected=lambda: selected.append("server"),
                on_lost=lambda reason: None,
            )
            client = client_transport(
                controlling=True,
                on_data=on,
                on_selected=lambda: selected.append("client"),
                on_lost=lambda reason: None,
                addresses=[HOST],
                udp=udp,
            )
            return client, server

        joined: list[tuple[IceTransport, IceTransport]] = [
            ends(port, udp, data.append, selected) for port in house.ports * 5
        ]
        for client, server in joined:
            for near, far in ((client, server), (server, client)):
                near.start(far.credentials)
                for line in far.candidate_lines():
                    near.add_remote_candidate(line)
        await until(lambda selected=selected: len(selected) == 20)
        for client, server in joined:
            client.send(MEDIA)
            server.send(MEDIA)
        await until(lambda data=data: len(data) == 20)
        for client, server in joined:
            server.close()
            client.close()
        assert [sizes(port) for port in house.ports] == [[0] * 5] * 2


async def test_a_second_server_is_refused_though_sockets_share_the_port(house: House) -> None:
    """Trap 34 of rtcd.md: SO_REUSEPORT would let it in unnoticed."""
    other = Doorman()
    with pytest.raises(PortTaken, match=f"UDP {HOST}:{house.doorman.udp_port} cannot be bound"):
        other.open([Listening("udp", HOST)], udp_port=house.doorman.udp_port, tcp_port=0)
