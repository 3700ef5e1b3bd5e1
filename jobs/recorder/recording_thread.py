"""The one thread in which a recording is made.

It does everything that blocks: imports, waiting for decoded pictures, drawing, encoding, writing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Final, Self

from jobs.harness import JobContext, StartFailed
from jobs.recorder.decoding.decoder import Decoder
from jobs.recorder.inbox import Inbox
from jobs.recorder.mishaps import Mishaps
from jobs.recorder.settings import PART_NAME, RecorderSettings

if TYPE_CHECKING:
    from jobs.recorder.mp4 import Mp4Writer
    from jobs.recorder.picture_line import PictureSource
    from jobs.recorder.recording import RecordingLoop

_ENCODER_TIMEOUT_S: Final = 5.0
_STEP_S: Final = 0.1
"""How often the recording thread looks: each time costs the same, and it is behind the call anyway."""
_STOP_TIMEOUT_S: Final = 10.0


class RecordingThread:
    """Ends with the block of its `with`, which waits for it."""

    def __init__(
        self,
        context: JobContext,
        settings: RecorderSettings,
        *,
        inbox: Inbox,
        decoder: Decoder,
        mishaps: Mishaps,
    ) -> None:
        self._context = context
        self._settings = settings
        self._inbox = inbox
        self._decoder = decoder
        self._mishaps = mishaps
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="recording")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()

    async def start_encoders(self, encoder: str) -> tuple[PictureSource, Mp4Writer]:
        """Begin the file with `encoder` for its pictures.

        Raises:
            StartFailed: the encoder or the disk refuses, or takes too long.
        """

        def start() -> tuple[PictureSource, Mp4Writer]:
            from jobs.recorder.framing import picture_source
            from jobs.recorder.mp4 import Mp4Error, Mp4Writer

            path = self._settings.directory / PART_NAME
            try:
                writer = Mp4Writer(path, self._settings, encoder=encoder)
            except Mp4Error as error:
                raise StartFailed(str(error)) from error
            return picture_source(self._settings, self._mishaps), writer

        try:
            async with asyncio.timeout(_ENCODER_TIMEOUT_S):
                return await asyncio.get_running_loop().run_in_executor(self._executor, start)
        except TimeoutError:
            raise StartFailed(f"no encoder within {_ENCODER_TIMEOUT_S:g} s") from None

    def recording_from(
        self, zero_ns: int, zero_utc: datetime, *, compositor: PictureSource, writer: Mp4Writer
    ) -> RecordingLoop:
        """What `run` runs: a recording whose first moment is `zero_ns` of the monotonic clock."""
        from jobs.recorder.recording import Recording, RecordingLoop

        loop = asyncio.get_running_loop()
        recording = Recording(
            writer,
            compositor,
            self._settings,
            zero_ns=zero_ns,
            zero_utc=zero_utc,
            decoder=self._decoder,
            mishaps=self._mishaps,
        )
        return RecordingLoop(
            recording,
            self._inbox,
            interval_s=_STEP_S,
            on_blocked=lambda track: _call_on(loop, track.request_key_frame),
            on_figures=lambda figures: _call_on(
                loop, lambda: self._context.metrics.update(figures)
            ),
        )

    def run(self, recording: RecordingLoop) -> asyncio.Future[None]:
        """Record until `recording` is stopped or fails."""
        return asyncio.get_running_loop().run_in_executor(self._executor, recording.run)

    async def until_written(self, running: asyncio.Future[None]) -> None:
        """After the stop: until everything is in the file. Raises what recording failed by; Interrupted."""
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await asyncio.shield(running)
        except TimeoutError:
            # The thread may still be catching up: waiting longer loses nothing, giving up would.
            self._context.log.warning("recording.stop_slow", limit_s=_STOP_TIMEOUT_S)
            await self._context.unless_hurried(asyncio.shield(running))


def _call_on(loop: asyncio.AbstractEventLoop, action: Callable[[], None]) -> None:
    """From the thread; the loop may be gone already when a job is torn down."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(action)
