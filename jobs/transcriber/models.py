"""The models of one job: which ones its settings mean, loaded once and shared by all speakers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from foundation.logs import get_logger
from jobs.transcriber.engines.base import (
    EngineInfo,
    EngineLoadError,
    SpeechEngine,
    close_engine,
    rest_engine,
)
from jobs.transcriber.engines.catalogue import (
    connect_engine,
    find_model,
    plan_workers,
    start_engine,
)
from jobs.transcriber.engines.fallback import FallbackEngine
from jobs.transcriber.engines.hints import CallHints, channel_name_of
from jobs.transcriber.engines.process import Restarts
from jobs.transcriber.engines.remote_options import (
    REMOTE_APIS,
    OptionsError,
    has_options,
    read_options,
)
from jobs.transcriber.language import SpokenLanguages
from jobs.transcriber.settings import TranscriberSettings

if TYPE_CHECKING:
    from pathlib import Path

    from jobs.transcriber.vad import SpeechModel

_NO_OPTIONS: Final = (
    "the service's options and keys did not reach the process that finished the job"
)
_log = get_logger(component="models")


@dataclass(frozen=True, slots=True)
class Models:
    """What was loaded; the two engines may be the same object."""

    transcript: SpeechEngine
    captions: SpeechEngine | None
    """None: no live captions."""
    voice_activity: SpeechModel
    workers: int
    """Jobs that may run at once, over both engines; a remote engine has its own."""
    languages: SpokenLanguages | None = None
    """Who speaks what; None: the engine finds it out for each piece."""
    restarts: Restarts = field(default_factory=Restarts)
    """Of the local engines' processes."""

    def close(self) -> None:
        """End the engines' processes: their memory is needed no longer. Blocks. Idempotent."""
        for engine in (self.transcript, self.captions):
            if engine is not None:
                close_engine(engine)


class ModelsInUse:
    """Models that are loaded in a thread, for one who may have gone by then: closed in any case."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: Models | None = None
        self._closed = False

    def load(self, load: Callable[[], Models]) -> Models:
        """What `load` gives. Blocks; once."""
        models = load()
        with self._lock:
            self._models = models
            unwanted = self._closed
        if unwanted:
            models.close()
        return models

    def close(self) -> None:
        """Close the models, those too that are still being loaded. Blocks, but not for these. Idempotent."""
        with self._lock:
            self._closed = True
            models = self._models
        if models is not None:
            models.close()


def check_models(settings: TranscriberSettings) -> None:
    """Cheap, before anything else is done.

    Raises:
        EngineLoadError: a model is not there; the message lists what is.
    """
    if settings.transcribe_api not in REMOTE_APIS:
        find_model(settings.models_dir, settings.model_size)
    elif settings.fallback_model:
        find_model(settings.models_dir, settings.fallback_model)
    if settings.live_captions_on and not _captions_by_service(settings):
        find_model(settings.models_dir, settings.live_captions_model_size)


def load_models(settings: TranscriberSettings, *, hints: CallHints | None = None) -> Models:
    """Load everything. Blocks for tenths of a second to seconds. `hints`: what engines are told of the call.

    Raises:
        EngineLoadError: a model is not there or broken.
    """
    from jobs.transcriber.vad import load_silero

    hints = hints or hints_of(settings)
    restarts = Restarts()
    transcript = load_transcript_engine(settings, hints=hints, restarts=restarts)
    captions: SpeechEngine | None = None
    if settings.live_captions_on:
        captions = transcript
        by_service = transcript.info.remote and transcript.info.captions
        if not by_service:
            captions_dir = find_model(settings.models_dir, settings.live_captions_model_size)
            same = not transcript.info.remote and captions_dir == find_model(
                settings.models_dir, settings.model_size
            )
            captions = transcript if same else _local(settings, captions_dir, hints, restarts)
    if settings.tasks_url and captions is not transcript:
        # Others make the final text; most calls need this engine only to know that it is there.
        rest_engine(transcript)
    workers, _ = plan_workers(settings.threads)
    return Models(
        transcript,
        captions,
        load_silero(),
        workers,
        spoken_languages(settings, transcript),
        restarts,
    )


def load_transcript_engine(
    settings: TranscriberSettings, *, hints: CallHints, restarts: Restarts | None = None
) -> SpeechEngine:
    """The engine for final texts. Blocks. `restarts`: counts how often its process has to be started again.

    Raises:
        EngineLoadError: a model is not there or broken, or the service's options cannot be used.
    """
    restarts = restarts or Restarts()
    if settings.transcribe_api in REMOTE_APIS:
        if has_options(settings.transcribe_api_options):
            return _service(settings, hints, restarts)
        # A dead job is finished, and nobody has its keys any more.
        name = settings.fallback_model or settings.model_size
        _log.warning(
            "service.no_options", api=settings.transcribe_api, instead=name, reason=_NO_OPTIONS
        )
        return _local(settings, find_model(settings.models_dir, name), hints, restarts)
    model_dir = find_model(settings.models_dir, settings.model_size)
    return _local(settings, model_dir, hints, restarts)


def engine_used(settings: TranscriberSettings, info: EngineInfo) -> dict[str, str]:
    """For the transcript's JSON: `name` and `model`; `instead_of` and `reason` when it is not the one that
    was configured."""
    used = {"name": info.name, "model": info.model}
    if settings.transcribe_api in REMOTE_APIS and not info.remote:
        used |= {"instead_of": settings.transcribe_api, "reason": _NO_OPTIONS}
    return used


def hints_of(settings: TranscriberSettings, *, base_name: str = "") -> CallHints:
    """What the settings know of a call, and the name of its files; participants are to be added."""
    return CallHints(
        vocabulary=settings.vocabulary.split(","), channel_name=channel_name_of(base_name)
    )


def spoken_languages(settings: TranscriberSettings, engine: SpeechEngine) -> SpokenLanguages:
    """Who speaks what in this job's call."""
    allowed = tuple(language for language in settings.languages.split(",") if language)
    return SpokenLanguages(engine, allowed=allowed)


def _service(settings: TranscriberSettings, hints: CallHints, restarts: Restarts) -> SpeechEngine:
    try:
        options = read_options(settings.transcribe_api, settings.transcribe_api_options)
    except OptionsError as error:
        raise EngineLoadError(f"TranscribeAPIOptions: {error}") from error
    engine = connect_engine(options, hints=hints, ca_file=settings.ca_file)
    if not settings.fallback_model:
        return engine
    model_dir = find_model(settings.models_dir, settings.fallback_model)
    return FallbackEngine(engine, partial(_local, settings, model_dir, hints, restarts))


def _local(
    settings: TranscriberSettings, model_dir: Path, hints: CallHints, restarts: Restarts
) -> SpeechEngine:
    workers, threads_per_worker = plan_workers(settings.threads)
    return start_engine(
        model_dir,
        workers=workers,
        threads_per_worker=threads_per_worker,
        compute_type=settings.compute_type,
        hints=hints,
        restarts=restarts,
    )


def _captions_by_service(settings: TranscriberSettings) -> bool:
    if settings.transcribe_api not in REMOTE_APIS:
        return False
    return read_options(settings.transcribe_api, settings.transcribe_api_options).captions
