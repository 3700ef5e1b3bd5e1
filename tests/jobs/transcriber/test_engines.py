"""The local engine with the bundled model: silence gives no words, bounds hold, errors are ours."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from jobs.transcriber.audio import read_audio_file
from jobs.transcriber.engines.base import EngineError, EngineLoadError
from jobs.transcriber.engines.catalogue import find_model, load_engine, plan_workers

RATE_HZ = 16_000


def _sounds() -> dict[str, np.ndarray]:
    time_s = np.arange(3 * RATE_HZ) / RATE_HZ
    noise = np.random.default_rng(5).normal(0, 0.05, 3 * RATE_HZ)
    return {
        "silence": np.zeros(3 * RATE_HZ, np.float32),
        "noise": noise.astype(np.float32),
        "tone": (0.3 * np.sin(2 * np.pi * 440 * time_s)).astype(np.float32),
        "nothing": np.zeros(0, np.float32),
        "ten samples": np.ones(10, np.float32),
    }


@pytest.mark.parametrize("sound", _sounds())
def test_what_is_no_speech_gives_no_words(engine, sound: str) -> None:
    audio = _sounds()[sound]
    assert engine.transcribe(audio, language=None).words == ()
    assert engine.hypothesise(audio, language="en", context_s=10, complete=False).words == ()


@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize("context_s", [8, 10, 30])
def test_a_hypothesis_reads_like_the_final_text_and_its_words_lie_in_order(
    clips, engine, context_s: float, complete: bool
) -> None:
    sentence = clips["carol"].sentences[2]
    audio = read_audio_file(clips["carol"].path)
    piece = audio[
        round((sentence.start_s - 0.3) * RATE_HZ) : round((sentence.end_s + 0.3) * RATE_HZ)
    ]
    hypothesis = engine.hypothesise(piece, language="en", context_s=context_s, complete=complete)
    final = engine.transcribe(piece, language="en")
    assert hypothesis.text == final.text == sentence.text
    assert not hypothesis.doubtful
    ends = [word.end_s for word in hypothesis.words]
    assert ends == sorted(ends)
    assert all(word.start_s <= word.end_s for word in hypothesis.words)
    assert all(0 < word.probability <= 1 for word in hypothesis.words)


def test_the_limit_on_tokens_is_what_it_says(
    clips, engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CTranslate2 stops at half of `max_length`: 13 must let 10 words, two times and the end through."""
    sentence = clips["carol"].sentences[2]
    audio = read_audio_file(clips["carol"].path)
    piece = audio[round(sentence.start_s * RATE_HZ) : round(sentence.end_s * RATE_HZ)]
    limits = "jobs.transcriber.engines.faster_whisper._TOKENS_PER_S"
    for tokens, words in ((13, 10), (6, 5)):
        monkeypatch.setattr(limits, tokens / (len(piece) / RATE_HZ + 1))
        heard = engine.hypothesise(piece, language="en", context_s=10, complete=True).words
        assert len(heard) == words


def test_english_only_models_take_any_language_setting(clips, engine) -> None:
    assert not engine.info.multilingual
    audio = read_audio_file(clips["alice"].path)[: 3 * RATE_HZ]
    for language in (None, "en", "de"):
        assert engine.transcribe(audio, language=language).language == "en"


def test_a_failure_inside_the_library_is_an_engine_error(
    engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret words of the speaker")

    monkeypatch.setattr(engine._model, "encode", fail)
    audio = np.full(RATE_HZ, 0.1, np.float32)
    hypothesise = partial(engine.hypothesise, context_s=10, complete=True)
    for method in (engine.transcribe, hypothesise):
        with pytest.raises(EngineError, match=r"^RuntimeError in faster-whisper$"):
            method(audio, language="en")


def test_a_missing_model_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(EngineLoadError, match=r"no model 'base' in .* there is: no model$"):
        find_model(tmp_path, "base")
    for name in ("tiny", "turbo", "empty"):
        (tmp_path / name).mkdir()
    for name in ("tiny", "turbo"):
        (tmp_path / name / "model.bin").touch()
    with pytest.raises(EngineLoadError, match=r"there is: tiny, turbo$"):
        find_model(tmp_path, "base")
    assert find_model(tmp_path, "turbo") == (tmp_path / "turbo").resolve()


def test_a_broken_model_is_a_load_error(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"not a model")
    with pytest.raises(EngineLoadError, match="cannot load the model"):
        load_engine(tmp_path, workers=1, threads_per_worker=1)


@pytest.mark.parametrize(
    ("threads", "cpus", "planned"),
    [
        (1, 2, (1, 1)),
        (2, 2, (2, 1)),
        (8, 2, (2, 1)),
        (3, 8, (2, 1)),
        (4, 8, (2, 2)),
        (8, 8, (4, 2)),
        (0, 4, (1, 1)),
    ],
)
def test_workers_and_threads_never_exceed_the_machine(
    threads: int, cpus: int, planned: tuple[int, int]
) -> None:
    assert plan_workers(threads, cpus=cpus) == planned
