"""How much of a file one upload request should carry (calls-plugin.md 5.3).

Nobody tells a job the limits of the server and of the proxies before it. They show: a 204 with an offset
below what was sent, a 413, a connection that breaks again and again.
"""

from __future__ import annotations

from typing import Final

MIN_FIRST_BYTES: Final = 5 * 1024 * 1024
"""The server refuses a smaller first part, unless it is the whole file."""
_START_BYTES: Final = 8 * 1024 * 1024
"""Above that, and small enough to lose little when a connection breaks."""
_LEAST_BYTES: Final = 256 * 1024


class PartSize:
    """Starts with 8 MiB; shrinks for a reason, grows back after success, never above what was refused."""

    def __init__(self) -> None:
        self._bytes = _START_BYTES
        self._most = _START_BYTES

    def next_bytes(self, offset: int, size: int) -> int:
        """Of the part that begins at `offset` of a file of `size` bytes."""
        least = MIN_FIRST_BYTES if offset == 0 else _LEAST_BYTES
        return min(max(self._bytes, least), size - offset)

    def taken(self, sent: int, kept: int) -> None:
        """A part was answered: the server has `kept` bytes of the `sent` ones."""
        if kept < sent:
            self._most = self._bytes = max(kept, _LEAST_BYTES)
        else:
            self._bytes = min(max(self._bytes, sent) * 2, self._most)

    def broke(self, kept: int) -> None:
        """The connection broke; of the part the server has `kept` bytes."""
        self._bytes = max(kept, self._bytes // 2, _LEAST_BYTES)

    def too_large(self, sent: int, offset: int) -> bool:
        """413. False when a smaller part would not be taken either."""
        if sent <= (MIN_FIRST_BYTES if offset == 0 else _LEAST_BYTES):
            return False
        self._most = self._bytes = max(sent // 2, _LEAST_BYTES)
        return True
