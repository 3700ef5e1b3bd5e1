"""When a job had no connection for media, kept in `connection.json` of its directory as it happens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from callclient.events import CallEvent, MediaLost, MediaRestored
from foundation.logs import get_logger
from jobs.job_directory import write_private

FILE_NAME: Final = "connection.json"
_MOST_GAPS: Final = 1000
_log = get_logger(component="connection")


class ConnectionGaps:
    """In time since the start of the recording, as far as it is known. Lives on the event loop."""

    def __init__(self) -> None:
        self._since_ns: int | None = None
        self._gaps: list[tuple[int, int]] = []

    def saw(self, event: CallEvent, *, zero_ns: int) -> bool:
        """Whether the event ended a gap: `save` it. `zero_ns`: the start of the recording, monotonic."""
        match event:
            case MediaLost(since_ns=since_ns):
                self.lost(since_ns - zero_ns)
            case MediaRestored(at_ns=at_ns):
                return self.restored(at_ns - zero_ns)
        return False

    def lost(self, since_ns: int) -> None:
        """No packet came after that time."""
        self._since_ns = since_ns

    def restored(self, at_ns: int) -> bool:
        """The first one came. Whether that ended a gap: `save` it."""
        since_ns, self._since_ns = self._since_ns, None
        if since_ns is None or at_ns <= max(0, since_ns) or len(self._gaps) >= _MOST_GAPS:
            return False
        self._gaps.append((max(0, since_ns), at_ns))
        return True

    def save(self, directory: Path) -> None:
        """Blocks; never raises: only a mark in what is kept would be missing."""
        try:
            write_private(directory / FILE_NAME, json.dumps(self._gaps), may_spend_reserve=False)
        except OSError as error:
            _log.warning("gaps.not_saved", reason=error.strerror)


def read(directory: Path) -> list[tuple[int, int]]:
    """What `ConnectionGaps` left, as start and end in ns; nothing if it left nothing readable. Blocks."""
    try:
        gaps = json.loads((directory / FILE_NAME).read_text(encoding="utf-8"))
        return [(int(start), int(end)) for start, end in gaps]
    except (OSError, ValueError, TypeError, OverflowError, RecursionError):
        return []
