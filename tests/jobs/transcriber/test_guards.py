"""What nobody said is left out and what somebody said stays, with a model that invents and the real one."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.transcriber.audio import read_audio_file
from jobs.transcriber.engines.base import EngineInfo, Recognition, Word
from jobs.transcriber.engines.guards import GuardedEngine, believable, is_silent, without_loops
from jobs.transcriber.engines.hints import CallHints

RATE_HZ = 16_000
LOUD = np.full(5 * RATE_HZ, 0.1, np.float32)


def said(text: str, *, probability: float = 0.9, **figures: float) -> Recognition:
    words = tuple(
        Word(word, 0.3 * index, 0.3 * index + 0.3, probability)
        for index, word in enumerate(text.split())
    )
    return Recognition(words, "en", **{"mean_log_probability": -0.3, **figures})


class Inventor:
    """Hears the same whatever is played to it."""

    info = EngineInfo("fake", "fake", "cpu", "none", 1, 1, multilingual=True)

    def __init__(self, result: Recognition) -> None:
        self.result = result
        self.calls = 0

    def transcribe(self, audio, *, language) -> Recognition:
        self.calls += 1
        return self.result

    def hypothesise(self, audio, *, language, context_s, complete) -> Recognition:
        return self.transcribe(audio, language=language)


UNSURE = {"no_speech_probability": 0.5}


@pytest.mark.parametrize(
    "invented",
    [
        said("we all agree", no_speech_probability=0.7, mean_log_probability=-1.2),
        said("Thank you.", **UNSURE),
        said("Thanks for watching!", probability=0.2),
        said("Vielen Dank.", mean_log_probability=-0.9),
        said("ご視聴ありがとうございました", **UNSURE),
        said("Subtitles by the Amara.org community"),
        said("Untertitel im Auftrag des ZDF, 2020"),
        said("Sous-titres réalisés par la communauté d'Amara.org"),
        said("Субтитры создавал DimaTorzok"),
        said("Ada Lovelace, Grace Hopper.", **UNSURE),
    ],
    ids=lambda result: result.text,
)
def test_inventions_are_left_out(invented: Recognition) -> None:
    hints = CallHints(channel_name="Town Square")
    for name in ("Ada Lovelace", "Grace Hopper", "Alan Turing"):
        hints.participant(name)
    engine = GuardedEngine(Inventor(invented), hints=hints)
    assert engine.transcribe(LOUD, language=None).words == ()
    assert engine.hypothesise(LOUD, language=None, context_s=10, complete=True).words == ()
    assert engine.rejected == 2


@pytest.mark.parametrize(
    "spoken",
    [
        said("Thank you."),
        said("Thank you all for the report", **UNSURE),
        said("Ada Lovelace, Grace Hopper."),
        said("Ada will ask Grace Hopper", **UNSURE),
        said("no no no no"),
        said("zero zero zero zero zero", compression_ratio=2.1),
        said("we need the subtitles of the film"),
        said("quiet but true", no_speech_probability=0.7, mean_log_probability=-0.4),
        said("doubtful but said", mean_log_probability=-1.4),
    ],
    ids=lambda result: result.text,
)
def test_what_was_said_stays(spoken: Recognition) -> None:
    hints = CallHints(vocabulary=["Ada Lovelace", "Grace Hopper"])
    engine = GuardedEngine(Inventor(spoken), hints=hints)
    assert engine.transcribe(LOUD, language=None) == spoken
    assert engine.rejected == 0


def test_a_stuck_decoder_says_its_phrase_once() -> None:
    looped = said("so the plan is " * 12 + "done", compression_ratio=5.0)
    assert believable(looped, audio_s=30).text == "so the plan is done"
    words = said("a " + "b c " * 4 + "d d d e").words
    assert [word.text for word in without_loops(words)] == ["a", "b", "c", "d", "d", "d", "e"]


def test_more_words_than_anybody_can_say_are_a_loop() -> None:
    assert believable(said("yes " * 30), audio_s=1.0).text == "yes"
    assert believable(said("yes " * 30), audio_s=10.0).text.count("yes") == 30


@pytest.mark.parametrize(
    ("audio", "silent"),
    [
        (np.zeros(0, np.float32), True),
        (np.zeros(RATE_HZ, np.float32), True),
        (np.full(RATE_HZ, 0.0005, np.float32), True),
        (np.full(RATE_HZ, 0.002, np.float32), False),
        (np.r_[np.zeros(RATE_HZ), np.full(1600, 0.01)].astype(np.float32), False),
    ],
)
def test_silence_is_not_even_shown_to_the_model(audio: np.ndarray, silent: bool) -> None:
    inventor = Inventor(said("Thank you for your attention"))
    heard = GuardedEngine(inventor).transcribe(audio, language="de")
    assert is_silent(audio) is silent
    assert (heard.words == ()) is silent
    assert inventor.calls == (0 if silent else 1)
    assert heard.language == ("de" if silent else "en")


def _sounds() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(11)
    time_s = np.arange(8 * RATE_HZ) / RATE_HZ
    chord = sum(np.sin(2 * np.pi * hertz * time_s) for hertz in (220, 277.2, 329.6, 440))
    melody = np.sin(
        2 * np.pi * np.repeat(rng.choice([262, 294, 330, 392, 440], 16), RATE_HZ // 2) * time_s
    )
    beat = np.tile(np.exp(-np.arange(RATE_HZ // 2) / 900) * rng.normal(0, 1, RATE_HZ // 2), 16)
    sounds = {
        "silence": np.zeros(8 * RATE_HZ),
        "hum": 0.0008 * np.sin(2 * np.pi * 50 * time_s),
        "quiet noise": rng.normal(0, 0.003, 8 * RATE_HZ),
        "loud noise": rng.normal(0, 0.1, 8 * RATE_HZ),
        "tone": 0.3 * np.sin(2 * np.pi * 1000 * time_s),
        "chord": 0.1 * chord * (1 + np.sin(2 * np.pi * 2 * time_s)) / 2,
        "melody": 0.3 * melody,
        "drum": 0.3 * beat,
        "band": 0.05 * chord + 0.1 * melody + 0.1 * beat,
    }
    return {name: sound.astype(np.float32) for name, sound in sounds.items()}


@pytest.mark.parametrize("sound", _sounds())
def test_no_sound_that_is_no_speech_gives_words(engine, sound: str) -> None:
    audio = _sounds()[sound]
    assert engine.transcribe(audio, language=None).words == ()
    assert engine.hypothesise(audio, language="en", context_s=10, complete=True).words == ()


@pytest.mark.slow
def test_guards_cost_no_word_of_real_sentences(clips, engine) -> None:
    audio = read_audio_file(clips["carol"].path)
    for sentence in clips["carol"].sentences:
        piece = audio[round(sentence.start_s * RATE_HZ) : round(sentence.end_s * RATE_HZ)]
        plain = engine._engine.transcribe(piece, language="en")
        assert plain.words
        assert engine.transcribe(piece, language="en") == plain
