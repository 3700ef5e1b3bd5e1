"""An SCTP association without any I/O (RFC 9260), as data channels use it (RFC 8831).

Packets and the time in, packets and events out; no task, no timer, no socket. After each call `take_events`,
then `take_outgoing`, then `due_ns`, which says when `tick` is wanted; an association on which nothing is
outstanding wants none. What is to be sent is put together in `take_outgoing` only, so that a SACK travels
with the answer to what it acknowledges.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final

from rtc.sctp.chunks import (
    CHUNK_HEADER_BYTES,
    DATA_HEADER_BYTES,
    Cause,
    ChunkType,
    chunk,
    first_cause,
    parameter,
    parse_forward_tsn,
    parse_sack,
    read_chunk_header,
    read_data,
    read_parameters,
)
from rtc.sctp.errors import ProtocolViolation
from rtc.sctp.events import Ended, SctpEvent, StreamsFree, StreamsReset
from rtc.sctp.handshake import Handshake
from rtc.sctp.packet import HEADER_BYTES, build_packet, bundle, is_for
from rtc.sctp.receiver import Receiver
from rtc.sctp.reset import StreamReset
from rtc.sctp.rto import RetransmissionTimeout
from rtc.sctp.sender import Sender
from rtc.sctp.timings import FAR_FUTURE_NS, MAX_PACKET_BYTES

_ONCE_A_PACKET: Final = (ChunkType.SACK, ChunkType.FORWARD_TSN)
"""Their work grows with what is held or outstanding; nobody has reason to send two together."""
_MAX_REPORT_BYTES: Final = 512
_MAX_ECHO_BYTES: Final = MAX_PACKET_BYTES - HEADER_BYTES - CHUNK_HEADER_BYTES


class Association:
    """One side. Both may `connect` at once, or only one of them."""

    __slots__ = (
        "_control",
        "_ended",
        "_events",
        "_handshake",
        "_inbound",
        "_local_port",
        "_out",
        "_remote_port",
        "_reset",
        "_rto",
        "_sender",
        "refused_packets",
    )

    def __init__(
        self,
        *,
        local_port: int,
        remote_port: int,
        tag: int | None = None,
        initial_tsn: int | None = None,
    ) -> None:
        """`tag` (not zero) and `initial_tsn` are random by default, as they should be."""
        self._local_port = local_port
        self._remote_port = remote_port
        tsn = secrets.randbits(32) if initial_tsn is None else initial_tsn
        self._rto = RetransmissionTimeout()
        self._handshake = Handshake(tag or 1 + secrets.randbelow(0xFFFF_FFFF), tsn)
        self._sender = Sender(tsn, self._rto)
        self._inbound: Receiver | None = None
        self._reset: StreamReset | None = None
        self._events: list[SctpEvent] = []
        self._control: list[bytes] = []
        self._out: list[bytes] = []
        self._ended = False
        self.refused_packets = 0
        """Not for this association, damaged, forged, or broken inside."""

    @property
    def refused_chunks(self) -> int:
        """Of data: beyond what we offered to take, or not fitting what came before."""
        return 0 if self._inbound is None else self._inbound.refused_chunks

    @property
    def established(self) -> bool:
        return self._inbound is not None and not self._ended

    @property
    def ended(self) -> bool:
        return self._ended

    @property
    def buffered_bytes(self) -> int:
        """Queued and not yet acknowledged."""
        return self._sender.buffered_bytes

    @property
    def due_ns(self) -> int:
        """When `tick` wants to be called, monotonic ns."""
        if self._ended:
            return FAR_FUTURE_NS
        if self._inbound is None:
            return self._handshake.due_ns
        reset_ns = FAR_FUTURE_NS if self._reset is None else self._reset.due_ns
        return min(self._inbound.sack_due_ns, self._sender.t3_ns, reset_ns)

    def connect(self, now_ns: int) -> None:
        """Send INIT, unless that was done or there is no need."""
        if not self._ended and not self._handshake.done and not self._handshake.waiting:
            init = self._handshake.start(now_ns)
            self._out.append(self._packet(0, init, checksum=True))

    def send(self, stream: int, protocol: int, payload: bytes, *, unordered: bool = False) -> bool:
        """Queue a message of at least one byte, also before the association is established.

        False when it is over, the message larger than MAX_MESSAGE_BYTES or the send buffer full.
        """
        return not self._ended and self._sender.queue(
            stream, protocol, payload, unordered=unordered
        )

    def reset_stream(self, stream: int) -> None:
        """Close our direction, once everything queued on it was sent. Established associations only."""
        reset = self._resetting()
        if reset is not None and not self._ended:
            reset.want(stream)

    def abort(self, reason: str = "") -> None:
        """End it, and tell the other side."""
        if not self._ended:
            self._abort(Cause.USER_INITIATED, reason)
            self._end(Ended("aborted by us"))

    def receive(self, packet: bytes, now_ns: int) -> None:
        """Take a packet. Whatever it is, it raises nothing."""
        if self._ended:
            return
        handshake = self._handshake
        peer_tag = 0 if handshake.peer is None else handshake.peer.tag
        if not is_for(packet, self._remote_port, self._local_port, handshake.tag, peer_tag):
            self.refused_packets += 1
            return
        try:
            self._read_chunks(packet, now_ns)
        except ProtocolViolation as violation:
            self._abort(Cause.PROTOCOL_VIOLATION, str(violation))
            self._end(Ended(str(violation), failed=True))

    def tick(self, now_ns: int) -> int:
        """Do what is due; returns when something is due next."""
        if self._ended:
            return FAR_FUTURE_NS
        repeated = self._handshake.expire(now_ns)
        if repeated is not None:
            if self._handshake.sends_init:
                self._out.append(self._packet(0, repeated, checksum=True))
            else:
                self._control.append(repeated)
        self._sender.expire(now_ns)
        if self._reset is not None:
            again = self._reset.expire(now_ns)
            if again is not None:
                self._control.append(again)
            self._note_resets(self._reset)
        return self.due_ns

    def take_events(self) -> Sequence[SctpEvent]:
        """What happened since the last call, in order."""
        events = self._events
        if not events:
            return ()
        self._events = []
        return events

    def take_outgoing(self, now_ns: int) -> Sequence[bytes]:
        """Packets to send now, in order; each is handed out once."""
        chunks, self._control = self._control, []
        if self._inbound is not None and not self._ended:
            reset = self._reset
            if reset is not None and reset.pending and not self._sender.has_queued(reset.pending):
                chunks.append(reset.ask(self._sender.last_tsn, now_ns))
            data = self._sender.transmit(now_ns)
            sack = self._inbound.sack(now_ns, in_company=bool(data or chunks))
            if sack is not None:
                chunks.append(sack)
            chunks += data
        packets, self._out = self._out, []
        peer = self._handshake.peer
        if chunks and peer is not None:
            checksum = not (self._handshake.done and peer.zero_checksum)
            packets += [self._packet(peer.tag, body, checksum=checksum) for body in bundle(chunks)]
        return packets

    # chunks

    def _read_chunks(self, packet: bytes, now_ns: int) -> None:
        position, size = HEADER_BYTES, len(packet)
        with_data = reported = False
        once: list[int] = []
        while position + CHUNK_HEADER_BYTES <= size and not self._ended:
            kind, flags, length = read_chunk_header(packet, position)
            if length < CHUNK_HEADER_BYTES or position + length > size:
                self.refused_packets += 1
                break
            if kind == ChunkType.DATA:
                if length <= DATA_HEADER_BYTES:
                    raise ProtocolViolation("a DATA chunk without data")
                if self._inbound is not None:
                    with_data = True
                    self._data(self._inbound, packet, position, length, flags)
            else:
                if kind == ChunkType.INIT and position != HEADER_BYTES:
                    break  # it comes alone (RFC 9260 section 3)
                value = packet[position + CHUNK_HEADER_BYTES : position + length]
                known = kind in once or self._control_chunk(kind, value, now_ns)
                if kind in _ONCE_A_PACKET:
                    once.append(kind)
                if not known and kind & 0x40 and not reported:
                    # The two highest bits say what to do with the unknown (RFC 9260 section 3.2).
                    reported = True
                    unknown = packet[position : position + length][:_MAX_REPORT_BYTES]
                    cause = parameter(Cause.UNRECOGNIZED_CHUNK, unknown)
                    self._control.append(chunk(ChunkType.ERROR, cause))
                if kind == ChunkType.INIT or (not known and not kind & 0x80):
                    break
            position += length + (-length & 3)
        if with_data and self._inbound is not None and not self._ended:
            self._inbound.packet_ended(now_ns)
            self._progressed(self._inbound)

    def _data(
        self, inbound: Receiver, packet: bytes, position: int, length: int, flags: int
    ) -> None:
        tsn, stream, sequence, protocol = read_data(packet, position + CHUNK_HEADER_BYTES)
        payload = packet[position + DATA_HEADER_BYTES : position + length]
        inbound.take(tsn, flags, stream, sequence, protocol, payload, self._events)

    def _control_chunk(self, kind: int, value: bytes, now_ns: int) -> bool:
        """False for a type that is not known."""
        match kind:
            case ChunkType.SACK:
                sack = parse_sack(value)
                if sack is not None and self._inbound is not None:
                    self._sender.sacked(*sack, now_ns)
            case ChunkType.HEARTBEAT:
                self._control.append(chunk(ChunkType.HEARTBEAT_ACK, value[:_MAX_ECHO_BYTES]))
            case ChunkType.FORWARD_TSN:
                self._forward(value)
            case ChunkType.RE_CONFIG:
                reset = self._resetting()
                if self._inbound is not None and reset is not None:
                    answer = reset.received(value, self._inbound.cumulative, now_ns)
                    if answer is not None:
                        self._control.append(answer)
                    self._note_resets(reset)
            case ChunkType.ABORT:
                self._end(Ended(f"aborted by the other side{first_cause(value)}"))
            case ChunkType.SHUTDOWN:
                self._control.append(chunk(ChunkType.SHUTDOWN_ACK))
                self._end(Ended("shut down by the other side"))
            case ChunkType.HEARTBEAT_ACK | ChunkType.SHUTDOWN_ACK | ChunkType.SHUTDOWN_COMPLETE:
                pass  # we ask for none of these
            case _:
                return self._handshake_chunk(kind, value, now_ns)
        return True

    def _handshake_chunk(self, kind: int, value: bytes, now_ns: int) -> bool:
        handshake = self._handshake
        match kind:
            case ChunkType.INIT:
                self._answer(handshake.init_received(value, now_ns))
            case ChunkType.INIT_ACK:
                echo = handshake.init_ack_received(value, now_ns)
                if echo is not None:
                    self._control.append(echo)
            case ChunkType.COOKIE_ECHO:
                self._answer(handshake.cookie_received(value, now_ns))
                self._establish()
            case ChunkType.COOKIE_ACK:
                handshake.cookie_acknowledged()
                self._establish()
            case ChunkType.ERROR:
                if any(cause == Cause.STALE_COOKIE for cause, _ in read_parameters(value)):
                    init = handshake.cookie_stale(now_ns)
                    if init is not None:
                        self._out.append(self._packet(0, init, checksum=True))
            case _:
                return False
        return True

    def _answer(self, answer: tuple[int, bytes] | None) -> None:
        """A chunk of the handshake, alone in a packet with the tag that it is for."""
        if answer is not None:
            tag, body = answer
            self._out.append(self._packet(tag, body, checksum=True))

    def _establish(self) -> None:
        peer = self._handshake.peer
        if self._handshake.done and self._inbound is None and peer is not None:
            self._inbound = Receiver(peer.tsn)
            self._sender.peer_window(peer.window_bytes)

    def _forward(self, value: bytes) -> None:
        forward = parse_forward_tsn(value)
        if forward is not None and self._inbound is not None:
            self._inbound.skip(*forward, self._events)
            self._progressed(self._inbound)

    def _progressed(self, inbound: Receiver) -> None:
        """The cumulative TSN may have moved."""
        if self._reset is not None:
            answer = self._reset.progressed(inbound.cumulative)
            if answer is not None:
                self._control.append(answer)
                self._note_resets(self._reset)

    def _resetting(self) -> StreamReset | None:
        """Made when it is needed first: few associations ever reset a stream."""
        peer = self._handshake.peer
        if self._reset is None and self._inbound is not None and peer is not None:
            self._reset = StreamReset(self._handshake.tsn, peer.tsn, self._rto)
        return self._reset

    def _note_resets(self, reset: StreamReset) -> None:
        for streams in reset.incoming:
            if self._inbound is not None:
                self._inbound.reassembly.reset(streams)
            self._events.append(StreamsReset(tuple(streams)))
        for free in reset.outgoing:
            self._sender.reset(free)
            self._events.append(StreamsFree(tuple(free)))
        reset.incoming, reset.outgoing = [], []

    def _packet(self, tag: int, body: bytes, *, checksum: bool) -> bytes:
        return build_packet(self._local_port, self._remote_port, tag, body, checksum=checksum)

    def _abort(self, cause: Cause, reason: str) -> None:
        self._control = [chunk(ChunkType.ABORT, parameter(cause, reason.encode()))]

    def _end(self, ended: Ended) -> None:
        self._ended = True
        self._events.append(ended)
