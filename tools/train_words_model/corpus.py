"""Spoken sentences with word times, half of them sent through Opus as a call would."""

from __future__ import annotations

import random
from dataclasses import dataclass

import av
import numpy as np
from numpy.typing import NDArray

from tools.train_words_model.espeak import Espeak, Voice
from tools.train_words_model.vocabulary import sentence

RATE_HZ = 16_000
_VOICES = ("en-us", "gmw/en", "en-gb-x-rp")
_VARIANTS = ("", "+m1", "+m2", "+m3", "+m4", "+m5", "+m6", "+m7", "+f1", "+f2", "+f3", "+f4")
_OPUS_SHARE = 0.45
_OPUS_DELAY_SAMPLES = 312


@dataclass(frozen=True, slots=True)
class Sample:
    """One sentence."""

    audio: NDArray[np.int16]
    """Mono at 16 kHz, without silence around it."""
    words: tuple[tuple[str, float, float], ...]
    """(word, start_s, end_s)."""

    @property
    def text(self) -> str:
        return " ".join(word for word, _, _ in self.words)


def make_corpus(count: int, *, seed: int) -> list[Sample]:
    """`count` sentences; about 60 a second on one core."""
    random_source = random.Random(seed)
    espeak = Espeak()
    samples: list[Sample] = []
    while len(samples) < count:
        voice = Voice(
            random_source.choice(_VOICES) + random_source.choice(_VARIANTS),
            rate_wpm=random_source.randint(125, 195),
            pitch=random_source.randint(25, 75),
            pitch_range=random_source.randint(30, 70),
        )
        text = sentence(random_source)
        spoken = espeak.say(text, voice)
        if " ".join(word for word, _, _ in spoken.words) != text:
            continue  # espeak joined words into one event
        bit_rate = random_source.randint(12, 32) * 1000
        use_opus = random_source.random() < _OPUS_SHARE
        audio = _resample(spoken.samples, spoken.rate_hz, opus=bit_rate if use_opus else None)
        end = min(len(audio), round((spoken.words[-1][2] + 0.02) * RATE_HZ))
        clipped = np.clip(audio[:end] * 32767, -32768, 32767)
        samples.append(Sample(clipped.astype(np.int16), spoken.words))
    return samples


def _resample(
    samples: NDArray[np.float32], rate_hz: int, *, opus: int | None
) -> NDArray[np.float32]:
    frame = av.AudioFrame.from_ndarray(samples[None, :], format="flt", layout="mono")
    frame.sample_rate = rate_hz
    if opus is None:
        return _convert([frame], RATE_HZ)
    wide = av.AudioFrame.from_ndarray(_convert([frame], 48_000)[None, :], "flt", "mono")
    wide.sample_rate = 48_000
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = 48_000, "mono", "flt"
    encoder.bit_rate = opus
    encoder.open()
    fifo = av.AudioFifo()
    fifo.write(wide)
    packets = [
        packet for part in fifo.read_many(960, partial=True) for packet in encoder.encode(part)
    ]
    packets += encoder.encode(None)
    decoder = av.CodecContext.create("opus", "r")
    decoder.sample_rate, decoder.layout = 48_000, "mono"
    decoded = [out for packet in packets for out in decoder.decode(av.Packet(bytes(packet)))]
    narrow = _convert(decoded, RATE_HZ)
    return narrow[_OPUS_DELAY_SAMPLES // 3 :]


def _convert(frames: list[av.AudioFrame], rate_hz: int) -> NDArray[np.float32]:
    resampler = av.AudioResampler(format="flt", layout="mono", rate=rate_hz)
    parts = [out.to_ndarray()[0] for frame in [*frames, None] for out in resampler.resample(frame)]
    return np.concatenate(parts)
