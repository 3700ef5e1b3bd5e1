"""Streaming voice activity is the batch computation on carried state, and finds where people begin."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.transcriber.audio import read_audio_file
from jobs.transcriber.vad import (
    CHUNK_SAMPLES,
    SpeechEnd,
    SpeechStart,
    VadOptions,
    VoiceActivityDetector,
    load_silero,
)

RATE_HZ = 16_000


class ScriptedModel:
    """Says 1.0 for windows louder than 0.5, and remembers how it was asked."""

    def __init__(self) -> None:
        self.windows = 0
        self.fresh_states = 0

    def run(self, windows, state):
        self.windows += len(windows)
        self.fresh_states += int(not state[0].any())
        loud = (np.abs(windows[:, 64:]).max(axis=1) > 0.5).astype(np.float32)
        return loud, (np.ones((1, 1, 128), np.float32), state[1])


def _audio(*parts: tuple[float, float]) -> np.ndarray:
    """(chunks, level) …"""
    return np.concatenate(
        [np.full(round(chunks * CHUNK_SAMPLES), level, np.float32) for chunks, level in parts]
    )


def _push(detector: VoiceActivityDetector, audio: np.ndarray, block: int) -> list[object]:
    found: list[object] = []
    for begin in range(0, len(audio), block):
        found += detector.push(audio[begin : begin + block])
    return found


def test_probabilities_are_exactly_those_of_the_batch(clips) -> None:
    from faster_whisper.vad import get_vad_model

    audio = read_audio_file(clips["carol"].path)
    # Noise keeps every chunk above digital silence, so that none is gated.
    noise = np.random.default_rng(1).normal(0, 1e-4, len(audio))
    audio = (audio + noise).astype(np.float32)[: len(audio) // 512 * 512]
    detector = VoiceActivityDetector(load_silero(), VadOptions(gate_dbfs=-200))
    streamed: list[float] = []
    for begin in range(0, len(audio), 3 * CHUNK_SAMPLES):
        chunks = audio[begin : begin + 3 * CHUNK_SAMPLES].reshape(-1, CHUNK_SAMPLES)
        streamed += detector._probabilities(chunks)
    batch = get_vad_model()(audio.copy()).reshape(-1)
    # The batch zeroes the end of its very last chunk.
    np.testing.assert_allclose(streamed[:-1], batch[:-1], atol=1e-4)


@pytest.mark.parametrize("block", [160, 512, 1600, 100_000])
def test_decisions_do_not_depend_on_how_the_audio_is_cut(block: int) -> None:
    audio = _audio((10.3, 0), (20, 0.9), (30, 0), (5, 0.9), (30, 0))
    detector = VoiceActivityDetector(ScriptedModel())
    whole = _push(VoiceActivityDetector(ScriptedModel()), audio, len(audio))
    assert _push(detector, audio, block) == whole
    assert [type(event) for event in whole] == [SpeechStart, SpeechEnd] * 2


def test_a_click_is_no_speech() -> None:
    detector = VoiceActivityDetector(ScriptedModel())
    assert _push(detector, _audio((3, 0.01), (1, 0.9), (20, 0.01)), 512) == []


def test_a_short_pause_does_not_end_an_utterance_and_a_long_one_does() -> None:
    detector = VoiceActivityDetector(ScriptedModel(), VadOptions(endpoint_s=0.4))
    audio = _audio((20, 0.9), (12, 0.01), (20, 0.9), (13, 0.01))
    assert _push(detector, audio, 512) == [
        SpeechStart(0),
        SpeechEnd(52 * CHUNK_SAMPLES),
    ]


def test_an_endless_utterance_ends_at_a_short_pause_and_at_last_without_one() -> None:
    options = VadOptions(long_utterance_s=2.0, short_pause_s=0.1, max_utterance_s=4.0)
    detector = VoiceActivityDetector(ScriptedModel(), options)
    with_pause = _audio((70, 0.9), (4, 0.01), (200, 0.9))
    found = _push(detector, with_pause, 512)
    assert found[:3] == [
        SpeechStart(0),
        SpeechEnd(70 * CHUNK_SAMPLES),
        SpeechStart(74 * CHUNK_SAMPLES),
    ]
    assert isinstance(found[3], SpeechEnd)
    assert found[3].at_samples - 74 * CHUNK_SAMPLES == 4 * RATE_HZ


def test_nobody_talks_longer_at_a_time_than_a_model_can_hear() -> None:
    """With what is kept before (0.3 s) and after (0.3 s) a piece stays below Whisper's 30 s."""
    found = _push(VoiceActivityDetector(ScriptedModel()), _audio((6000, 0.9)), 1600)
    starts = [event.at_samples for event in found if isinstance(event, SpeechStart)]
    ends = [event.at_samples for event in found if isinstance(event, SpeechEnd)]
    assert len(ends) == 6
    assert all(0 < end - start <= 29.1 * RATE_HZ for start, end in zip(starts, ends, strict=False))


def test_silence_costs_no_model_call_and_makes_the_state_forget() -> None:
    model = ScriptedModel()
    detector = VoiceActivityDetector(model)
    _push(detector, _audio((4, 0.9), (1000, 0.0001)), 512)
    assert model.windows == 4
    _push(detector, _audio((4, 0.9)), 512)
    assert model.fresh_states == 2


def test_an_interrupted_stream_ends_the_utterance_where_speech_ended() -> None:
    detector = VoiceActivityDetector(ScriptedModel())
    _push(detector, _audio((20, 0.9), (5, 0.01)), 512)
    assert detector.speaking
    assert detector.break_off() == [SpeechEnd(20 * CHUNK_SAMPLES)]
    assert not detector.speaking
    assert detector.break_off() == []


@pytest.mark.parametrize("level_dbfs", [-60, -40, -20])
def test_noise_is_no_speech(level_dbfs: int) -> None:
    noise = np.random.default_rng(3).normal(0, 10 ** (level_dbfs / 20), 20 * RATE_HZ)
    detector = VoiceActivityDetector(load_silero())
    assert _push(detector, noise.astype(np.float32), 1600) == []


def test_the_detector_s_library_makes_no_thread_of_its_own() -> None:
    options = load_silero()._session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
