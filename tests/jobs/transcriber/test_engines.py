"""The local engine with the bundled model: silence gives no words, bounds hold, errors are ours."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jobs.transcriber.audio import read_audio_file
from jobs.transcriber.engines import devices, faster_whisper
from jobs.transcriber.engines.base import EngineError, EngineLoadError
from jobs.transcriber.engines.catalogue import find_model, load_engine, plan_workers
from jobs.transcriber.engines.faster_whisper import FasterWhisperEngine
from jobs.transcriber.engines.hints import CallHints

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


@pytest.mark.documents("a-speech-engine-that-falls-over/3")
def test_a_failure_inside_the_library_is_an_engine_error(
    engine, monkeypatch: pytest.MonkeyPatch, documented
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret words of the speaker")

    monkeypatch.setattr(engine._engine._model, "encode", fail)
    audio = np.full(RATE_HZ, 0.1, np.float32)
    hypothesise = partial(engine.hypothesise, context_s=10, complete=True)
    for method in (engine.transcribe, hypothesise):
        with pytest.raises(EngineError, match=r"^RuntimeError in faster-whisper$") as failed:
            method(audio, language="en")
        documented("a-speech-engine-that-falls-over/3", str(failed.value))


@pytest.mark.documents("no-such-model")
def test_a_missing_model_says_what_there_is(tmp_path: Path, documented) -> None:
    with pytest.raises(EngineLoadError, match=r"no model 'base' in .* there is: no model$"):
        find_model(tmp_path, "base")
    for name in ("tiny", "turbo", "empty"):
        (tmp_path / name).mkdir()
    for name in ("tiny", "turbo"):
        (tmp_path / name / "model.bin").touch()
    with pytest.raises(EngineLoadError, match=r"there is: tiny, turbo$") as missing:
        find_model(tmp_path, "base")
    documented("no-such-model", str(missing.value))
    assert find_model(tmp_path, "turbo") == (tmp_path / "turbo").resolve()


@pytest.mark.parametrize(
    ("folder", "asked"),
    [
        ("faster-whisper-base", "base"),
        ("large-v3-turbo", "turbo"),
        ("faster-whisper-large-v3-turbo", "turbo"),
        ("large-v2", "large"),
        ("faster-distil-large-v3", "distil"),
        ("our-own", "our-own"),
    ],
)
def test_models_are_found_by_the_names_that_they_have_elsewhere(
    tmp_path: Path, folder: str, asked: str
) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "model.bin").touch()
    assert find_model(tmp_path, asked).name == folder


@pytest.mark.documents("models-of-another-engine")
def test_models_of_whisper_cpp_are_recognised(tmp_path: Path, documented) -> None:
    (tmp_path / "ggml-base.bin").touch()
    with pytest.raises(EngineLoadError) as missing:
        find_model(tmp_path, "base")
    documented("models-of-another-engine", str(missing.value))


@pytest.mark.documents("a-model-that-cannot-be-loaded")
def test_a_broken_model_is_a_load_error(tmp_path: Path, documented) -> None:
    (tmp_path / "model.bin").write_bytes(b"not a model")
    with pytest.raises(EngineLoadError) as failed:
        load_engine(tmp_path, workers=1, threads_per_worker=1)
    documented("a-model-that-cannot-be-loaded", str(failed.value))


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


# where it computes


@pytest.mark.parametrize(
    ("cards", "known", "asked", "found"),
    [
        (0, set(), "auto", [("cpu", "int8")]),
        (0, set(), "float16", [("cpu", "int8")]),
        (0, set(), "float32", [("cpu", "float32")]),
        (1, {"float16", "int8", "float32"}, "auto", [("cuda", "float16"), ("cpu", "int8")]),
        (1, {"int8", "float32"}, "auto", [("cuda", "int8"), ("cpu", "int8")]),
        (1, {"float16", "int8"}, "int8", [("cuda", "int8"), ("cpu", "int8")]),
        (1, {"float32"}, "int8_float16", [("cuda", "float32"), ("cpu", "int8")]),
    ],
)
def test_a_cuda_device_is_preferred_and_the_processor_is_always_there(
    monkeypatch: pytest.MonkeyPatch,
    cards: int,
    known: set[str],
    asked: str,
    found: list[tuple[str, str]],
) -> None:
    import ctranslate2

    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: cards)
    monkeypatch.setattr(ctranslate2, "get_supported_compute_types", lambda _: known)
    assert list(devices.candidates(asked)) == found


def test_a_cuda_device_that_does_not_work_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a driver without cuBLAS, which shows at the first computation only."""
    tried: list[tuple[str, str, int]] = []
    load = faster_whisper._load

    def broken_card(model_dir: Path, **options: object) -> object:
        tried.append((options["device"], options["compute_type"], options["cpu_threads"]))
        if options["device"] == "cuda":
            raise RuntimeError("Library libcublas.so.12 is not found or cannot be loaded")
        return load(model_dir, **options)

    both = [("cuda", "float16"), ("cpu", "int8")]
    monkeypatch.setattr(faster_whisper, "candidates", lambda _: iter(both))
    monkeypatch.setattr(faster_whisper, "_load", broken_card)
    model_dir = Path(__file__).parents[3] / "models" / "tiny"
    engine = FasterWhisperEngine(model_dir, workers=1, threads_per_worker=1)
    assert tried == [("cuda", "float16", 1), ("cpu", "int8", 1)]
    assert (engine.info.device, engine.info.compute_type) == ("cpu", "int8")


# what a scripted model is asked


class ScriptedModel:
    """In the library's place: a multilingual model that answers from a list of figures."""

    def __init__(self, *figures: tuple[float, float]) -> None:
        self.figures = list(figures)
        self.asked: list[dict[str, object]] = []
        self.model = SimpleNamespace(is_multilingual=True)
        self.hf_tokenizer = SimpleNamespace(
            get_vocab_size=lambda: 51_865,
            encode=lambda text, add_special_tokens: SimpleNamespace(
                ids=[ord(character) for character in text]
            ),
        )

    def transcribe(self, audio, **options):
        self.asked.append(options)
        log_probability, compression = self.figures.pop(0)
        word = SimpleNamespace(word=f" take{len(self.asked)}", start=0.0, end=1.0, probability=0.9)
        segment = SimpleNamespace(
            words=[word],
            avg_logprob=log_probability,
            compression_ratio=compression,
            no_speech_prob=0.0,
        )
        return iter([segment]), SimpleNamespace(language=options["language"] or "en")

    def detect_language(self, audio):
        return "de", 0.8, [("de", 0.8), ("nl", 0.2)]


def _scripted(
    monkeypatch: pytest.MonkeyPatch, *figures: tuple[float, float], hints: CallHints | None = None
) -> tuple[ScriptedModel, FasterWhisperEngine]:
    model = ScriptedModel(*figures)
    monkeypatch.setattr(faster_whisper, "_load", lambda *_, **__: model)
    engine = FasterWhisperEngine(Path("m"), workers=1, threads_per_worker=1, hints=hints)
    return model, engine


AUDIO = np.full(3 * RATE_HZ, 0.1, np.float32)


@pytest.mark.parametrize(
    ("figures", "text"),
    [
        ([(-0.4, 1.0)], "take1"),
        ([(-1.2, 1.0), (-0.6, 1.0)], "take2"),
        ([(-1.2, 1.0), (-1.5, 1.0)], "take1"),
        ([(-0.2, 4.0), (-0.9, 1.5)], "take2"),
    ],
)
def test_a_doubtful_text_is_heard_once_more_with_care(
    monkeypatch: pytest.MonkeyPatch, figures: list[tuple[float, float]], text: str
) -> None:
    hints = CallHints(vocabulary=["Kubernetes"])
    model, engine = _scripted(monkeypatch, *figures, hints=hints)
    assert engine.transcribe(AUDIO, language="de").text == text
    assert [options["beam_size"] for options in model.asked] == [1, 5][: len(figures)]
    assert [bool(options["initial_prompt"]) for options in model.asked] == [True, False][
        : len(figures)
    ]
    assert all(options["temperature"] == 0.0 for options in model.asked)


def test_the_model_is_told_of_the_call_in_few_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    hints = CallHints(vocabulary=["Kubernetes"])
    model, engine = _scripted(monkeypatch, (-0.1, 1.0), (-0.1, 1.0), hints=hints)
    engine.transcribe(AUDIO, language="en")
    for name in ("Ada Lovelace", *("x" * 50,) * 3, "y" * 50):
        hints.participant(name)
    engine.transcribe(AUDIO, language="en")
    told = ["".join(map(chr, options["initial_prompt"])) for options in model.asked]
    assert told[0] == " Kubernetes"
    assert told[1].startswith(" Kubernetes Ada Lovelace, xxx")
    assert len(told[1]) == len(" Kubernetes") + 64


def test_a_model_of_few_words_is_told_nothing(engine) -> None:
    plain = engine._engine
    plain._hints.participant("Ada Lovelace")
    assert plain._hint_tokens() == ()


def test_locales_are_languages_to_it_and_languages_can_be_detected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, engine = _scripted(monkeypatch, (-0.1, 1.0), (-0.1, 1.0))
    assert engine.info.detects_language
    assert engine.transcribe(AUDIO, language="de-AT").language == "de"
    engine.transcribe(AUDIO, language=None)
    assert [options["language"] for options in model.asked] == ["de", None]
    assert engine.detect_language(AUDIO) == (("de", 0.8), ("nl", 0.2))
    assert engine.detect_language(AUDIO[:100]) == ()


@pytest.mark.parametrize(
    ("seconds", "prompt", "length"), [(3, 3, 64), (30, 3, 448), (0.5, 100, 112), (3, 40, 72)]
)
def test_the_limit_leaves_room_for_the_prompt(seconds: float, prompt: int, length: int) -> None:
    """CTranslate2 allows min(max_length / 2, max_length - prompt) tokens."""
    assert faster_whisper._max_length(seconds, prompt=prompt) == length


def test_hints_pass_through_the_real_library(
    clips, engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With names that it knows even the small model gets along."""
    plain = engine._engine
    monkeypatch.setattr(plain, "_takes_hints", True)
    monkeypatch.setattr(plain, "_hints", CallHints(vocabulary=["alice", "bob", "carol"]))
    sentence = clips["carol"].sentences[2]
    audio = read_audio_file(clips["carol"].path)
    piece = audio[
        round((sentence.start_s - 0.3) * RATE_HZ) : round((sentence.end_s + 0.3) * RATE_HZ)
    ]
    assert len(plain._hint_tokens()) > 3
    assert engine.transcribe(piece, language="en").text == sentence.text
    heard = engine.hypothesise(piece, language="en", context_s=10, complete=True)
    assert heard.text == sentence.text


@pytest.mark.documents("a-models-name-that-is-none")
@pytest.mark.parametrize("name", ["../other", "/etc", "a/../base", ".", "base\n"])
def test_a_model_is_looked_for_by_name_and_never_by_path(
    name: str, tmp_path: Path, documented: Any
) -> None:
    """Also where a dead job's description says something else: whoever finishes it looks here."""
    models = tmp_path / "models"
    for folder in (tmp_path / "other", models / "base"):
        folder.mkdir(parents=True)
        (folder / "model.bin").touch()
    with pytest.raises(EngineLoadError) as refused:
        find_model(models, name)
    documented("a-models-name-that-is-none", str(refused.value))
