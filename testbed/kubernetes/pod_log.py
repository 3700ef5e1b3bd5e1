"""A container's log as a kubelet keeps it: lines with the times at which they began.

containerd writes them by its node's clock and zone; this node is not on UTC, as many are not.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

_ZONE: Final = timezone(timedelta(hours=5, minutes=45))


class PodLog:
    """Written by one, followed by many."""

    def __init__(self) -> None:
        self._lines: list[tuple[datetime, bytearray]] = []
        self._open = False
        """The last line has no end yet."""
        self._ended = False
        self._news = asyncio.Event()

    def write(self, data: bytes) -> None:
        for line in io.BytesIO(data):
            if self._open:
                self._lines[-1][1].extend(line)
            else:
                self._lines.append((datetime.now(UTC), bytearray(line)))
            self._open = not line.endswith(b"\n")
        self._wake()

    def end(self) -> None:
        self._ended = True
        self._wake()

    def content(self) -> bytes:
        """All of it so far."""
        return b"".join(bytes(text) for _, text in self._lines)

    async def read(self, *, follow: bool, timestamps: bool, since: str) -> AsyncIterator[bytes]:
        """From the second `since` on; with `follow` until the container has ended."""
        index, offset = 0, 0
        if since:
            begin = datetime.fromisoformat(since.replace("Z", "+00:00")).replace(microsecond=0)
            index = sum(at < begin for at, _ in self._lines)
        while True:
            gathered = bytearray()
            while index < len(self._lines):
                at, text = self._lines[index]
                if offset == 0 and timestamps:
                    gathered += f"{_written(at)} ".encode()
                gathered += text[offset:]
                offset = len(text)
                if not text.endswith(b"\n") and index == len(self._lines) - 1:
                    break
                index, offset = index + 1, 0
            if gathered:
                yield bytes(gathered)
            elif self._ended or not follow:
                return
            else:
                await self._news.wait()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _written(at: datetime) -> str:
    local = at.astimezone(_ZONE)
    return local.isoformat(timespec="microseconds").replace("+", "000+")
