"""Picture ids of VP8 that go on across source switches (RFC 7741 section 4.2), rewritten in place.

Decoders take a picture id that steps back or jumps for loss, so a receiver that is moved to another
simulcast layer must see them continue.
"""

from __future__ import annotations

_REMEMBERED = 8


class Vp8Ids:
    """What one packet's payload descriptor says, and where. Read once for all receivers."""

    __slots__ = (
        "key_at",
        "key_frame_start",
        "key_index",
        "picture_at",
        "picture_id",
        "tl0_at",
        "tl0_index",
        "wide",
    )

    def __init__(self) -> None:
        self.key_frame_start = False
        """The packet is the first one of a key frame: here a receiver can be moved to this source."""
        self.picture_at = 0
        """Offset in the payload; 0: not there."""
        self.wide = False
        """The picture id has 15 bits, not 7."""
        self.picture_id = 0
        self.tl0_at = 0
        self.tl0_index = 0
        self.key_at = 0
        self.key_index = 0


def read_vp8_ids(packet: bytes, start: int, end: int) -> Vp8Ids | None:
    """Read the descriptor of the payload at packet[start:end]; None when it is cut off."""
    if start >= end:
        return None
    ids = Vp8Ids()
    first = packet[start]
    position = start + 1
    if first & 0x80:
        if position >= end:
            return None
        extension = packet[position]
        position += 1
        if extension & 0x80:
            if position >= end:
                return None
            ids.picture_at = position - start
            ids.picture_id = packet[position] & 0x7F
            if packet[position] & 0x80:
                position += 1
                if position >= end:
                    return None
                ids.wide = True
                ids.picture_id = ids.picture_id << 8 | packet[position]
            position += 1
        if extension & 0x40:
            if position >= end:
                return None
            ids.tl0_at = position - start
            ids.tl0_index = packet[position]
            position += 1
        if extension & 0x30:
            if position >= end:
                return None
            if extension & 0x10:
                ids.key_at = position - start
                ids.key_index = packet[position] & 0x1F
            position += 1
    # S bit, partition 0, and P = 0 in the frame tag (RFC 6386 section 9.1).
    ids.key_frame_start = first & 0x17 == 0x10 and position < end and not packet[position] & 1
    return ids


class Vp8Rewriter:
    """Of one receiver and track.

    In the hot path, with `ids` read once for the published packet::

        if rewriter.active:
            rewriter.apply(out, payload_start, ids)
    """

    __slots__ = ("_generation", "_offsets", "active")

    def __init__(self) -> None:
        self.active = False
        """There is something to rewrite: not before the first switch."""
        self._generation = 0
        # By number of switches before: what to add to picture id, TL0PICIDX and KEYIDX.
        self._offsets = {0: (0, 0, 0)}

    def switch(self, newest: Vp8Ids, first: Vp8Ids) -> None:
        """Call it with `SequenceRewriter.switch`.

        `newest`: of the newest packet that went out of the source before, as the publisher sent it.
        `first`: of the packet that the new source begins with.
        """
        picture, tl0, key = self._offsets[self._generation]
        self._generation += 1
        self._offsets[self._generation] = (
            (newest.picture_id + picture + 1 - first.picture_id) & 0x7FFF,
            (newest.tl0_index + tl0 + 1 - first.tl0_index) & 0xFF,
            (newest.key_index + key + 1 - first.key_index) & 0x1F,
        )
        self._offsets.pop(self._generation - _REMEMBERED, None)
        self.active = True

    def apply(
        self, packet: bytearray | memoryview, at: int, ids: Vp8Ids, generation: int | None = None
    ) -> bool:
        """Rewrite the descriptor of the payload that begins at `at`.

        `generation`: of a late or repeated packet, from `SequenceRewriter.to_source`. False: it is too
        old, and the packet should not go out.
        """
        offsets = self._offsets.get(self._generation if generation is None else generation)
        if offsets is None:
            return False
        position = ids.picture_at
        if position:
            picture = ids.picture_id + offsets[0]
            position += at
            if ids.wide:
                packet[position] = 0x80 | picture >> 8 & 0x7F
                packet[position + 1] = picture & 0xFF
            else:
                packet[position] = picture & 0x7F
        position = ids.tl0_at
        if position:
            packet[at + position] = (ids.tl0_index + offsets[1]) & 0xFF
        position = ids.key_at
        if position:
            position += at
            packet[position] = packet[position] & 0xE0 | (ids.key_index + offsets[2]) & 0x1F
        return True
