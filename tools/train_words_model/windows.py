"""Training windows: sentences with gaps, noise and tones, and what the decoder should say to them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from faster_whisper.feature_extractor import FeatureExtractor
from numpy.typing import NDArray
from torch import Tensor

from tools.train_words_model.corpus import RATE_HZ, Sample
from tools.train_words_model.tokenizer import Tokens

FRAME_S = 0.02
_IGNORE = -100
_NO_WORD_SHARE = 0.1
_MAX_INITIAL_S = 1.0
_MEL_FILTERS = torch.tensor(FeatureExtractor().mel_filters)
_HANN = torch.hann_window(400, periodic=True)


@dataclass
class Batch:
    mels: Tensor
    offsets: Tensor
    """Place of each window in the 30 s that the model knows, in frames of 20 ms."""
    tokens: Tensor
    targets: Tensor
    """Next token per position; -100: no loss."""
    frame_targets: Tensor
    """Word class per encoder frame."""
    read_spans: Tensor
    """(batch, tokens, 2): frames of the word just read, -1 when none."""
    said_spans: Tensor
    """(batch, tokens, 2): frames of the word to be said."""


@dataclass
class _Window:
    audio: NDArray[np.float32]
    sentences: list[tuple[float, Sample]]
    """(start_s, what)."""


class WindowMaker:
    """Makes batches from a corpus."""

    def __init__(self, corpus: Sequence[Sample], tokens: Tokens, *, seed: int) -> None:
        self._corpus = corpus
        self._tokens = tokens
        self._classes = {word: index for index, word in enumerate(tokens.words)}
        self._random = random.Random(seed)
        self._numbers = np.random.default_rng(seed)

    def batch(self, size: int, *, window_s: float) -> Batch:
        """`size` windows of `window_s` seconds."""
        windows = [self._window(window_s) for _ in range(size)]
        frames = round(window_s / FRAME_S)
        offsets = [
            0
            if window_s >= 30 or self._random.random() < 0.4
            else self._random.randrange(0, 1500 - frames, 5)
            for _ in windows
        ]
        rows = [
            self._labels(window, offset) for window, offset in zip(windows, offsets, strict=True)
        ]
        length = max(len(row[0]) for row in rows)
        audio = torch.tensor(np.stack([window.audio for window in windows]))
        return Batch(
            mels=log_mel(audio),
            offsets=torch.tensor(offsets),
            tokens=_stack([row[0] for row in rows], length, self._tokens.end),
            targets=_stack([row[1] for row in rows], length, _IGNORE),
            frame_targets=torch.stack([self._frames(window, frames) for window in windows]),
            read_spans=_stack_spans([row[2] for row in rows], length),
            said_spans=_stack_spans([row[3] for row in rows], length),
        )

    def _window(self, window_s: float) -> _Window:
        rng = self._random
        samples = round(window_s * RATE_HZ)
        audio = np.zeros(samples, np.float32)
        sentences: list[tuple[float, Sample]] = []
        if rng.random() >= _NO_WORD_SHARE:
            at_s = rng.choice((0.0, rng.uniform(0, 0.5), rng.uniform(0, 2)))
            while True:
                sample = rng.choice(self._corpus)
                begin, length = round(at_s * RATE_HZ), len(sample.audio)
                if begin + length > samples:
                    break
                gain = 10 ** (rng.uniform(-26, 0) / 20)
                audio[begin : begin + length] += sample.audio.astype(np.float32) / 32768 * gain
                sentences.append((at_s, sample))
                at_s += length / RATE_HZ + rng.choice((rng.uniform(0.1, 0.4), rng.uniform(0.5, 4)))
                if rng.random() < 0.2:
                    break
        return _Window(self._disturb(audio), sentences)

    def _disturb(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        rng = self._random
        if rng.random() < 0.55:
            noise = self._numbers.normal(0, 1, len(audio)).astype(np.float32)
            if rng.random() < 0.5:
                noise = np.cumsum(noise - noise.mean()).astype(np.float32)
                noise -= np.convolve(noise, np.ones(400) / 400, "same").astype(np.float32)
                noise /= noise.std() + 1e-9
            level = float(np.sqrt(np.mean(np.square(audio)))) or 0.03
            audio = audio + noise * level * 10 ** (-rng.uniform(12, 45) / 20)
        if rng.random() < 0.05:
            time_s = np.arange(len(audio)) / RATE_HZ
            tone = np.sin(2 * np.pi * rng.uniform(100, 2000) * time_s)
            audio = audio + (tone * 10 ** (-rng.uniform(20, 45) / 20)).astype(np.float32)
        return np.clip(audio, -1, 1).astype(np.float32)

    def _labels(self, window: _Window, offset: int) -> tuple[list[int], list[int], list, list]:
        """Tokens, targets, and the spans read and said at each position."""
        ids, offset_s = self._tokens, offset * FRAME_S
        timed = self._random.random() >= 0.3
        said: list[tuple[int, tuple[int, int]]] = []  # token and its word's frames
        for start_s, sample in window.sentences:
            if timed:
                first = min(start_s, _MAX_INITIAL_S) if not said else start_s
                said.append((ids.timestamp(offset_s + _grid(first)), (-1, -1)))
            for word, begin_s, end_s in sample.words:
                span = (round((start_s + begin_s) / FRAME_S), round((start_s + end_s) / FRAME_S))
                said.append((ids.words[word], span))
            if timed:
                end_s = start_s + sample.words[-1][2]
                said.append((ids.timestamp(offset_s + _grid(end_s)), (-1, -1)))
        read = [ids.start]
        targets: list[int] = []
        if not timed:
            read.append(ids.no_timestamps)
            targets.append(_IGNORE)
        if not window.sentences:
            # The probability of no speech is read where the transcript starts.
            targets = [ids.no_speech] + ([] if timed else [ids.end])
            if timed:
                read.append(ids.timestamp(offset_s))
                targets.append(ids.end)
            return read, targets, [(-1, -1)] * len(read), [(-1, -1)] * len(read)
        prefix = len(read)
        read += [token for token, _ in said]
        targets += [token for token, _ in said] + [ids.end]
        nothing = (-1, -1)
        spans = [span for _, span in said]
        read_spans = [nothing] * prefix + spans
        said_spans = [nothing] * (prefix - 1) + spans + [nothing]
        return self._with_wrong_history(read, prefix), targets, read_spans, said_spans

    def _with_wrong_history(self, read: list[int], prefix: int) -> list[int]:
        """Now and then the decoder reads what it should not have said: it has to recover."""
        words = list(self._tokens.words.values())
        return [
            self._random.choice(words)
            if index >= prefix and token < self._tokens.end and self._random.random() < 0.05
            else token
            for index, token in enumerate(read)
        ]

    def _frames(self, window: _Window, frames: int) -> Tensor:
        classes = torch.full((frames,), len(self._classes))
        for start_s, sample in window.sentences:
            for word, begin_s, end_s in sample.words:
                begin, end = (
                    round((start_s + begin_s) / FRAME_S),
                    round((start_s + end_s) / FRAME_S),
                )
                classes[begin:end] = self._classes[word]
        return classes


def log_mel(audio: Tensor) -> Tensor:
    """(batch, samples) to (batch, 80, frames of 10 ms), the numbers of faster-whisper's extractor."""
    padded = torch.nn.functional.pad(audio, (0, 160))
    spectrum = torch.stft(padded, 400, 160, window=_HANN, center=True, return_complex=True)
    power = spectrum[..., :-1].abs() ** 2
    logs = (_MEL_FILTERS @ power).clamp(min=1e-10).log10()
    highest = logs.amax(dim=(1, 2), keepdim=True)
    frames = audio.shape[1] // 160
    return (torch.maximum(logs, highest - 8.0) + 4.0)[..., :frames] / 4.0


def _grid(seconds: float) -> float:
    return round(seconds, 1)


def _stack(rows: Sequence[list[int]], length: int, filler: int) -> Tensor:
    return torch.tensor([row + [filler] * (length - len(row)) for row in rows])


def _stack_spans(rows: Sequence[list[tuple[int, int]]], length: int) -> Tensor:
    return torch.tensor([row + [(-1, -1)] * (length - len(row)) for row in rows])
