"""The four-way handshake from both sides, also when both begin at once (RFC 9260 sections 5.1 and 5.2).

Our tag and our first TSN stay the same for the life of the association, so every INIT gets the same answer,
and nothing is kept of an INIT but what its cookie says. An association that was established once is not
started anew: in WebRTC a new one comes with a new DTLS connection.
"""

from __future__ import annotations

import hmac
import secrets
from struct import Struct
from typing import Final

from rtc.sctp.chunks import Cause, ChunkType, Init, chunk, init_chunk, parameter, parse_init
from rtc.sctp.timings import (
    COOKIE_LIFETIME_NS,
    FAR_FUTURE_NS,
    INITIAL_RTO_NS,
    MAX_INIT_TRANSMISSIONS,
    MAX_RTO_NS,
    MAX_STREAMS,
    RECEIVE_WINDOW_BYTES,
)

_COOKIE: Final = Struct("!QIIHHI?")
_MAC_BYTES: Final = 16
_MAX_COOKIE_BYTES: Final = 1024
"""Of the other side: it goes into one packet."""


class Handshake:
    """Finds out the other side's parameters; `peer` is set and `done` true in the end.

    `start` and what `received` returns are chunks to send. T1 runs until `due_ns`.
    """

    __slots__ = (
        "_key",
        "_sent",
        "_transmissions",
        "_waiting_for",
        "_waiting_ns",
        "done",
        "due_ns",
        "peer",
        "tag",
        "tsn",
    )

    def __init__(self, tag: int, tsn: int) -> None:
        self.tag = tag
        """Ours: what the other side puts into its packets."""
        self.tsn = tsn
        """Our first one."""
        self._key = secrets.token_bytes(16)
        self.peer: Init | None = None
        """Known since its INIT ACK or COOKIE ECHO."""
        self.done = False
        self._sent = b""
        self._waiting_for: ChunkType | None = None
        self._waiting_ns = INITIAL_RTO_NS
        self._transmissions = 0
        self.due_ns = FAR_FUTURE_NS

    @property
    def waiting(self) -> bool:
        """T1 runs."""
        return self._waiting_for is not None

    @property
    def sends_init(self) -> bool:
        """What T1 repeats is INIT, which goes with a verification tag of zero."""
        return self._waiting_for is ChunkType.INIT_ACK

    def start(self, now_ns: int) -> bytes:
        """Our INIT."""
        self.peer = None
        init = init_chunk(ChunkType.INIT, self._described())
        return self._repeat(init, ChunkType.INIT_ACK, now_ns)

    def expire(self, now_ns: int) -> bytes | None:
        """The chunk to send again when T1 has run out. In the end it stops asking, but still answers."""
        if now_ns < self.due_ns:
            return None
        if self._transmissions >= MAX_INIT_TRANSMISSIONS:
            self._stop()
            return None
        self._transmissions += 1
        self._waiting_ns = min(2 * self._waiting_ns, MAX_RTO_NS)
        self.due_ns = now_ns + self._waiting_ns
        return self._sent

    def init_received(self, value: bytes, now_ns: int) -> tuple[int, bytes] | None:
        """The other side's INIT; returns its tag and our INIT ACK."""
        init = parse_init(value)
        if init is None or (self.done and self.peer is not None and self.peer.tag != init.tag):
            return None
        answer = self._described(cookie=self._bake(init, now_ns), unrecognized=init.unrecognized)
        return init.tag, init_chunk(ChunkType.INIT_ACK, answer)

    def init_ack_received(self, value: bytes, now_ns: int) -> bytes | None:
        """The answer to our INIT; returns COOKIE ECHO."""
        init = parse_init(value)
        if self._waiting_for is not ChunkType.INIT_ACK or init is None:
            return None
        if not 0 < len(init.cookie) <= _MAX_COOKIE_BYTES:
            return None
        self.peer = init
        echo = chunk(ChunkType.COOKIE_ECHO, init.cookie)
        return self._repeat(echo, ChunkType.COOKIE_ACK, now_ns)

    def cookie_received(self, cookie: bytes, now_ns: int) -> tuple[int, bytes] | None:
        """Our cookie came back; returns the other side's tag, and COOKIE ACK or ERROR for one too old."""
        mac, body = cookie[:_MAC_BYTES], cookie[_MAC_BYTES:]
        if len(body) != _COOKIE.size or not hmac.compare_digest(mac, self._mac(body)):
            return None
        baked_ns, tag, window_bytes, outbound, inbound, tsn, zero = _COOKIE.unpack(body)
        if self.done:
            # A copy of what was answered, or of an INIT that led nowhere.
            known = self.peer is not None and self.peer.tag == tag
            return (tag, chunk(ChunkType.COOKIE_ACK)) if known else None
        if now_ns - baked_ns > COOKIE_LIFETIME_NS:
            late_us = min((now_ns - baked_ns - COOKIE_LIFETIME_NS) // 1000, 0xFFFF_FFFF)
            return tag, chunk(ChunkType.ERROR, parameter(Cause.STALE_COOKIE, late_us.to_bytes(4)))
        self.peer = Init(tag, window_bytes, outbound, inbound, tsn, zero_checksum=zero)
        self._finish()
        return tag, chunk(ChunkType.COOKIE_ACK)

    def cookie_acknowledged(self) -> None:
        if self._waiting_for is ChunkType.COOKIE_ACK:
            self._finish()

    def cookie_stale(self, now_ns: int) -> bytes | None:
        """The other side found its own cookie too old: returns an INIT to begin again."""
        return self.start(now_ns) if self._waiting_for is ChunkType.COOKIE_ACK else None

    def _finish(self) -> None:
        self.done = True
        self._stop()

    def _stop(self) -> None:
        self._sent, self._waiting_for = b"", None
        self.due_ns = FAR_FUTURE_NS

    def _repeat(self, sent: bytes, waiting_for: ChunkType, now_ns: int) -> bytes:
        self._sent, self._waiting_for = sent, waiting_for
        self._transmissions = 1
        self._waiting_ns = INITIAL_RTO_NS
        self.due_ns = now_ns + self._waiting_ns
        return sent

    def _described(self, cookie: bytes = b"", unrecognized: bytes = b"") -> Init:
        return Init(
            tag=self.tag,
            window_bytes=RECEIVE_WINDOW_BYTES,
            outbound_streams=MAX_STREAMS,
            inbound_streams=MAX_STREAMS,
            tsn=self.tsn,
            cookie=cookie,
            unrecognized=unrecognized,
        )

    def _bake(self, init: Init, now_ns: int) -> bytes:
        body = _COOKIE.pack(
            now_ns,
            init.tag,
            init.window_bytes,
            init.outbound_streams,
            init.inbound_streams,
            init.tsn,
            init.zero_checksum,
        )
        return self._mac(body) + body

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")[:_MAC_BYTES]
