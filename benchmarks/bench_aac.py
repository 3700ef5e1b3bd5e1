"""FFmpeg's two ways to choose how coarse AAC may be, for voices: what each costs, and how near it stays.

One JSON line for each bit rate of the plugin's profiles and each coder. `cpu_ms_per_s` is the median of the
rounds; `snr_db` by bands of Hz the median, over stretches of 21 ms in which somebody speaks, of what was said
over what was changed. The recorder takes the coder in `jobs.recorder.mp4.AAC`.
"""

from __future__ import annotations

import io
import itertools
import json
import statistics
import time
from fractions import Fraction
from typing import Final

import av
import numpy as np
import numpy.typing as npt

from jobs.recorder.mp4 import AAC, AUDIO_BLOCK
from jobs.recorder.voice import RATE_HZ
from testbed.speech.clips import CLIPS_DIRECTORY, load_clips

Sound = npt.NDArray[np.float32]

_ROUNDS: Final = 5
_RATES_KBPS: Final = (64, 128)
_BANDS_HZ: Final = (0, 400, 800, 1600, 3200, 6400, 12800)
_MOST_DELAY: Final = 4 * AUDIO_BLOCK
_QUIET: Final = 0.01
"""Stretches below this share of the median loudness say nothing about voices."""


def main() -> None:
    said = _voices()
    for rate_kbps in _RATES_KBPS:
        for options in ({}, AAC):
            cost = [_encoded(said, rate_kbps, options)[1] for _ in range(_ROUNDS)]
            heard = _decoded(_encoded(said, rate_kbps, options)[0])
            row = {
                "bench": "aac",
                "coder": options.get("aac_coder", "twoloop"),
                "rate_kbps": rate_kbps,
                "cpu_ms_per_s": round(statistics.median(cost) * 1000, 1),
                "snr_db": _snr_by_band(said, heard),
            }
            print(json.dumps(row), flush=True)


def _voices() -> Sound:
    """What the demo's bots say, one after the other."""
    speakers = ("alice", "bob", "carol")
    clips = load_clips(CLIPS_DIRECTORY, speakers=speakers)
    parts = [clip.samples for speaker in speakers for clip in clips[speaker]]
    sound: Sound = np.concatenate(parts).astype(np.float32)
    return sound


def _encoded(sound: Sound, rate_kbps: int, options: dict[str, str]) -> tuple[bytes, float]:
    """An MP4, and the CPU-seconds for each second of it."""
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=RATE_HZ, options=options)
        stream.codec_context.layout = "mono"
        stream.codec_context.format = "fltp"
        stream.codec_context.bit_rate = rate_kbps * 1000
        began_s = time.process_time()
        for at in range(0, len(sound), AUDIO_BLOCK):
            block = np.ascontiguousarray(sound[None, at : at + AUDIO_BLOCK])
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, at, Fraction(1, RATE_HZ)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        took_s = time.process_time() - began_s
    return target.getvalue(), took_s / (len(sound) / RATE_HZ)


def _decoded(file: bytes) -> Sound:
    with av.open(io.BytesIO(file)) as container:
        parts = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    sound: Sound = np.concatenate(parts)
    return sound


def _snr_by_band(said: Sound, heard: Sound) -> dict[str, float]:
    length = 5 * RATE_HZ
    delays = range(min(_MOST_DELAY, len(heard) - length))
    delay = max(delays, key=lambda d: float(np.dot(said[:length], heard[d : d + length])))
    usable = min(len(said), len(heard) - delay) // AUDIO_BLOCK * AUDIO_BLOCK
    shape, window = (-1, AUDIO_BLOCK), np.hanning(AUDIO_BLOCK)
    there = said[:usable]
    changed = heard[delay : delay + usable] - there
    signal = np.abs(np.fft.rfft(there.reshape(shape) * window)) ** 2
    noise = np.abs(np.fft.rfft(changed.reshape(shape) * window)) ** 2
    loudness = signal.sum(axis=1)
    speaking = loudness > _QUIET * np.median(loudness[loudness > 0])
    hz = np.fft.rfftfreq(AUDIO_BLOCK, 1 / RATE_HZ)
    found = {}
    for low, high in itertools.pairwise(_BANDS_HZ):
        band = (hz >= low) & (hz < high)
        ratio = signal[speaking][:, band].sum(axis=1) / (
            noise[speaking][:, band].sum(axis=1) + 1e-12
        )
        found[f"{low}-{high}"] = round(float(np.median(10 * np.log10(ratio + 1e-12))), 1)
    return found


if __name__ == "__main__":
    main()
