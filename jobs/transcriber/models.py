"""The models of one job: which ones its settings mean, loaded once and shared by all speakers."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.transcriber.engines.base import SpeechEngine
from jobs.transcriber.engines.catalogue import find_model, load_engine, plan_workers
from jobs.transcriber.settings import TranscriberSettings
from jobs.transcriber.vad import SpeechModel, load_silero


@dataclass(frozen=True, slots=True)
class Models:
    """What was loaded; the two engines may be the same object."""

    transcript: SpeechEngine
    captions: SpeechEngine | None
    """None: no live captions."""
    voice_activity: SpeechModel
    workers: int
    """Jobs that may run at once, over both engines."""


def check_models(settings: TranscriberSettings) -> None:
    """Cheap, before anything else is done.

    Raises:
        EngineLoadError: a model is not there; the message lists what is.
    """
    find_model(settings.models_dir, settings.model_size)
    if settings.live_captions_on:
        find_model(settings.models_dir, settings.live_captions_model_size)


def load_models(settings: TranscriberSettings) -> Models:
    """Load everything. Blocks for tenths of a second to seconds.

    Raises:
        EngineLoadError: a model is not there or broken.
    """
    workers, threads_per_worker = plan_workers(settings.threads)
    model_dir = find_model(settings.models_dir, settings.model_size)
    transcript = load_engine(model_dir, workers=workers, threads_per_worker=threads_per_worker)
    captions: SpeechEngine | None = None
    if settings.live_captions_on:
        captions_dir = find_model(settings.models_dir, settings.live_captions_model_size)
        captions = transcript
        if captions_dir != model_dir:
            captions = load_engine(
                captions_dir, workers=workers, threads_per_worker=threads_per_worker
            )
    return Models(transcript, captions, load_silero(), workers)
