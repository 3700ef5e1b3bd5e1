"""Made-up meetings with known words: espeak's voices, as browsers send them, over good and bad lines."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from jobs.transcriber.capture import VoicePacket
from rtc.opus import has_redundancy
from testbed.speech.generate import VOICES, every_word, trimmed
from testbed.speech.opus_file import RATE_HZ, resample
from tools.train_words_model.espeak import Espeak, Voice
from tools.train_words_model.vocabulary import sentence

Samples = NDArray[np.float32]
PACKET_NS: Final = 20_000_000
_PACKET_SAMPLES: Final = RATE_HZ // 50
_LEAD_S: Final = 0.1
"""What `trimmed` leaves before the sound."""
_LOOK_AHEAD_SAMPLES: Final = 312


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """Times from the start of the call; `end_s` is negative where nobody knows it."""

    text: str
    end_s: float


@dataclass(frozen=True, slots=True)
class Track:
    """One speaker."""

    name: str
    words: tuple[SpokenWord, ...]
    packets: tuple[VoicePacket, ...]


class Speakers:
    """Says sentences of the bundled model's vocabulary. Raises OSError without libespeak-ng."""

    def __init__(self, seed: int) -> None:
        self._espeak = Espeak()
        self._chance = random.Random(seed)

    def talk(self, name: str, *, words: int) -> tuple[Samples, list[SpokenWord]]:
        """At least so many words, with pauses between sentences; 48 kHz."""
        base = VOICES[name]
        parts: list[Samples] = []
        spoken: list[SpokenWord] = []
        position = 0
        while len(spoken) < words:
            text = sentence(self._chance)
            voice = Voice(base.name, base.rate_wpm + self._chance.randint(-8, 8), base.pitch)
            said = self._espeak.say(text, voice)
            sound, cut_s = trimmed(said)
            at_s = position / RATE_HZ + _LEAD_S - cut_s
            spoken += [SpokenWord(word, at_s + end_s) for word, _, end_s in every_word(text, said)]
            pause = np.zeros(round(self._chance.uniform(0.5, 1.5) * RATE_HZ), np.float32)
            parts += [resample(sound, said.rate_hz), pause]
            position += sum(map(len, parts[-2:]))
        return np.concatenate(parts), spoken


def with_noise(samples: Samples, *, snr_db: float, seed: int) -> Samples:
    """Half white, half pink noise over everything, against the level of the speech in it."""
    chance = np.random.default_rng(seed)
    white = chance.standard_normal(len(samples)).astype(np.float32)
    spectrum = np.fft.rfft(chance.standard_normal(len(samples)))
    pink = np.fft.irfft(spectrum / np.sqrt(np.maximum(1, np.arange(len(spectrum)))), len(samples))
    noise = white / white.std() + pink.astype(np.float32) / np.float32(pink.std())
    loud = samples[np.abs(samples) > 0.01]
    level = float(np.sqrt(np.mean(loud**2))) if len(loud) else 0.1
    scaled = noise * np.float32(level * 10 ** (-snr_db / 20) / np.sqrt(2))
    noisy: Samples = np.clip(samples + scaled, -1, 1).astype(np.float32)
    return noisy


def to_packets(samples: Samples) -> list[VoicePacket]:
    """20 ms Opus packets with in-band redundancy, which browsers are asked for."""
    encoder: Any = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = RATE_HZ, "mono", "flt"
    encoder.bit_rate = 32_000
    encoder.options = {
        "frame_duration": "20",
        "application": "voip",
        "fec": "1",
        "packet_loss": "10",
    }
    kept = samples[_LOOK_AHEAD_SAMPLES:]
    padded = np.zeros(-(-len(kept) // _PACKET_SAMPLES) * _PACKET_SAMPLES, np.float32)
    padded[: len(kept)] = kept
    packets: list[VoicePacket] = []
    for begin in range(0, len(padded), _PACKET_SAMPLES):
        block = padded[None, begin : begin + _PACKET_SAMPLES]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), "flt", "mono")
        frame.sample_rate, frame.pts = RATE_HZ, begin
        for packet in encoder.encode(frame):
            packets.append(VoicePacket(bytes(packet), len(packets) * PACKET_NS, PACKET_NS))
    return packets


def with_losses(packets: Sequence[VoicePacket], *, share: float, seed: int) -> list[VoicePacket]:
    """What the receive path hands on when that share of the packets does not come."""
    chance = random.Random(seed)
    kept: list[VoicePacket] = []
    lost_ns = 0
    for packet in packets:
        if kept and chance.random() < share:
            lost_ns += packet.duration_ns
            continue
        repairs = lost_ns > 0 and has_redundancy(packet.payload)
        kept.append(replace(packet, lost_ns=lost_ns, repairs_loss=repairs))
        lost_ns = 0
    return kept


def no_speech(seconds: float = 20.0) -> dict[str, Samples]:
    """What must not become words."""
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    silence = np.zeros(len(times), np.float32)
    tone = (0.3 * np.sin(2 * np.pi * 440 * times)).astype(np.float32)
    dial = 0.2 * (np.sin(2 * np.pi * 697 * times) + np.sin(2 * np.pi * 1209 * times))
    return {
        "silence": silence,
        "noise": with_noise(silence, snr_db=20, seed=5),
        "tone": tone,
        "beeps": np.where(times % 1 < 0.3, tone, 0).astype(np.float32),
        "dial tones": np.where(times % 0.5 < 0.2, dial, 0).astype(np.float32),
    }
