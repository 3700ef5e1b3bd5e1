"""What the Kubernetes API sends of a log: lines with times, some of them again after a connection broke."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from offloader.backends.kubernetes.api import ApiError

_TIME_BYTES: Final = 64
_TIME: Final = re.compile(
    r"(?P<whole>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.(?P<fraction>\d+))?(?P<zone>Z|[+-]\d\d:\d\d)",
    re.ASCII,
)
_ALL_OF_IT: Final = 1 << 62


@dataclass(slots=True)
class Position:
    """How far a log was read: time of the last line that was begun (see `in_utc`), how many lines of that
    very time were, and how many bytes of the last one."""

    time: str = ""
    lines: int = 0
    line_bytes: int = 0

    @property
    def since(self) -> str:
        """In whole seconds, as the API takes it; lines known already come again."""
        return f"{self.time.partition('.')[0]}Z" if self.time else ""


class Lines:
    """Takes the times from the lines, and leaves out what was read before."""

    def __init__(self, position: Position) -> None:
        self._position = position
        self._before = Position(position.time, position.lines, position.line_bytes)
        self._same = 0
        """Lines of the old position's time that came again."""
        self._time = bytearray()
        self._in_text = False
        self._skip_bytes = 0

    def feed(self, chunk: bytes) -> bytes:
        """The new text in `chunk`."""
        out = bytearray()
        place = 0
        while place < len(chunk):
            if not self._in_text:
                end = chunk.find(b" ", place)
                self._time += chunk[place:end] if end >= 0 else chunk[place:]
                if len(self._time) > _TIME_BYTES:
                    raise ApiError("the Kubernetes API sent a log line without a time")
                if end < 0:
                    break
                place = end + 1
                self._skip_bytes = self._begin(in_utc(self._time.decode("ascii", "replace")))
                self._in_text = True
                self._time.clear()
                continue
            end = chunk.find(b"\n", place) + 1
            part = chunk[place : end or len(chunk)]
            skipped = min(self._skip_bytes, len(part))
            self._skip_bytes -= skipped
            out += part[skipped:]
            self._position.line_bytes += len(part) - skipped
            self._in_text = not end
            place += len(part)
        return bytes(out)

    def _begin(self, time: str) -> int:
        """A line begins; how many of its bytes were read before."""
        old, now = self._before, self._position
        if old.time:
            if time < old.time:
                return _ALL_OF_IT
            if time == old.time:
                self._same += 1
                if self._same < old.lines:
                    return _ALL_OF_IT
                if self._same == old.lines:
                    return old.line_bytes
        now.lines = now.lines + 1 if time == now.time else 1
        now.time, now.line_bytes = time, 0
        return 0


def in_utc(time: str) -> str:
    """RFC 3339 as nodes write it, by their own time zones, fractions of any length or none: as texts of one
    length and zone, which sort by time. Raises ApiError: it is no time."""
    match = _TIME.fullmatch(time)
    try:
        if match is None:
            raise ValueError(time)
        whole = datetime.fromisoformat(match["whole"] + match["zone"].replace("Z", "+00:00"))
    except ValueError as error:
        raise ApiError("the Kubernetes API sent a log line without a time") from error
    fraction = (match["fraction"] or "")[:9].ljust(9, "0")
    return f"{whole.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{fraction}"
