"""Clips with known words, as files and as packets; the small real model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs.ogg import read_pages
from jobs.transcriber import models
from jobs.transcriber.capture import VoicePacket
from jobs.transcriber.engines.base import SpeechEngine
from jobs.transcriber.engines.catalogue import find_model, load_engine

DATA = Path(__file__).parent / "data"
MODELS = Path(__file__).parents[3] / "models"
PACKET_NS = 20_000_000


@dataclass(frozen=True)
class Sentence:
    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Clip:
    """One speaker's sentences with pauses."""

    name: str
    path: Path
    payloads: tuple[bytes, ...]
    """Opus packets of 20 ms."""
    sentences: tuple[Sentence, ...]

    def packets(self, *, start_ns: int = 0) -> list[VoicePacket]:
        """As if spoken without pause from `start_ns` on."""
        return [
            VoicePacket(payload, start_ns + index * PACKET_NS, PACKET_NS)
            for index, payload in enumerate(self.payloads)
        ]

    @property
    def text(self) -> str:
        return " ".join(sentence.text for sentence in self.sentences)


def load_clip(name: str) -> Clip:
    path = DATA / f"{name}.opus"
    with path.open("rb") as file:
        payloads = tuple(
            packet
            for page in read_pages(file)
            for packet in page.packets
            if not packet.startswith((b"OpusHead", b"OpusTags"))
        )
    document = json.loads(path.with_suffix(".json").read_text())
    sentences = tuple(Sentence(**sentence) for sentence in document["sentences"])
    return Clip(name, path, payloads, sentences)


@pytest.fixture(scope="session")
def clips() -> dict[str, Clip]:
    """alice, bob and carol: four sentences each, in 10 to 13 seconds."""
    return {name: load_clip(name) for name in ("alice", "bob", "carol")}


@pytest.fixture(scope="session")
def engine() -> SpeechEngine:
    """The bundled model of 97 words, two workers of one thread."""
    return load_engine(find_model(MODELS, "tiny"), workers=2, threads_per_worker=1)


@pytest.fixture(autouse=True)
def _engines_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process for each job would take half a second of CPU; `test_engine_process` has its own."""

    def load(model_dir: Path, *, restarts: object, **options: object) -> SpeechEngine:
        return load_engine(model_dir, **options)

    monkeypatch.setattr(models, "start_engine", load)
