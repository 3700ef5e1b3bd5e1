"""TCP flows by path: opened, adopted, released."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

import pytest

from rtc.ice.path import Path
from rtc.net import flows as module
from rtc.net.flows import Flows
from rtc.net.tcp_flow import FrameReader

pytestmark = pytest.mark.usefixtures("nothing_left")

STUN = b"\x00\x01" + bytes(18)


def framed(*frames: bytes) -> bytes:
    return b"".join(len(frame).to_bytes(2, "big") + frame for frame in frames)


def path_to(listener: socket.socket) -> Path:
    return Path("tcp", ("127.0.0.1", 9), listener.getsockname())


@pytest.fixture
def listener() -> socket.socket:
    sock = socket.create_server(("127.0.0.1", 0))
    sock.settimeout(2)
    return sock


async def test_a_flow_is_opened_and_carries_data_once_it_is_bound(
    listener: socket.socket, recorded, until
) -> None:
    flows, owner = Flows(), recorded()
    path = path_to(listener)
    flows.connect(path, owner)
    await until(lambda: owner.opened == [path])
    far, _ = listener.accept()
    far.sendall(framed(STUN, b"\x80 too early", b""))
    await until(lambda: owner.stun)
    flows.bind(path)
    far.sendall(framed(b"\x80 media"))
    await until(lambda: owner.data == [b"\x80 media"])
    flows.send(path, b"out")
    assert far.recv(100) == framed(b"out")
    far.close()
    await until(lambda: owner.lost == [(path, "closed")])
    assert len(flows) == 0
    listener.close()


async def test_a_refused_connection_is_told_with_its_reason(
    listener: socket.socket, recorded, until
) -> None:
    flows, owner = Flows(), recorded()
    path = path_to(listener)
    listener.close()
    flows.connect(path, owner)
    await until(lambda: owner.lost)
    assert "Connect call failed" in owner.lost[0][1] or "refused" in owner.lost[0][1]
    assert not flows._dialling
    assert not flows._owners


async def _never(*_: object) -> None:
    await asyncio.sleep(60)


async def test_nobody_answers_a_call_for_longer_than_its_time(
    listener: socket.socket, recorded, until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CONNECT_TIMEOUT_S", 0.05)
    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", _never)
    flows, owner = Flows(), recorded()
    flows.connect(path_to(listener), owner)
    await until(lambda: owner.lost)
    assert owner.lost[0][1] == "no connection in time"
    listener.close()


@pytest.mark.parametrize("how", ["release", "forget"])
async def test_a_call_that_is_not_wanted_any_more_leaves_nothing(
    listener: socket.socket, recorded, until, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", _never)
    flows, owner = Flows(), recorded()
    path = path_to(listener)
    flows.connect(path, owner)
    await until(lambda: flows._dialling)
    if how == "release":
        flows.release(path)
    else:
        flows.forget(owner)
    await until(lambda: not flows._dialling)
    assert not owner.lost + owner.opened
    listener.close()


async def test_without_descriptors_the_owner_is_told(
    listener: socket.socket, recorded, until, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    flows, owner = Flows(), recorded()
    path = path_to(listener)
    with monkeypatch.context() as patch:
        patch.setattr(module.socket, "socket", exhausted)
        flows.connect(path, owner)
        await until(lambda: owner.lost)
    assert owner.lost == [(path, "[Errno 24] Too many open files")]
    listener.close()


async def test_forget_closes_the_flows_of_one_and_of_nobody_else(
    listener: socket.socket, recorded, until
) -> None:
    flows, one, two = Flows(), recorded(), recorded()
    near, far = path_to(listener), Path("tcp", ("127.0.0.1", 10), listener.getsockname())
    flows.connect(near, one)
    flows.connect(far, two)
    await until(lambda: one.opened and two.opened)
    flows.forget(one)
    assert flows.route(near) is None
    assert flows.route(far) is not None
    assert not one.lost  # it knows
    flows.forget(two)
    assert not flows._flows
    assert not flows._owners
    listener.close()


async def test_flows_that_prove_nothing_do_not_pile_up(
    tcp_pair: Callable[[], tuple[socket.socket, socket.socket]], recorded, until
) -> None:
    """Whoever knows a name may open connections to it; without the password they are worth little."""
    flows, owner = Flows(), recorded()
    paths = [Path("tcp", ("127.0.0.1", 8443), ("127.0.0.1", port)) for port in range(1, 60)]
    flows.adopt(tcp_pair()[0], paths[0], owner, FrameReader(), [STUN])
    flows.bind(paths[0])
    for path in paths[1:]:
        flows.adopt(tcp_pair()[0], path, owner, FrameReader(), [STUN])
    assert len(flows) == 17
    assert flows.route(paths[0]) is not None
    assert len(owner.lost) == len(paths) - 17
    flows.forget(owner)


async def test_the_end_of_an_old_flow_does_not_end_its_successor_of_the_same_name(
    tcp_pair: Callable[[], tuple[socket.socket, socket.socket]], recorded
) -> None:
    flows, owner = Flows(), recorded()
    path = Path("tcp", ("127.0.0.1", 9), ("127.0.0.1", 8443))
    first, far = tcp_pair()
    flows.adopt(first, path, owner, FrameReader())
    far.close()
    flows._flows[path]._readable()  # sees the end, and tells it in the next turn of the loop
    flows.release(path)
    flows.adopt(tcp_pair()[0], path, owner, FrameReader())
    await asyncio.sleep(0.01)
    assert flows.route(path) is not None
    assert not owner.lost
    flows.forget(owner)


async def test_what_is_sent_to_no_flow_is_dropped(recorded) -> None:
    flows = Flows()
    path = Path("tcp", ("127.0.0.1", 9), ("127.0.0.1", 8443))
    flows.send(path, b"x")
    flows.release(path)
    flows.forget(recorded())
    assert flows.route(path) is None


async def test_what_waits_for_one_flow_is_bounded_and_what_it_lost_stays_counted(
    tcp_pair, recorded
) -> None:
    flows, owner = Flows(backlog_bytes=20_000), recorded()
    near, far = tcp_pair()
    for end, option in ((near, socket.SO_SNDBUF), (far, socket.SO_RCVBUF)):
        end.setsockopt(socket.SOL_SOCKET, option, 65536)
    path = Path("tcp", near.getsockname()[:2], far.getsockname()[:2])
    flows.adopt(near, path, owner, FrameReader())
    flow = flows._flows[path]
    for _ in range(1000):
        flows.send(path, bytes(1200))
        assert flow._backlog_bytes <= 20_000
    assert flow._backlog_bytes > 18_000
    lost = flows.dropped
    assert lost > 0
    flows.release(path)
    assert flows.dropped == lost
