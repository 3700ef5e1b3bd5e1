"""Resetting streams, which is how data channels are closed (RFC 6525; RFC 8831 section 6.7)."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final

from rtc.sctp.chunks import ChunkType, chunk, parameter, read_parameters
from rtc.sctp.rto import RetransmissionTimeout
from rtc.sctp.serial import MASK_32, unwrap_32
from rtc.sctp.timings import FAR_FUTURE_NS, MAX_STREAMS

_OUTGOING_REQUEST: Final = 13
_OTHER_REQUESTS: Final = frozenset({14, 15, 17, 18})
"""Incoming reset, association reset, more streams: WebRTC needs none of them, all are denied."""
_RESPONSE: Final = 16
_REQUEST_FIELDS: Final = Struct("!III")
_RESPONSE_FIELDS: Final = Struct("!II")
_WORD: Final = Struct("!I")
_STREAMS_PER_REQUEST: Final = 256
_MAX_TRANSMISSIONS: Final = 10


class Result(IntEnum):
    """RFC 6525 section 4.4."""

    NOTHING_TO_DO = 0
    PERFORMED = 1
    DENIED = 2
    BAD_SEQUENCE = 5
    IN_PROGRESS = 6


class StreamReset:
    """One request of ours at a time, and answers to those of the other side.

    `incoming` and `outgoing` collect the streams that were reset: those the other side will start again at
    sequence number 0, and those that we may. All streams of the other side are an empty list.
    """

    __slots__ = (
        "_answers",
        "_deferred",
        "_next_expected",
        "_next_request",
        "_pending",
        "_request",
        "_request_streams",
        "_rto",
        "_transmissions",
        "due_ns",
        "incoming",
        "outgoing",
    )

    def __init__(self, local_tsn: int, remote_tsn: int, rto: RetransmissionTimeout) -> None:
        self._next_request = local_tsn
        self._next_expected = remote_tsn
        self._rto = rto
        self._answers: tuple[int, Result] | None = None
        self._deferred: tuple[int, int, list[int]] | None = None
        self._pending: set[int] = set()
        self._request = b""
        self._request_streams: set[int] = set()
        self._transmissions = 0
        self.due_ns = FAR_FUTURE_NS
        self.incoming: list[list[int]] = []
        self.outgoing: list[set[int]] = []

    @property
    def pending(self) -> set[int]:
        """Streams of ours that wait for a request; the oldest request is answered first."""
        return set() if self._request else self._pending

    def want(self, stream: int) -> None:
        """Reset our direction of a stream, as soon as everything queued on it was sent."""
        if stream not in self._request_streams:
            self._pending.add(stream)

    def ask(self, last_tsn: int, now_ns: int) -> bytes:
        """The request for what is pending; nothing of these streams may still be queued."""
        streams = sorted(self._pending)[:_STREAMS_PER_REQUEST]
        self._request_streams = set(streams)
        self._pending -= self._request_streams
        fields = _REQUEST_FIELDS.pack(
            self._next_request & MASK_32, (self._next_expected - 1) & MASK_32, last_tsn & MASK_32
        )
        numbers = b"".join(stream.to_bytes(2) for stream in streams)
        self._request = chunk(ChunkType.RE_CONFIG, parameter(_OUTGOING_REQUEST, fields + numbers))
        self._transmissions = 1
        self.due_ns = now_ns + self._rto.ns
        return self._request

    def expire(self, now_ns: int) -> bytes | None:
        """The request again, if its answer is overdue; after too many it counts as granted."""
        if now_ns < self.due_ns:
            return None
        if self._transmissions >= _MAX_TRANSMISSIONS:
            self._granted()
            return None
        self._transmissions += 1
        self._rto.back_off()
        self.due_ns = now_ns + self._rto.ns
        return self._request

    def received(self, value: bytes, cumulative: int, now_ns: int) -> bytes | None:
        """Read a RE-CONFIG chunk; returns the chunk that answers it, if it asks for anything.

        `cumulative`: everything up to this TSN of the other side came.
        """
        answers = []
        for kind, content in list(read_parameters(value))[:2]:
            if kind == _RESPONSE:
                self._answered(content, now_ns)
            elif kind == _OUTGOING_REQUEST and len(content) >= _REQUEST_FIELDS.size:
                answers.append(self._requested(content, cumulative))
            elif kind in _OTHER_REQUESTS and len(content) >= 4:
                (number,) = _WORD.unpack_from(content)
                answers.append(self._answer(number, self._judge(number, Result.DENIED)))
        return chunk(ChunkType.RE_CONFIG, b"".join(answers)) if answers else None

    def progressed(self, cumulative: int) -> bytes | None:
        """More came in: a request that waited for data may be performed now, which is the answer to it."""
        if self._deferred is None or cumulative < self._deferred[1]:
            return None
        number, _, streams = self._deferred
        self._deferred = None
        self.incoming.append(streams)
        self._answers = (number, Result.PERFORMED)
        return chunk(ChunkType.RE_CONFIG, self._answer(number, Result.PERFORMED))

    def _requested(self, content: bytes, cumulative: int) -> bytes:
        number, _, last_tsn_wire = _REQUEST_FIELDS.unpack_from(content)
        last_tsn = unwrap_32(last_tsn_wire, cumulative)
        repeated = self._answers is not None and self._answers[0] == number
        verdict = self._judge(number, Result.PERFORMED)
        if verdict is Result.PERFORMED and not repeated:
            numbers = content[_REQUEST_FIELDS.size :]
            streams = [int.from_bytes(numbers[at : at + 2]) for at in range(0, len(numbers) - 1, 2)]
            streams = [stream for stream in streams if stream < MAX_STREAMS]
            if len(numbers) >= 2 and not streams:
                verdict = Result.NOTHING_TO_DO
            elif cumulative < last_tsn:
                self._deferred = (number, last_tsn, streams)
                verdict = Result.IN_PROGRESS
            else:
                self.incoming.append(streams)
            self._answers = (number, verdict)
        return self._answer(number, verdict)

    def _judge(self, number: int, verdict: Result) -> Result:
        """The verdict on a new request; that on an old one stays what it was."""
        if self._answers is not None and self._answers[0] == number:
            return self._answers[1]
        if number != self._next_expected & MASK_32:
            return Result.BAD_SEQUENCE
        self._next_expected += 1
        self._answers = (number, verdict)
        return verdict

    def _answered(self, content: bytes, now_ns: int) -> None:
        if len(content) < _RESPONSE_FIELDS.size or not self._request:
            return
        number, result = _RESPONSE_FIELDS.unpack_from(content)
        if number != self._next_request & MASK_32:
            return
        if result == Result.IN_PROGRESS:
            self._transmissions = 1
            self.due_ns = now_ns + self._rto.ns
        else:
            # Also when it was refused: the channel is closed on our side, and asking again helps nobody.
            self._granted()

    def _granted(self) -> None:
        self.outgoing.append(self._request_streams)
        self._request, self._request_streams = b"", set()
        self._next_request += 1
        self.due_ns = FAR_FUTURE_NS

    @staticmethod
    def _answer(number: int, result: Result) -> bytes:
        return parameter(_RESPONSE, _RESPONSE_FIELDS.pack(number, result))
