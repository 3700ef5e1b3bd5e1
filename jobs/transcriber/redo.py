"""The transcript once more, from the captures on disk: for salvage and for nothing else that is live."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from foundation.logs import get_logger
from jobs.transcriber.capture import CapturedTrack
from jobs.transcriber.engines.base import SpeechEngine
from jobs.transcriber.listening import Ear, UtteranceEnded
from jobs.transcriber.scheduler import SpeechScheduler
from jobs.transcriber.transcript import Segment, TranscriptBacklog
from jobs.transcriber.vad import SpeechModel

_BATCH_PACKETS = 500
_log = get_logger(component="redo")


async def transcribe_captures(
    captures: Iterable[CapturedTrack],
    *,
    engine: SpeechEngine,
    voice_activity: SpeechModel,
    workers: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Segment]:
    """Hear every capture from its first packet on and transcribe what was said, in the order of the call.

    An unreadable capture costs only itself. `on_progress` gets done and total after each piece.
    """
    backlog = TranscriptBacklog(
        engine, on_progress=lambda: on_progress(backlog.pieces_done, backlog.pieces)
    )
    backlog.max_running = workers
    for capture in captures:
        try:
            utterances = await asyncio.to_thread(_listen, capture, voice_activity)
        except OSError as error:
            _log.warning(
                "capture.unreadable",
                session_id=capture.identity.session_id,
                reason=error.strerror or type(error).__name__,
            )
            continue
        for utterance in utterances:
            backlog.add(capture, utterance)
    with ThreadPoolExecutor(workers, thread_name_prefix="speech") as pool:
        scheduler = SpeechScheduler([backlog], workers=workers, execute=pool)
        async with asyncio.TaskGroup() as tasks:
            scheduling = tasks.create_task(scheduler.run(), name="speech-scheduler")
            await backlog.until_idle()
            scheduling.cancel()
    return backlog.segments


def _listen(capture: CapturedTrack, voice_activity: SpeechModel) -> list[UtteranceEnded]:
    ear = Ear(voice_activity)
    packets = iter(capture.packets())
    ended: list[UtteranceEnded] = []
    while batch := list(islice(packets, _BATCH_PACKETS)):
        ended += [event for event in ear.hear(batch) if isinstance(event, UtteranceEnded)]
    return ended + [event for event in ear.close() if isinstance(event, UtteranceEnded)]
