"""Makes the clips beside it: sentences with pauses as Ogg Opus, their words and true times as JSON.

python tests/jobs/transcriber/data/make_clips.py        (from the repository root; needs libespeak-ng1)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[4]))
from tools.train_words_model.espeak import Espeak, Voice

_HERE = Path(__file__).parent
_ENCODER_DELAY_SAMPLES = 312
_CLIPS: dict[str, tuple[Voice, list[tuple[float, str]]]] = {
    # Each sentence with the silence before it, in seconds.
    "alice": (
        Voice("gmw/en+f2", rate_wpm=150, pitch=60),
        [
            (0.8, "good morning everyone welcome"),
            (1.2, "start the recording now"),
            (1.0, "the budget is on the agenda"),
            (1.5, "thank you bob"),
        ],
    ),
    "bob": (
        Voice("en-us+m3", rate_wpm=160, pitch=40),
        [
            (0.5, "hello alice"),
            (1.5, "we will finish the report on friday"),
            (0.9, "the customer is open"),
            (1.1, "any question"),
        ],
    ),
    "carol": (
        Voice("en-gb-x-rp+f1", rate_wpm=140, pitch=55),
        [
            (1.0, "we need one more review"),
            (0.9, "please send the notes today"),
            (1.4, "the second deadline is monday and the last is tuesday"),
            (1.0, "goodbye"),
        ],
    ),
}


def main() -> None:
    espeak = Espeak()
    for name, (voice, script) in _CLIPS.items():
        pieces: list[np.ndarray] = []
        words: list[dict[str, object]] = []
        sentences: list[dict[str, object]] = []
        position = 0
        for silence_s, text in script:
            pause = np.zeros(round(silence_s * espeak.rate_hz), np.float32)
            spoken = espeak.say(text, voice)
            position += len(pause)
            start_s = position / espeak.rate_hz
            timed = [
                {"word": word, "start_s": round(start_s + a, 3), "end_s": round(start_s + b, 3)}
                for word, a, b in spoken.words
            ]
            words += timed
            sentences.append(
                {"text": text, "start_s": timed[0]["start_s"], "end_s": timed[-1]["end_s"]}
            )
            pieces += [pause, spoken.samples * 0.5]
            position += len(spoken.samples)
        pieces.append(np.zeros(espeak.rate_hz, np.float32))
        write_opus(_HERE / f"{name}.opus", np.concatenate(pieces), espeak.rate_hz)
        document = {"voice": voice.name, "sentences": sentences, "words": words}
        (_HERE / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")


def write_opus(path: Path, samples: np.ndarray, rate_hz: int) -> None:
    """Mono, 20 ms packets, 24 kbit/s; the encoder's look-ahead is cut off in front."""
    with av.open(str(path), "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=48000, layout="mono")
        stream.bit_rate = 24000
        resampler = av.AudioResampler(format="flt", layout="mono", rate=48000)
        source = av.AudioFrame.from_ndarray(samples[None, :], format="flt", layout="mono")
        source.sample_rate = rate_hz
        loud = np.concatenate(
            [f.to_ndarray()[0] for f in (*resampler.resample(source), *resampler.resample(None))]
        )[_ENCODER_DELAY_SAMPLES:]
        frame = av.AudioFrame.from_ndarray(loud[None, :], format="flt", layout="mono")
        frame.sample_rate = 48000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)


if __name__ == "__main__":
    main()
