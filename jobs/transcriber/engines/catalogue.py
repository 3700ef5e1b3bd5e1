"""Which engine and which model a job's settings mean."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from jobs.transcriber.engines.base import EngineLoadError, SpeechEngine

LOCAL_APIS: Final = ("whisper.cpp", "faster-whisper")
"""Both mean the local engine: `whisper.cpp` is what the plugin sends by default."""


def find_model(models_dir: Path, size: str) -> Path:
    """The directory of a CTranslate2 Whisper model, `MODELS_DIR/<size>`, with links resolved.

    Raises:
        EngineLoadError: it is not there; the message lists what is.
    """
    model_dir = models_dir / size
    if (model_dir / "model.bin").is_file():
        return model_dir.resolve()
    there = sorted(path.parent.name for path in models_dir.glob("*/model.bin"))
    listing = ", ".join(there) if there else "no model"
    raise EngineLoadError(
        f"no model {size!r} in {models_dir} (a folder {size} with model.bin is needed); "
        f"there is: {listing}"
    )


def load_engine(model_dir: Path, *, workers: int, threads_per_worker: int) -> SpeechEngine:
    """The local engine on a model found by `find_model`. Blocks.

    Raises:
        EngineLoadError: the model cannot be loaded.
    """
    from jobs.transcriber.engines.faster_whisper import FasterWhisperEngine

    return FasterWhisperEngine(model_dir, workers=workers, threads_per_worker=threads_per_worker)


def plan_workers(threads: int, *, cpus: int | None = None) -> tuple[int, int]:
    """(workers, threads per worker) for an allowance of threads.

    Two workers of one thread finish short pieces twice as fast as one worker of two, and a long piece
    does not hold up a short one; more than four workers only help when that many people talk at once,
    so further threads go into each worker.
    """
    allowed = max(1, min(threads, cpus or os.cpu_count() or 1))
    workers = min(allowed, 2 if allowed <= 4 else 4)
    return workers, max(1, allowed // workers)
