"""Made once, kept in a folder that git ignores. What is there is complete: it gets its name last."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from tools.random_models.weights import SHAPES

CACHE: Final = Path(__file__).parents[2] / ".cache" / "random-models"


def converted(size: str, cache: Path = CACHE) -> Path:
    """The folder for faster-whisper. Blocks for seconds when it has to be made."""
    from tools.random_models.converted import write_converted

    target = cache / size
    if not target.exists():
        unfinished = cache / f"{size}.{os.getpid()}"
        shutil.rmtree(unfinished, ignore_errors=True)
        write_converted(SHAPES[size], unfinished)
        unfinished.rename(target)
    return target


def ggml(size: str, cache: Path = CACHE) -> Path:
    """The file for whisper.cpp. Blocks for seconds when it has to be made."""
    from tools.random_models.ggml import write_ggml

    target = cache / f"ggml-{size}.bin"
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = cache / f"ggml-{size}.{os.getpid()}"
        write_ggml(SHAPES[size], unfinished)
        unfinished.rename(target)
    return target
