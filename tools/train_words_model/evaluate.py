"""Word error rate of a model directory on freshly spoken sentences, through faster-whisper."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from faster_whisper import WhisperModel

from tools.train_words_model.corpus import RATE_HZ, make_corpus


def word_error_rate(directory: Path, *, sentences: int = 40, seed: int = 9001) -> float:
    """Errors per word, greedy, one thread; the seed must differ from the training's."""
    model = WhisperModel(str(directory), device="cpu", compute_type="int8", cpu_threads=1)
    errors = words = 0
    for sample in make_corpus(sentences, seed=seed):
        silence = np.zeros(RATE_HZ // 2, np.float32)
        speech = sample.audio.astype(np.float32) / 32768 * 0.5
        segments, _ = model.transcribe(
            np.concatenate([silence, speech, silence]),
            language="en",
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
        )
        heard = " ".join(segment.text.strip() for segment in segments).split()
        wanted = sample.text.split()
        errors += _distance(wanted, heard)
        words += len(wanted)
    return errors / words


def _distance(wanted: list[str], heard: list[str]) -> int:
    row = list(range(len(heard) + 1))
    for i, word in enumerate(wanted, start=1):
        previous, row[0] = row[0], i
        for j, other in enumerate(heard, start=1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (word != other))
    return row[-1]
