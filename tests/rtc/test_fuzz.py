"""What strangers on the network may send: nothing raises, hangs or grows."""

from __future__ import annotations

import asyncio
import random
import struct
import time
from typing import Any

import pytest

from rtc import stun
from rtc.certificates import Certificate
from rtc.dtls import DtlsTransport, RemoteFingerprint
from rtc.ice.credentials import IceCredentials
from rtc.net.announced import Announced
from rtc.net.shared_port import SharedPort

_WORDS = [0, 1, 4, 8, 20, 255, 0x7FFF, 0x8000, 0xFFFF]


def mutate(dice: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.randrange(1, 4)):
        at = dice.randrange(len(changed) + 1)
        match dice.randrange(4):
            case 0:
                changed[at : at + 1] = bytes([dice.randrange(256)])
            case 1:
                changed[at : at + 2] = struct.pack("!H", dice.choice(_WORDS))
            case 2:
                del changed[at : at + dice.randrange(9)]
            case 3:
                changed[at:at] = changed[at : at + dice.randrange(40)]
    return bytes(changed)


@pytest.fixture
async def failures() -> Any:
    """Whatever escapes into the loop."""
    found: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))
    return found


async def test_stun_of_any_bytes_at_the_shared_port(failures: list[Any]) -> None:
    dice = random.Random(1)
    port = SharedPort()
    port.open([Announced("udp", "127.0.0.1", 0, "127.0.0.1")], udp_port=0, tcp_port=0)
    data: list[bytes] = []
    transport = port.create_transport(
        controlling=False,
        on_data=data.append,
        on_selected=lambda: None,
        on_lost=lambda reason: None,
    )
    transport.start(IceCredentials("remote-ufrag-0123", "p" * 22))
    own = transport.credentials
    [shared] = port._sockets.values()
    began = time.process_time()
    # Of those whose address has been proved theirs: media, for all that the port can tell (RFC 7983, 7).
    no_stun: list[bytes] = []
    for number in range(6000):
        whole = stun.binding_request(
            number.to_bytes(12, "big"),
            username=f"{own.ufrag}:remote-ufrag-0123".encode(),
            key=dice.choice([own.password, "guess"]).encode(),
            priority=dice.randrange(1 << 32),
            tie_breaker=dice.randbytes(8),
            controlling=dice.random() < 0.5,
            use_candidate=dice.random() < 0.5,
        )
        source = f"127.0.{dice.randrange(4)}.{dice.randrange(256)}", dice.choice([0, 1, 9, 65535])
        datagram = mutate(dice, whole) if number % 8 else whole
        if datagram[0] > 3 and source in shared.by_source:
            no_stun.append(datagram)
        shared.udp._on_datagram(datagram, source)
    assert time.process_time() - began < 25
    assert not failures
    assert len(transport.pairs()) <= 200
    assert len(shared.by_source) <= 400
    assert len(port._asked) <= 8192
    assert len(port._flows) == 0
    assert data == no_stun
    transport.close()
    assert not shared.by_source
    port.close()


async def test_handshakes_of_any_bytes(failures: list[Any]) -> None:
    """Real flights, spoiled: it ends in a connection or in a reason, and never in an exception."""
    dice = random.Random(4)
    certificate = Certificate()
    ends = []
    for _ in range(120):
        outcome: list[str] = []
        pair: list[DtlsTransport] = []
        budget = [60]

        def send(
            datagram: bytes,
            to: int,
            pair: list[DtlsTransport] = pair,
            budget: list[int] = budget,
        ) -> None:
            budget[0] -= 1
            if budget[0] < 0:
                return
            spoiled = mutate(dice, datagram) if dice.random() < 0.4 else datagram
            asyncio.get_running_loop().call_soon(pair[to].receive, spoiled)

        pair += [
            DtlsTransport(
                certificate,
                send=lambda datagram, to=to, send=send: send(datagram, to),
                on_connected=lambda outcome=outcome: outcome.append("connected"),
                on_failed=outcome.append,
                on_application_data=lambda data: None,
                on_closed=lambda outcome=outcome: outcome.append("closed"),
            )
            for to in (1, 0)
        ]
        remote = RemoteFingerprint("sha-256", certificate.fingerprint)
        pair[1].start(role="server", remote=remote)
        pair[0].start(role="client", remote=remote)
        ends.append((pair, outcome))
    async with asyncio.timeout(20):
        for wanted in ("connected", "failed"):
            while not any(wanted in one for _, outcome in ends for one in outcome):
                await asyncio.sleep(0.01)
    for pair, outcome in ends:
        for end in pair:
            end.close()
        assert len(outcome) <= 4
    assert not failures
