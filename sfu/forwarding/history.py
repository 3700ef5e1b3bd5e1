"""The newest packets of a published track, kept once for all receivers that may ask for them again."""

from __future__ import annotations


class PacketHistory:
    """A ring of plain RTP packets by their own sequence number. Holds the bytes it is given: no copies."""

    __slots__ = ("_mask", "_packets")

    def __init__(self, capacity: int = 256) -> None:
        """`capacity`: a power of 2 (the setting `nack_buffer_size`), at most 32768.

        Raises:
            ValueError: it is not.
        """
        if capacity & (capacity - 1) or not 0 < capacity <= 0x8000:
            raise ValueError(f"capacity is {capacity}; wanted a power of 2 that is not above 32768")
        self._mask = capacity - 1
        self._packets: list[bytes | None] = [None] * capacity

    def put(self, sequence: int, packet: bytes) -> None:
        """Keep a packet whose header has this sequence number; it takes the place of the oldest."""
        self._packets[sequence & self._mask] = packet

    def get(self, sequence: int) -> bytes | None:
        """The packet with exactly this 16-bit number, if it is still there."""
        packet = self._packets[sequence & self._mask]
        if packet is None or packet[2] << 8 | packet[3] != sequence:
            return None
        return packet

    def clear(self) -> None:
        """Forget everything: the publisher has started again, or its track has ended."""
        self._packets = [None] * (self._mask + 1)
