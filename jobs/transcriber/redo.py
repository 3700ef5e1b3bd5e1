"""The transcript once more, from captures on disk or from audio files: nothing here is live."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from foundation.groups import unwrapped
from foundation.logs import get_logger
from jobs.transcriber.audio import HeldSound, samples_to_ns
from jobs.transcriber.capture import CapturedTrack, find_captures
from jobs.transcriber.engines.base import SpeechEngine, close_engine
from jobs.transcriber.language import SpokenLanguages
from jobs.transcriber.listening import Ear, UtteranceEnded, UtteranceEvent
from jobs.transcriber.models import (
    engine_used,
    hints_of,
    load_transcript_engine,
    spoken_languages,
)
from jobs.transcriber.scheduler import SpeechScheduler
from jobs.transcriber.settings import TranscriberSettings
from jobs.transcriber.speakers import SpeakerDirectory
from jobs.transcriber.transcript import Segment, TranscriptBacklog
from jobs.transcriber.vad import SpeechModel, load_silero
from jobs.transcriber.workers import EngineGone

_BATCH_PACKETS: Final = 500
_BATCH_NS: Final = 10_000_000_000
_log = get_logger(component="redo")


@dataclass(frozen=True, slots=True)
class Redone:
    """What was understood, and with what."""

    segments: list[Segment]
    engine: Mapping[str, str]
    """See `jobs.transcriber.models.engine_used`."""


async def transcribe_place(place: Path, settings: TranscriberSettings, *, base_name: str) -> Redone:
    """Everything captured in `place`, with the engine, languages and words of `settings`.

    `base_name`: how the call's files are named, for the channel's name in it. Progress goes into the log.

    Raises:
        EngineLoadError: the model is not there or broken, or the service's options cannot be used.
        EngineGone: the engine could not be started again.
    """
    captures = await asyncio.to_thread(find_captures, place)
    speakers = await asyncio.to_thread(SpeakerDirectory.load, place)
    hints = hints_of(settings, base_name=base_name)
    for capture in captures:
        if speakers.knows(capture.identity.session_id):
            hints.participant(speakers.name(capture.identity.session_id))
    engine = await asyncio.to_thread(load_transcript_engine, settings, hints=hints)
    try:
        segments = await transcribe_captures(
            captures,
            engine=engine,
            voice_activity=await asyncio.to_thread(load_silero),
            workers=engine.info.workers,
            languages=spoken_languages(settings, engine),
            on_progress=lambda done, total: log_progress("transcribe", done, total),
        )
    finally:
        # Publication may take minutes, and a model has gigabytes.
        await asyncio.to_thread(close_engine, engine)
    return Redone(segments, engine_used(settings, engine.info))


def log_progress(stage: str, done: int, total: int) -> None:
    """A line of docs/job-contract.md 5."""
    _log.info("progress", stage=stage, done=done, total=total)


async def transcribe_captures(
    captures: Iterable[CapturedTrack | HeldSound],
    *,
    engine: SpeechEngine,
    voice_activity: SpeechModel,
    workers: int,
    languages: SpokenLanguages | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Segment]:
    """Hear every capture from its first packet on and transcribe what was said, in the order of the call.

    An unreadable capture costs only itself. `on_progress` gets done and total after each piece.

    Raises:
        EngineGone: the engine could not be started again.
    """
    backlog = TranscriptBacklog(
        engine,
        languages=languages,
        on_progress=lambda: on_progress(backlog.pieces_done, backlog.pieces),
    )
    for capture in captures:
        try:
            utterances = await asyncio.to_thread(_listen, capture, voice_activity)
        except Exception as error:  # noqa: BLE001 - one damaged track must not cost the others
            _log.warning(
                "capture.unreadable",
                session_id=capture.identity.session_id,
                reason=getattr(error, "strerror", None) or type(error).__name__,
            )
            continue
        for utterance in utterances:
            backlog.add(capture, utterance)
    await work_off(backlog, workers=workers)
    return backlog.segments


async def work_off(backlog: TranscriptBacklog, *, workers: int) -> None:
    """Transcribe all that `backlog` holds.

    Raises:
        EngineGone: the engine could not be started again.
    """
    backlog.max_running = workers
    with ThreadPoolExecutor(workers, thread_name_prefix="speech") as pool:
        scheduler = SpeechScheduler([backlog], workers=workers, execute=pool)
        with unwrapped(EngineGone):
            async with asyncio.TaskGroup() as tasks:
                scheduling = tasks.create_task(scheduler.run(), name="speech-scheduler")
                await backlog.until_idle()
                scheduling.cancel()


def _listen(
    capture: CapturedTrack | HeldSound, voice_activity: SpeechModel
) -> list[UtteranceEnded]:
    ear = Ear(voice_activity)
    if isinstance(capture, HeldSound):
        return _hear_file(ear, capture)
    packets = iter(capture.packets())
    ended: list[UtteranceEnded] = []
    while batch := list(islice(packets, _BATCH_PACKETS)):
        ended += [event for event in ear.hear(batch) if isinstance(event, UtteranceEnded)]
    return ended + [event for event in ear.close() if isinstance(event, UtteranceEnded)]


def _hear_file(ear: Ear, sound: HeldSound) -> list[UtteranceEnded]:
    events: list[UtteranceEvent] = []
    for begin_ns in range(0, samples_to_ns(len(sound.pcm)), _BATCH_NS):
        block = sound.samples(start_ns=begin_ns, end_ns=begin_ns + _BATCH_NS)
        events += [e for e in ear.hear_samples(block) if isinstance(e, UtteranceEnded)]
    return [event for event in [*events, *ear.close()] if isinstance(event, UtteranceEnded)]
