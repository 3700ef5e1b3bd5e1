"""All captures of a job: names their files, and brings them to disk twice a second."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import Executor
from pathlib import Path
from typing import Final

from foundation.logs import get_logger
from jobs.transcriber.capture import TrackCapture, TrackIdentity

_FLUSH_S: Final = 0.5
"""A kill may cost a second of what was said: the other half is for the way here, and for slow disks."""
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]")
_log = get_logger(component="capture")


class CaptureStore:
    """Lives on the event loop; writing happens in the executor, one flush at a time."""

    def __init__(self, directory: Path, *, executor: Executor) -> None:
        self._directory = directory
        self._executor = executor
        self._captures: list[TrackCapture] = []
        self.write_errors = 0
        self._refused = False

    @property
    def packets_dropped(self) -> int:
        return sum(capture.packets_dropped for capture in self._captures)

    def open(self, identity: TrackIdentity) -> TrackCapture:
        """A new capture, `<user id>_<track id>.ogg`; its files appear with the first packets."""
        stem = _UNSAFE.sub("_", f"{identity.user_id or identity.session_id}_{identity.track_id}")
        taken = {capture.path.name for capture in self._captures}
        name, copy = f"{stem}.ogg", 1
        while name in taken:  # the same track was taken away and offered again
            copy += 1
            name = f"{stem}_{copy}.ogg"
        capture = TrackCapture(self._directory / name, identity)
        self._captures.append(capture)
        return capture

    async def run(self) -> None:
        """Flush every half second until cancelled."""
        while True:
            await asyncio.sleep(_FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        """Bring everything to disk; what the disk refuses is kept and tried again."""
        loop = asyncio.get_running_loop()
        errors = await loop.run_in_executor(self._executor, _flush_all, list(self._captures))
        self.write_errors += len(errors)
        if errors and not self._refused:  # once, not every second for hours
            _log.error("capture.write_failed", captures=len(errors), reason=errors[0])
        elif self._refused and not errors:
            _log.info("capture.writes_again", write_errors=self.write_errors)
        self._refused = bool(errors)


def _flush_all(captures: list[TrackCapture]) -> list[str]:
    errors = []
    for capture in captures:
        try:
            capture.flush()
        except OSError as error:
            errors.append(error.strerror or type(error).__name__)
    return errors
