"""What a sender remembers of its packets until their transport-wide feedback comes (`rtc.transport_cc`)."""

from __future__ import annotations

from array import array

from rtc.transport_cc import REFERENCE_TICKS, TICK_NS, parse_feedback

PacketResult = tuple[int, int, int, int | None]
"""(transport sequence number, size in bytes, sent_ns, received_ns on the receiver's clock; None: lost)."""


class SentHistory:
    """The sender's side: numbers packets, remembers when they went, and reads what became of them.

    In the hot path: `number = history.sent(len(packet), now_ns)`, and the number goes into the header
    extension.
    """

    __slots__ = (
        "_first",
        "_mask",
        "_next",
        "_reference",
        "_reported",
        "_sizes",
        "_times",
        "malformed",
    )

    def __init__(self, capacity: int = 2048, *, first: int = 0) -> None:
        """`capacity`: a power of 2, at most 32768; 10 bytes each. `first`: number of the next packet.

        Raises:
            ValueError: it is not.
        """
        if capacity & (capacity - 1) or not 0 < capacity <= 0x8000:
            raise ValueError(f"capacity is {capacity}; wanted a power of 2 that is not above 32768")
        self._mask = capacity - 1
        self._times = array("q", bytes(8 * capacity))
        self._sizes = array("H", bytes(2 * capacity))
        self._first = self._next = self._reported = first
        self._reference: int | None = None
        self.malformed = 0
        """Feedbacks that could not be read."""

    def sent(self, size: int, now_ns: int) -> int:
        """Remember one more packet of `size` (1 to 65535) bytes; returns its 16-bit number."""
        number = self._next
        slot = number & self._mask
        self._times[slot] = now_ns
        self._sizes[slot] = size
        self._next = number + 1
        return number & 0xFFFF

    def acknowledge(self, body: bytes) -> list[PacketResult]:
        """What the body of a feedback says of packets that are remembered, by number.

        A packet is told as received once; as lost at most once, and possibly as received later.
        """
        feedback = parse_feedback(body)
        if feedback is None:
            self.malformed += 1
            return []
        base = self._next - 1 - ((self._next - 1 - feedback.base) & 0xFFFF)
        oldest = max(self._next - self._mask - 1, self._first)
        reference_ns = self._unwrap_reference(feedback.reference) * REFERENCE_TICKS * TICK_NS
        results: list[PacketResult] = []
        times, sizes, mask = self._times, self._sizes, self._mask
        unreported = max(base, self._reported, oldest)
        end = min(base + feedback.count, self._next)
        for offset, ticks in feedback.received:
            number = base + offset
            if number >= end:
                break
            if number < oldest:
                continue
            while unreported < number:
                slot = unreported & mask
                results.append((unreported & 0xFFFF, sizes[slot], times[slot], None))
                unreported += 1
            slot = number & mask
            size = sizes[slot]
            if size:
                received_ns = reference_ns + ticks * TICK_NS
                results.append((number & 0xFFFF, size, times[slot], received_ns))
                sizes[slot] = 0
            if unreported <= number:
                unreported = number + 1
        while unreported < end:
            slot = unreported & mask
            results.append((unreported & 0xFFFF, sizes[slot], times[slot], None))
            unreported += 1
        self._reported = max(self._reported, unreported)
        return results

    def _unwrap_reference(self, reference: int) -> int:
        """24 bits at 64 ms turn after 12 days."""
        if self._reference is None:
            self._reference = reference
        else:
            step = (reference - self._reference) & 0xFFFFFF
            self._reference += step - 0x1000000 if step & 0x800000 else step
        return self._reference
