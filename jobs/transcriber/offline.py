"""`python -m jobs.transcriber offline`: audio files, or the voices that a job kept, to standard output.

The same ears, engine, guards and formats as in a call. Each file is one speaker, named after it, and all
files start together; in a directory with captures everybody keeps name and time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from foundation.logs import configure_logs
from jobs.transcriber.audio import HeldSound
from jobs.transcriber.capture import INDEX_SUFFIX, CapturedTrack, TrackIdentity, find_captures
from jobs.transcriber.document import FORMATS, Document, render, to_document
from jobs.transcriber.engines.base import EngineLoadError
from jobs.transcriber.engines.catalogue import find_model, load_engine, plan_workers
from jobs.transcriber.engines.languages import code_of
from jobs.transcriber.formats.cues import UNKNOWN_SPEAKER, display_name
from jobs.transcriber.host import usable_cpus
from jobs.transcriber.language import SpokenLanguages
from jobs.transcriber.losses import LostAudio, lost_connections, lost_packets
from jobs.transcriber.redo import transcribe_captures
from jobs.transcriber.speakers import SpeakerDirectory
from jobs.transcriber.vad import load_silero

_EXIT_OK: Final = 0
_EXIT_UNUSABLE: Final = 2
_EXIT_PARTLY: Final = 1


class _Sources:
    """What was named on the command line."""

    def __init__(self) -> None:
        self.sounds: list[CapturedTrack | HeldSound] = []
        self.lost_audio: list[LostAudio] = []
        self._names: dict[str, str] = {}

    def name(self, session_id: str) -> str:
        return self._names.get(session_id, UNKNOWN_SPEAKER)

    def add(self, path: Path) -> None:
        """Raises OSError, ValueError: it is neither audio nor a directory with captures."""
        if path.is_dir():
            self._add_directory(path)
            return
        session_id = str(path)
        self.sounds.append(HeldSound.read(path, TrackIdentity(session_id, session_id, "")))
        self._names[session_id] = display_name("", "", path.stem)

    def _add_directory(self, path: Path) -> None:
        places = sorted({index.parent for index in path.rglob(f"*.ogg{INDEX_SUFFIX}")})
        captures = [(place, find_captures(place)) for place in places]
        if not any(found for _, found in captures):
            raise ValueError(f"{path}: no captures in it (*.ogg with *.ogg{INDEX_SUFFIX})")
        for place, found in captures:
            speakers = SpeakerDirectory.load(place)
            for capture in found:
                session_id = capture.identity.session_id
                self._names[session_id] = speakers.name(session_id)
            self.sounds += found
            self.lost_audio += [*lost_connections(place), *lost_packets(found)]


def main(arguments: Sequence[str]) -> int:
    """Print the transcript. 0; 1 when some of it is `[inaudible]`; 2 when a file or the model is unusable."""
    options = _parse(arguments)
    configure_logs(level="error", stream=sys.stderr)
    try:
        sources = _Sources()
        for path in options.files:
            sources.add(path)
        document = asyncio.run(
            _transcribe(sources, model=options.model, language=options.language or "")
        )
    except (EngineLoadError, OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return _EXIT_UNUSABLE
    sys.stdout.write(render(document, options.format))
    failed = [segment["failure"] for segment in document["segments"] if "failure" in segment]
    if failed:
        sys.stderr.write(f"{len(failed)} pieces are [inaudible], the first one: {failed[0]}\n")
    return _EXIT_PARTLY if failed else _EXIT_OK


async def _transcribe(sources: _Sources, *, model: str, language: str) -> Document:
    workers, threads_per_worker = plan_workers(usable_cpus())
    engine = load_engine(_model_dir(model), workers=workers, threads_per_worker=threads_per_worker)
    segments = await transcribe_captures(
        sources.sounds,
        engine=engine,
        voice_activity=load_silero(),
        workers=workers,
        languages=SpokenLanguages(engine, allowed=(language,) if language else ()),
    )
    used = {"name": engine.info.name, "model": engine.info.model}
    return to_document(segments, sources, lost_audio=sources.lost_audio, engine=used)


def _model_dir(name: str) -> Path:
    """A directory as it is, else a size in MODELS_DIR."""
    path = Path(name)
    if (path / "model.bin").is_file():
        return path
    return find_model(Path(os.environ.get("MODELS_DIR") or "/models"), name)


def _language(text: str) -> str:
    code = code_of(text)
    if not code:
        raise argparse.ArgumentTypeError(f"{text!r} is no language code such as en, de or pt-BR")
    return code


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.transcriber offline",
        description="Transcribe audio files, one speaker each, or a directory with the voices that a job "
        "kept, to standard output.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE_OR_DIR")
    parser.add_argument(
        "--model", default="base", help="a size in MODELS_DIR or a model's directory (base)"
    )
    parser.add_argument("--language", type=_language, help="spoken (found out)")
    parser.add_argument("--format", choices=FORMATS, default="vtt")
    return parser.parse_args(arguments)
