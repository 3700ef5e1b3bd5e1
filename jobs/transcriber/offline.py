"""`python -m jobs.transcriber offline FILE…`: the same ears, engine and formats on audio files.

Each file is one speaker, named after it; all files start together.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from jobs.transcriber.audio import Samples, ns_to_samples, read_audio_file
from jobs.transcriber.engines.base import EngineLoadError, SpeechEngine
from jobs.transcriber.engines.catalogue import find_model, load_engine
from jobs.transcriber.formats.cues import Cue, in_order
from jobs.transcriber.formats.text import render_text
from jobs.transcriber.formats.webvtt import render_webvtt
from jobs.transcriber.listening import PRE_ROLL_NS, Ear, UtteranceEnded
from jobs.transcriber.vad import SpeechModel, load_silero

_NS_PER_MS = 1_000_000


def main(arguments: Sequence[str]) -> int:
    """Print the transcript; 0, or 2 when a file or the model cannot be used."""
    options = _parse(arguments)
    try:
        engine = load_engine(_model_dir(options.model), workers=1, threads_per_worker=1)
        voice_activity = load_silero()
        cues = [
            cue
            for path in options.files
            for cue in transcribe_file(path, engine=engine, voice_activity=voice_activity)
        ]
    except (EngineLoadError, OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(_render(cues, options.format))
    return 0


def transcribe_file(path: Path, *, engine: SpeechEngine, voice_activity: SpeechModel) -> list[Cue]:
    """One file's cues. Blocks.

    Raises:
        OSError, ValueError: it cannot be read as audio.
        EngineError: the engine failed.
    """
    samples = read_audio_file(path)
    ear = Ear(voice_activity)
    cues = []
    for event in [*ear.hear_samples(samples), *ear.close()]:
        if isinstance(event, UtteranceEnded):
            text = engine.transcribe(_stretch(samples, event), language=None).text
            if text:
                start_ms, end_ms = event.onset_ns // _NS_PER_MS, event.end_ns // _NS_PER_MS
                cues.append(Cue(start_ms, max(end_ms, start_ms + 1), path.stem, text))
    return cues


def _stretch(samples: Samples, utterance: UtteranceEnded) -> Samples:
    begin = max(0, ns_to_samples(utterance.onset_ns - PRE_ROLL_NS))
    return samples[begin : ns_to_samples(utterance.heard_until_ns)]


def _model_dir(name: str) -> Path:
    """A directory as it is, else a size in MODELS_DIR."""
    path = Path(name)
    if (path / "model.bin").is_file():
        return path
    return find_model(Path(os.environ.get("MODELS_DIR") or "/models"), name)


def _render(cues: list[Cue], kind: str) -> str:
    match kind:
        case "vtt":
            return render_webvtt(cues)
        case "json":
            return json.dumps([asdict(cue) for cue in in_order(cues)], indent=1) + "\n"
        case _:
            return render_text(cues)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.transcriber offline",
        description="Transcribe audio files, one speaker each, to standard output.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument(
        "--model", default="base", help="a size in MODELS_DIR or a model's directory (base)"
    )
    parser.add_argument("--format", choices=("vtt", "txt", "json"), default="vtt")
    return parser.parse_args(arguments)
