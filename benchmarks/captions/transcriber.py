"""`python -m benchmarks.captions.transcriber ours|reference`: the transcribing job at a real model's cost.

Everything else is the product: this replaces the engine's loading, and for `reference` what makes captions.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks.captions.burning import BurningEngine
from benchmarks.captions.reference import ReferenceBoard, ReferenceEar
from jobs import harness
from jobs.transcriber import __main__ as program
from jobs.transcriber import models, pipeline
from jobs.transcriber.engines import catalogue
from jobs.transcriber.engines.base import SpeechEngine


def main() -> int:
    """Exit code of the job."""
    (way,) = sys.argv[1:]
    load = catalogue.load_engine

    def load_burning(model_dir: Path, *, restarts: Any, **options: Any) -> SpeechEngine:
        return BurningEngine(load(model_dir, **options))

    # In this process: its CPU time and memory are what is measured.
    vars(models)["start_engine"] = load_burning
    vars(harness)["METRICS_INTERVAL_S"] = 1.0
    if way == "reference":
        vars(pipeline)["CaptionBoard"] = ReferenceBoard
        vars(pipeline)["Ear"] = ReferenceEar
    return program.main([])


if __name__ == "__main__":
    sys.exit(main())
