"""Two associations and a link between them that has its own time, loses, doubles and delays packets."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from struct import pack
from typing import Any

import pytest

from rtc.sctp.association import Association
from rtc.sctp.chunks import CHUNK_HEADER_BYTES, ChunkType, read_chunk_header
from rtc.sctp.events import Ended, Message
from rtc.sctp.packet import HEADER_BYTES, build_packet
from rtc.sctp.timings import FAR_FUTURE_NS

MS = 1_000_000
S = 1000 * MS
START_NS = 5000 * S


class End:
    """An association and what came of it."""

    def __init__(self, name: str, tsn: int | None) -> None:
        self.name = name
        self.association = Association(local_port=5000, remote_port=5000, initial_tsn=tsn)
        self.events: list[Any] = []
        self.sent: list[tuple[int, bytes]] = []

    @property
    def messages(self) -> list[bytes]:
        return [event.payload for event in self.events if isinstance(event, Message)]

    @property
    def ended(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, Ended)]

    def chunks_sent(self) -> list[list[str]]:
        """Names of the chunks of each packet."""
        return [[name for name, _, _ in chunks_of(packet)] for _, packet in self.sent]


class Link:
    """Each packet takes `latency_ns` and up to `jitter_ns`; `lose(packet)` says which do not arrive."""

    def __init__(
        self,
        *,
        seed: int = 1,
        loss: float = 0.0,
        doubled: float = 0.0,
        jitter_ns: int = 0,
        latency_ns: int = 10 * MS,
        tsns: tuple[int | None, int | None] = (None, None),
    ) -> None:
        self.dice = random.Random(seed)
        self.loss, self.doubled = loss, doubled
        self.latency_ns, self.jitter_ns = latency_ns, jitter_ns
        self.lose: Callable[[bytes], bool] = lambda packet: False
        self.now_ns = START_NS
        self.a, self.b = End("a", tsns[0]), End("b", tsns[1])
        self._queue: list[tuple[int, int, End, bytes]] = []
        self._count = 0

    @property
    def due_ns(self) -> int:
        """When anything happens next."""
        arrival_ns = self._queue[0][0] if self._queue else FAR_FUTURE_NS
        return min(arrival_ns, self.a.association.due_ns, self.b.association.due_ns)

    def connect(self) -> Link:
        """Both begin at once, as WebRTC has it, until all is quiet."""
        self.a.association.connect(self.now_ns)
        self.b.association.connect(self.now_ns)
        self.run()
        assert self.a.association.established
        assert self.b.association.established
        self.a.sent.clear()
        self.b.sent.clear()
        return self

    def run(self, *, for_s: float = 600.0) -> None:
        """Until nothing is due any more, or the time is over."""
        end_ns = self.now_ns + int(for_s * S)
        self.flush()
        while (due_ns := self.due_ns) <= end_ns:
            self.now_ns = max(self.now_ns, due_ns)
            while self._queue and self._queue[0][0] <= self.now_ns:
                _, _, end, packet = heapq.heappop(self._queue)
                end.association.receive(packet, self.now_ns)
                self.flush()
            for end in (self.a, self.b):
                end.association.tick(self.now_ns)
            self.flush()
        if self.due_ns < FAR_FUTURE_NS:
            self.now_ns = end_ns

    def flush(self) -> None:
        for end, other in ((self.a, self.b), (self.b, self.a)):
            end.events += end.association.take_events()
            for packet in end.association.take_outgoing(self.now_ns):
                end.sent.append((self.now_ns, packet))
                self.carry(packet, other)

    def carry(self, packet: bytes, to: End) -> None:
        if self.dice.random() < self.loss or self.lose(packet):
            return
        for _ in range(2 if self.dice.random() < self.doubled else 1):
            self._count += 1
            delay_ns = self.latency_ns + self.dice.randrange(self.jitter_ns + 1)
            heapq.heappush(self._queue, (self.now_ns + delay_ns, self._count, to, packet))

    def forge(self, to: End, *chunks: bytes, tag: int | None = None) -> None:
        """Hand `to` a packet with these chunks at once; by default with the right tag."""
        own = to.association._handshake.tag if tag is None else tag
        packet = build_packet(5000, 5000, own, b"".join(chunks))
        to.association.receive(packet, self.now_ns)
        self.flush()


def chunks_of(packet: bytes) -> list[tuple[str, int, bytes]]:
    """`(name, flags, value)` of each chunk."""
    chunks = []
    position = HEADER_BYTES
    while position < len(packet):
        kind, flags, length = read_chunk_header(packet, position)
        value = packet[position + CHUNK_HEADER_BYTES : position + length]
        chunks.append((ChunkType(kind).name, flags, value))
        position += length + (-length & 3)
    return chunks


def raw_data(
    tsn: int,
    payload: bytes = b"x",
    *,
    flags: int = 3,
    stream: int = 0,
    sequence: int = 0,
    protocol: int = 53,
) -> bytes:
    """A DATA chunk, written by hand."""
    head = pack(
        "!BBHIHHI", 0, flags, 16 + len(payload), tsn % (1 << 32), stream, sequence, protocol
    )
    return head + payload + bytes(-len(payload) & 3)


@pytest.fixture
def make_link() -> Callable[..., Link]:
    return Link


@pytest.fixture
def link() -> Link:
    """Two sides that are connected, on a good link."""
    return Link().connect()


@pytest.fixture
def chunks() -> Callable[[bytes], list[tuple[str, int, bytes]]]:
    return chunks_of


@pytest.fixture
def data() -> Callable[..., bytes]:
    return raw_data
