"""Relays on real sockets, against a server of a few lines."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from rtc.ice.candidate import Candidate
from rtc.ice.path import Path
from rtc.net.turn_relays import Relays
from rtc.turn.messages import Method
from rtc.turn.servers import IceServer, ServerUrl

RELAYED = ("198.51.100.7", 50_000)
PEER = ("192.0.2.1", 8443)


async def _no_tls() -> ssl.SSLContext:
    raise FileNotFoundError(2, "No such file or directory")


@dataclass
class Heard:
    """What relays told."""

    found: asyncio.Queue[Candidate] = field(default_factory=asyncio.Queue)
    refused: asyncio.Queue[tuple[Path, str]] = field(default_factory=asyncio.Queue)
    gone: asyncio.Queue[tuple[Any, str]] = field(default_factory=asyncio.Queue)
    relays: Relays = field(init=False)

    def __post_init__(self) -> None:
        self.relays = Relays(
            make_tls=_no_tls,
            on_relay=self.found.put_nowait,
            on_data=lambda datagram, path: None,
            on_refused=lambda path, reason: self.refused.put_nowait((path, reason)),
            on_gone=lambda base, reason: self.gone.put_nowait((base, reason)),
        )


@pytest.fixture
async def heard() -> Any:
    result = Heard()
    yield result
    result.relays.close()
    await asyncio.sleep(0)  # what was cancelled ends


@pytest.fixture
def dead_port() -> Iterator[int]:
    """Nobody answers here over UDP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def _server(*urls: str, credential: str = "secret") -> IceServer:
    return IceServer(tuple(map(ServerUrl.parse, urls)), "user", credential)


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(25):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_relay_is_found_used_and_given_back(
    listening: Any, heard: Heard, transport: str
) -> None:
    heard.relays.gather([_server(f"turn:127.0.0.1:{listening.port}?transport={transport}")])
    candidate = await heard.found.get()
    assert (candidate.type, candidate.address) == ("relay", RELAYED)
    heard.relays.send(Path("udp", RELAYED, PEER), b"check")
    route = heard.relays.route(Path("udp", RELAYED, PEER))
    assert route is not None
    route.send(memoryview(b"media"))
    await _until(lambda: len(listening.core.channel_data) == 2)
    heard.relays.close()
    await _until(lambda: listening.core.methods()[-1] is Method.REFRESH)
    assert listening.core.requests[-1].lifetime_s == 0
    assert heard.relays.route(Path("udp", RELAYED, PEER)) is None
    await _until(lambda: not listening.clients)


async def test_udp_that_nobody_answers_makes_way_for_tcp(
    listening: Any, heard: Heard, dead_port: int
) -> None:
    heard.relays.gather(
        [
            _server(f"turn:127.0.0.1:{listening.port}?transport=tcp"),
            _server(f"turn:127.0.0.1:{dead_port}"),
        ]
    )
    async with asyncio.timeout(25):
        await heard.found.get()
    assert heard.relays.reports == [f"turn 127.0.0.1:{listening.port} over TCP: allocated"]


async def test_every_way_that_fails_is_reported_without_its_credentials(
    listening: Any, heard: Heard
) -> None:
    udp, tls = f"turn:127.0.0.1:{listening.port}", f"turns:127.0.0.1:{listening.port}"
    heard.relays.gather([_server(tls, udp, credential="hush")])
    await _until(lambda: len(heard.relays.reports) == 2)
    assert heard.relays.reports == [
        "turn over TLS: no certificates: No such file or directory",
        f"turn 127.0.0.1:{listening.port} over UDP: "
        "refused with 401 (Unauthorized: credentials wrong or expired)",
    ]


async def test_a_peer_that_is_refused_fails_its_path_only(listening: Any, heard: Heard) -> None:
    listening.core.forbidden.add(PEER)
    heard.relays.gather([_server(f"turn:127.0.0.1:{listening.port}")])
    await heard.found.get()
    heard.relays.send(Path("udp", RELAYED, PEER), b"check")
    assert await heard.refused.get() == (
        Path("udp", RELAYED, PEER),
        "TURN: refused with 403 (Forbidden)",
    )
    assert heard.relays.base == RELAYED


async def test_nobody_is_sent_to_the_loopback_of_the_server(listening: Any, heard: Heard) -> None:
    heard.relays.gather([_server(f"turn:127.0.0.1:{listening.port}")])
    await heard.found.get()
    path = Path("udp", RELAYED, ("127.0.0.1", 8443))
    heard.relays.send(path, b"check")
    assert await heard.refused.get() == (path, "TURN: loopback is not behind a relay")
    assert Method.CHANNEL_BIND not in listening.core.methods()


async def test_a_server_that_hangs_up_takes_the_relay_and_the_next_search_finds_it_again(
    listening: Any, heard: Heard
) -> None:
    servers = [_server(f"turn:127.0.0.1:{listening.port}?transport=tcp")]
    heard.relays.gather(servers)
    await heard.found.get()
    for client in list(listening.clients):
        client.abort()
    base, reason = await heard.gone.get()
    assert base == RELAYED
    assert reason.startswith("TURN: ")
    heard.relays.gather(servers)
    assert (await heard.found.get()).address == RELAYED


async def test_closing_in_the_middle_of_a_search_leaves_nothing(
    listening: Any, heard: Heard
) -> None:
    listening.core.silent = True
    heard.relays.gather([_server(f"turn:127.0.0.1:{listening.port}?transport=tcp")])
    await _until(lambda: listening.core.requests)
    heard.relays.close()
    await _until(lambda: not listening.clients)
    assert heard.found.empty()
