"""Loads clips: Opus packets ready to send, the sound they make, what is said and when.

A folder of clips holds WAV or Opus files and one JSON file:
`{"clips": [{"file": "a.opus", "speaker": "alice", "text": "good morning",
"words": [{"word": "good", "start_s": 0.1, "end_s": 0.3}, …]}, …]}`.
`speaker` is one of the bots' names; clips without one are dealt to the bots in turn.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import av
import numpy as np

from testbed.speech.opus_file import (
    PACKET_SAMPLES,
    RATE_HZ,
    Samples,
    decode_opus,
    encode_opus,
    read_packets,
    read_samples,
)

CLIPS_DIRECTORY: Final = Path(__file__).parent / "clips"
INDEX_NAME: Final = "clips.json"
PACKET_S: Final = PACKET_SAMPLES / RATE_HZ
SILENT_LEVEL: Final = 127
_MAX_CLIP_S: Final = 20.0


class SpeechError(ValueError):
    """A folder of clips cannot be used; the message names file, field, value and the wanted form."""


@dataclass(frozen=True, slots=True)
class Word:
    """One spoken word; times from the start of the clip."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Clip:
    """One sentence."""

    name: str
    speaker: str
    text: str
    words: tuple[Word, ...]
    packets: tuple[bytes, ...] = field(repr=False)
    """20 ms Opus packets."""
    levels: tuple[int, ...] = field(repr=False)
    """Audio level of each packet, −dBov (RFC 6464)."""
    samples: Samples = field(repr=False, compare=False)
    """The packets' sound at 48 kHz."""

    @property
    def duration_s(self) -> float:
        return len(self.packets) * PACKET_S


def load_clips(directory: Path, *, speakers: Sequence[str]) -> dict[str, list[Clip]]:
    """Clips per speaker, in the index's order.

    Raises:
        SpeechError: no or broken index, missing or unreadable file, wrong times, or a speaker without clips.
    """
    index, entries = _read_index(directory)
    clips: dict[str, list[Clip]] = {speaker: [] for speaker in speakers}
    for number, entry in enumerate(entries):
        where = f"{index}: clips[{number}]"
        if not isinstance(entry, dict):
            raise SpeechError(f"{where}: should be an object, got {entry!r}")
        speaker = entry.get("speaker", speakers[number % len(speakers)])
        if speaker not in clips:
            raise SpeechError(f"{where}: speaker {speaker!r} is not one of {', '.join(speakers)}")
        clips[speaker].append(_load_clip(directory, entry, speaker, where))
    silent = [speaker for speaker, own in clips.items() if not own]
    if silent:
        raise SpeechError(f"{index}: no clip for {', '.join(silent)}")
    return clips


def make_clip(name: str, speaker: str, words: Sequence[Word], packets: Sequence[bytes]) -> Clip:
    """A clip from its packets; levels and sound follow from them."""
    samples = decode_opus(packets)
    text = " ".join(word.text for word in words)
    return Clip(name, speaker, text, tuple(words), tuple(packets), packet_levels(samples), samples)


def packet_levels(samples: Samples) -> tuple[int, ...]:
    """The level of each 20 ms block: −dBov of its power, 0 loud to 127 silent (RFC 6464)."""
    count = len(samples) // PACKET_SAMPLES
    blocks = samples[: count * PACKET_SAMPLES].reshape(count, PACKET_SAMPLES).astype(np.float64)
    return tuple(
        SILENT_LEVEL if power <= 0 else min(SILENT_LEVEL, max(0, round(-10 * math.log10(power))))
        for power in (blocks**2).mean(axis=1)
    )


def _read_index(directory: Path) -> tuple[Path, list[Any]]:
    if not directory.is_dir():
        raise SpeechError(f"{directory}: no such folder of speech clips")
    found = sorted(directory.glob("*.json"))
    if len(found) != 1:
        raise SpeechError(f"{directory}: should hold exactly one .json file, found {len(found)}")
    try:
        document = json.loads(found[0].read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SpeechError(f"{found[0]}: cannot be read as JSON: {error}") from error
    entries = document.get("clips") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries:
        raise SpeechError(f'{found[0]}: should be {{"clips": [at least one, …]}}')
    return found[0], entries


def _load_clip(directory: Path, entry: dict[str, Any], speaker: str, where: str) -> Clip:
    name, text = entry.get("file"), entry.get("text")
    if not isinstance(name, str) or Path(name).name != name:
        raise SpeechError(f"{where}: file {name!r} should be a file name without a folder")
    if not isinstance(text, str) or not text.strip():
        raise SpeechError(f"{where}: text {text!r} should be what is said in {name}")
    packets = _load_packets(directory / name)
    words = _read_words(entry.get("words"), len(packets) * PACKET_S, where)
    said = [word.text.lower() for word in words]
    if said != text.lower().split():
        raise SpeechError(f"{where}: words {' '.join(said)!r} should be those of text {text!r}")
    return make_clip(name, speaker, words, packets)


def _load_packets(path: Path) -> list[bytes]:
    if not path.is_file():
        raise SpeechError(f"{path}: no such file")
    try:
        packets = read_packets(path)
        if packets is None:
            packets = encode_opus(read_samples(path))
    except (av.FFmpegError, OSError) as error:
        raise SpeechError(f"{path}: cannot be read as WAV or Opus: {error}") from error
    duration_s = len(packets) * PACKET_S
    if not 0 < duration_s <= _MAX_CLIP_S:
        raise SpeechError(f"{path}: lasts {duration_s:.1f} s, should be up to {_MAX_CLIP_S:g} s")
    return packets


def _read_words(value: Any, duration_s: float, where: str) -> list[Word]:
    if not isinstance(value, list) or not value:
        raise SpeechError(f"{where}: words should be a list of {{word, start_s, end_s}}")
    words: list[Word] = []
    earliest_s = 0.0
    for number, item in enumerate(value):
        at = f"{where}: words[{number}]"
        try:
            word = Word(str(item["word"]), float(item["start_s"]), float(item["end_s"]))
        except (TypeError, KeyError, ValueError) as error:
            raise SpeechError(f"{at}: should be {{word, start_s, end_s}}, got {item!r}") from error
        if not earliest_s <= word.start_s <= word.end_s <= duration_s + PACKET_S:
            raise SpeechError(
                f"{at}: {word.start_s}…{word.end_s} s should be in order and within the clip's "
                f"{duration_s:.2f} s"
            )
        earliest_s = word.start_s
        words.append(word)
    return words
