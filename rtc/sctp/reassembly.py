"""Makes messages of DATA chunks, handed over in the order of their streams (RFC 9260 section 6.5, 6.6)."""

from __future__ import annotations

from bisect import bisect_right

from rtc.sctp.chunks import BEGIN, END, UNORDERED
from rtc.sctp.errors import ProtocolViolation
from rtc.sctp.events import Message, SctpEvent
from rtc.sctp.serial import MASK_16
from rtc.sctp.timings import HELD_ITEM_BYTES, MAX_MESSAGE_BYTES, MAX_STREAMS

_HALF_16 = 1 << 15


class _Run:
    """Fragments of one message that lie side by side."""

    __slots__ = ("begins", "ends", "first", "last", "size")

    def __init__(self, tsn: int, flags: int, size: int) -> None:
        self.first = self.last = tsn
        self.begins = bool(flags & BEGIN)
        self.ends = bool(flags & END)
        self.size = size


_Fragment = tuple[int, int, int, int, bytes]
"""`(flags, stream, sequence, protocol, payload)`."""


class Reassembly:
    """Every TSN must be added once at most; TSNs are integers that do not wrap."""

    __slots__ = (
        "_expected",
        "_fragments",
        "_runs_by_first",
        "_runs_by_last",
        "_waiting",
        "buffered",
    )

    def __init__(self) -> None:
        self.buffered = 0
        """Bytes that wait, each item with its overhead."""
        self._fragments: dict[int, _Fragment] = {}
        self._runs_by_first: dict[int, _Run] = {}
        self._runs_by_last: dict[int, _Run] = {}
        self._expected: dict[int, int] = {}
        self._waiting: dict[int, dict[int, Message]] = {}

    def add(
        self,
        tsn: int,
        flags: int,
        stream: int,
        sequence: int,
        protocol: int,
        payload: bytes,
        out: list[SctpEvent],
    ) -> None:
        """Take a chunk's payload; complete messages whose turn it is are appended to `out`.

        Raises:
            ProtocolViolation: a message over the limit, or fragments that do not belong together.
        """
        if flags & (BEGIN | END) == BEGIN | END:
            self._complete(flags, sequence, Message(stream, protocol, payload), out)
            return
        self._fragments[tsn] = (flags, stream, sequence, protocol, payload)
        self.buffered += len(payload) + HELD_ITEM_BYTES
        run = self._joined(_Run(tsn, flags, len(payload)))
        if run.size > MAX_MESSAGE_BYTES:
            raise ProtocolViolation(f"a message is longer than {MAX_MESSAGE_BYTES} bytes")
        if run.begins and run.ends:
            self._assemble(run, out)

    def skip(self, cumulative: int, skipped: list[tuple[int, int]], out: list[SctpEvent]) -> None:
        """The sender gave up what is missing up to `cumulative` (RFC 3758 section 3.6).

        `skipped`: streams and their last sequence numbers given up; what waited for these has its turn now.
        """
        for run in list(self._runs_by_first.values()):
            # A message that has all its fragments so far may still go on behind the skipped ones.
            if run.first <= cumulative and not (run.begins and run.last >= cumulative):
                self._forget(run)
        for stream, sequence in dict(skipped).items():
            expected = self._expected.get(stream, 0)
            if stream >= MAX_STREAMS or (sequence - expected) & MASK_16 >= _HALF_16:
                continue
            self._expected[stream] = (sequence + 1) & MASK_16
            waiting = self._waiting.get(stream)
            if waiting is not None:
                distance = (sequence - expected) & MASK_16
                ahead = sorted((number - expected) & MASK_16 for number in waiting)
                for number in ahead[: bisect_right(ahead, distance)]:
                    self._hand_over(stream, waiting, (expected + number) & MASK_16, out)
                self._drain(stream, waiting, out)

    def reset(self, streams: list[int]) -> None:
        """Streams, or all of them if none is named, start again with sequence number 0 (RFC 6525)."""
        if streams:
            for stream in streams:
                self._expected.pop(stream, None)
        else:
            self._expected.clear()

    def _joined(self, run: _Run) -> _Run:
        """Unite a new run with its neighbours of the same message."""
        if not run.begins:
            left = self._runs_by_last.get(run.first - 1)
            if left is not None and not left.ends:
                del self._runs_by_last[left.last], self._runs_by_first[left.first]
                run.first, run.begins = left.first, left.begins
                run.size += left.size
        if not run.ends:
            right = self._runs_by_first.get(run.last + 1)
            if right is not None and not right.begins:
                del self._runs_by_last[right.last], self._runs_by_first[right.first]
                run.last, run.ends = right.last, right.ends
                run.size += right.size
        self._runs_by_first[run.first] = self._runs_by_last[run.last] = run
        return run

    def _forget(self, run: _Run) -> list[_Fragment]:
        del self._runs_by_last[run.last], self._runs_by_first[run.first]
        count = run.last + 1 - run.first
        self.buffered -= run.size + count * HELD_ITEM_BYTES
        return [self._fragments.pop(tsn) for tsn in range(run.first, run.last + 1)]

    def _assemble(self, run: _Run, out: list[SctpEvent]) -> None:
        fragments = self._forget(run)
        flags, stream, sequence, protocol, _ = fragments[0]
        for other in fragments:
            if other[1] != stream or (other[0] ^ flags) & UNORDERED:
                raise ProtocolViolation("fragments of one message are of different streams")
        payload = b"".join(fragment[4] for fragment in fragments)
        self._complete(flags, sequence, Message(stream, protocol, payload), out)

    def _complete(self, flags: int, sequence: int, message: Message, out: list[SctpEvent]) -> None:
        if flags & UNORDERED:
            out.append(message)
            return
        stream = message.stream
        expected = self._expected.get(stream, 0)
        if sequence == expected:
            out.append(message)
            self._expected[stream] = (expected + 1) & MASK_16
            waiting = self._waiting.get(stream)
            if waiting is not None:
                self._drain(stream, waiting, out)
        elif (sequence - expected) & MASK_16 < _HALF_16:
            waiting = self._waiting.setdefault(stream, {})
            if sequence not in waiting:
                waiting[sequence] = message
                self.buffered += len(message.payload) + HELD_ITEM_BYTES

    def _drain(self, stream: int, waiting: dict[int, Message], out: list[SctpEvent]) -> None:
        expected = self._expected[stream]
        while expected in waiting:
            self._hand_over(stream, waiting, expected, out)
            expected = (expected + 1) & MASK_16
        self._expected[stream] = expected

    def _hand_over(
        self, stream: int, waiting: dict[int, Message], sequence: int, out: list[SctpEvent]
    ) -> None:
        message = waiting.pop(sequence)
        if not waiting:
            del self._waiting[stream]
        self.buffered -= len(message.payload) + HELD_ITEM_BYTES
        out.append(message)
