"""Which engine and which model a job's settings mean."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jobs.transcriber.engines.base import EngineLoadError, SpeechEngine
from jobs.transcriber.engines.devices import AUTOMATIC
from jobs.transcriber.engines.hints import CallHints
from jobs.transcriber.engines.remote_options import AZURE, REMOTE_APIS, RemoteOptions

if TYPE_CHECKING:
    from jobs.transcriber.engines.process import Restarts

LOCAL_APIS: Final = ("whisper.cpp", "faster-whisper")
"""Both mean the local engine: `whisper.cpp` is what the plugin sends by default."""
APIS: Final = (*LOCAL_APIS, *REMOTE_APIS)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MODEL_FILE: Final = "model.bin"
_ALIASES: Final = {
    "large": ("large-v3", "large-v2", "large-v1"),
    "turbo": ("large-v3-turbo",),
    "distil": ("distil-large-v3.5", "distil-large-v3", "distil-large-v2", "distil-medium.en"),
}
"""Names that people use, and what the folders of the same models are called elsewhere."""
_PREFIXES: Final = ("", "faster-whisper-", "faster-")


def find_model(models_dir: Path, size: str) -> Path:
    """The directory of a CTranslate2 Whisper model, `MODELS_DIR/<size>`, with links resolved.

    Names of published folders count too: `faster-whisper-base` for `base`, `large-v3-turbo` for `turbo`.

    Raises:
        EngineLoadError: it is not there; the message lists what is.
    """
    if not _NAME.fullmatch(size):  # never a path: it may have come from a client
        raise EngineLoadError(
            f"no model {size[:100]!r}: should be the name of a folder in {models_dir}"
        )
    for name in (size, *_ALIASES.get(size, ())):
        for prefix in _PREFIXES:
            model_dir = models_dir / f"{prefix}{name}"
            if (model_dir / _MODEL_FILE).is_file():
                return model_dir.resolve()
    raise EngineLoadError(
        f"no model {size!r} in {models_dir} (a folder {size} with model.bin is needed); "
        f"there is: {_listing(models_dir)}"
    )


def load_engine(
    model_dir: Path,
    *,
    workers: int,
    threads_per_worker: int,
    compute_type: str = AUTOMATIC,
    hints: CallHints | None = None,
    second_opinion: bool = True,
) -> SpeechEngine:
    """The local engine on a model found by `find_model`, guarded against inventions. Blocks.

    Raises:
        EngineLoadError: the model cannot be loaded.
    """
    from jobs.transcriber.engines.faster_whisper import FasterWhisperEngine
    from jobs.transcriber.engines.guards import GuardedEngine

    engine = FasterWhisperEngine(
        model_dir,
        workers=workers,
        threads_per_worker=threads_per_worker,
        compute_type=compute_type,
        hints=hints,
        second_opinion=second_opinion,
    )
    return GuardedEngine(engine, hints=hints)


def start_engine(
    model_dir: Path,
    *,
    workers: int,
    threads_per_worker: int,
    compute_type: str = AUTOMATIC,
    hints: CallHints | None = None,
    restarts: Restarts | None = None,
) -> SpeechEngine:
    """As `load_engine`, in a process of its own, which may die: see `process`. Blocks.

    Raises:
        EngineLoadError: the model cannot be loaded.
    """
    from jobs.transcriber.engines.child import Recipe
    from jobs.transcriber.engines.guards import GuardedEngine
    from jobs.transcriber.engines.process import EngineProcess

    recipe = Recipe(model_dir, workers, threads_per_worker, compute_type)
    return GuardedEngine(EngineProcess(recipe, hints=hints, restarts=restarts), hints=hints)


def connect_engine(
    options: RemoteOptions,
    *,
    hints: CallHints,
    ca_file: Path | None = None,
    sleep: Callable[[float], object] = time.sleep,
) -> SpeechEngine:
    """The engine of a speech service. Sends nothing yet. `sleep`: how to wait between attempts.

    Raises:
        EngineLoadError: `ca_file` cannot be read.
    """
    from jobs.transcriber.engines.azure import AzureEngine
    from jobs.transcriber.engines.guards import GuardedEngine
    from jobs.transcriber.engines.openai import OpenAIEngine
    from jobs.transcriber.engines.service import SpeechService
    from jobs.transcriber.engines.throttle import Throttle

    azure = options.api == AZURE
    headers = {}
    if options.key:
        name, value = (
            ("Ocp-Apim-Subscription-Key", options.key)
            if azure
            else ("Authorization", f"Bearer {options.key}")
        )
        headers[name] = value
    try:
        service = SpeechService(
            options.api,
            base_url=options.url,
            headers=headers,
            throttle=Throttle(
                at_once=options.max_requests, per_minute=options.per_minute, sleep=sleep
            ),
            timeout_s=options.timeout_s,
            ca_file=ca_file,
            sleep=sleep,
        )
    except (OSError, ValueError) as error:
        raise EngineLoadError(f"{options.api}: {type(error).__name__}") from None
    if azure:
        return GuardedEngine(AzureEngine(service, at_once=options.max_requests))
    engine = OpenAIEngine(
        service,
        model=options.model,
        hints=hints,
        at_once=options.max_requests,
        captions=options.captions,
    )
    return GuardedEngine(engine, hints=hints)


def plan_workers(threads: int, *, cpus: int | None = None) -> tuple[int, int]:
    """(workers, threads per worker) for an allowance of threads.

    Two workers of one thread finish short pieces twice as fast as one worker of two, and a long piece
    does not hold up a short one; more than four workers only help when that many people talk at once,
    so further threads go into each worker.
    """
    allowed = max(1, min(threads, cpus or os.cpu_count() or 1))
    workers = min(allowed, 2 if allowed <= 4 else 4)
    return workers, max(1, allowed // workers)


def _listing(models_dir: Path) -> str:
    there = sorted(path.parent.name for path in models_dir.glob(f"*/{_MODEL_FILE}"))
    text = ", ".join(there) if there else "no model"
    if not there and any(models_dir.glob("ggml-*.bin")):
        text += " (ggml-*.bin are for whisper.cpp; see models/README.md)"
    return text
