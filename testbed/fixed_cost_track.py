"""The transcriber's `track` program with an engine that costs a fixed time and no processor.

    python -m testbed.fixed_cost_track --seconds-per-piece 0.8 track DIRECTORY

It says one word for each piece, whatever it hears. Benchmarks use it to see what lies around an engine, and
say so: with it nothing is told about any real model.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Final

from jobs.transcriber import track
from jobs.transcriber.engines.base import EngineInfo, Recognition, Word
from jobs.transcriber.engines.hints import CallHints
from jobs.transcriber.settings import TranscriberSettings

ENGINE_NAME: Final = "fixed-cost"
WORD: Final = "syzygy"
"""What it says; found nowhere by chance."""


class FixedCostEngine:
    """A `SpeechEngine` for final texts."""

    def __init__(self, model: str, *, seconds_per_piece: float) -> None:
        self.info = EngineInfo(ENGINE_NAME, model, "none", "none", 1, 1, multilingual=False)
        self._seconds_per_piece = seconds_per_piece

    def transcribe(self, audio: object, *, language: str | None) -> Recognition:
        """One word. Blocks for the fixed time."""
        time.sleep(self._seconds_per_piece)
        return Recognition((Word(WORD, 0.0, 0.2, 1.0),), "en")

    def hypothesise(
        self, audio: object, *, language: str | None, context_s: float, complete: bool
    ) -> Recognition:
        """As `transcribe`."""
        return self.transcribe(audio, language=language)

    def detect_language(self, audio: object) -> tuple[tuple[str, float], ...]:
        """It cannot."""
        return ()


def main() -> int:
    """Returns the exit code of the program that it stands in for."""
    parser = argparse.ArgumentParser(prog="python -m testbed.fixed_cost_track")
    parser.add_argument("--seconds-per-piece", type=float, required=True)
    parser.add_argument("program", choices=["track"])
    parser.add_argument("directory", type=Path)
    options = parser.parse_args()

    def load(settings: TranscriberSettings, hints: CallHints) -> FixedCostEngine:
        return FixedCostEngine(settings.model_size, seconds_per_piece=options.seconds_per_piece)

    return track.main(options.directory, os.environ, load_engine=load)


if __name__ == "__main__":
    sys.exit(main())
