"""Languages are settled per speaker among those allowed, and doubted when the text is bad."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.transcriber.captions import CaptionBoard, CaptionOptions
from jobs.transcriber.engines.base import EngineError, EngineInfo, Recognition, Word
from jobs.transcriber.language import SpokenLanguages
from jobs.transcriber.listening import UtteranceEnded, UtteranceStarted

RATE_HZ = 16_000


class Polyglot:
    """A scripted model: what is spoken stands in the audio's first sample, as index into `SPOKEN`."""

    SPOKEN = ("en", "de", "fr", "ja")

    def __init__(self, *, detects: bool = True, multilingual: bool = True) -> None:
        self.info = EngineInfo(
            "fake", "fake", "cpu", "none", 1, 1, multilingual=multilingual, detects_language=detects
        )
        self.asked: list[str | None] = []
        self.detections = 0
        self.share = 0.9
        self.broken: set[str | None] = set()
        self.detector_broken = False

    def transcribe(self, audio, *, language) -> Recognition:
        self.asked.append(language)
        if language in self.broken:
            raise EngineError(f"no {language} today")
        spoken = self.SPOKEN[int(audio[0])]
        heard = (language or spoken).partition("-")[0]
        fits = heard == spoken
        return Recognition((Word("word", 0, 1, 0.9),), heard, -0.3 if fits else -1.3)

    def detect_language(self, audio):
        self.detections += 1
        if self.detector_broken:
            raise EngineError("broken")
        spoken = self.SPOKEN[int(audio[0])]
        rest = [code for code in self.SPOKEN if code != spoken]
        return ((spoken, self.share), *((code, (1 - self.share) / 3) for code in rest))


def speech(language: str, seconds: float = 4.0) -> np.ndarray:
    return np.full(round(seconds * RATE_HZ), Polyglot.SPOKEN.index(language), np.float32)


def test_everybody_has_a_language_and_keeps_it_without_being_asked_again() -> None:
    engine = Polyglot()
    languages = SpokenLanguages(engine)
    for _ in range(3):
        assert languages.recognise("ada", speech("en")).language == "en"
        assert languages.recognise("bert", speech("de")).language == "de"
    assert engine.asked == ["en", "de"] * 3
    assert engine.detections == 2
    assert (languages.of("ada"), languages.of("bert"), languages.of("cy")) == ("en", "de", "")


def test_what_is_not_allowed_is_not_heard() -> None:
    engine = Polyglot()
    languages = SpokenLanguages(engine, allowed=("de-AT", "en"))
    assert languages.recognise("ada", speech("ja")).language in ("de", "en")
    assert languages.recognise("bert", speech("de")).language == "de"
    assert languages.of("bert") == "de-AT"
    assert engine.asked[-1] == "de-AT"


def test_one_allowed_language_is_not_doubted() -> None:
    engine = Polyglot()
    languages = SpokenLanguages(engine, allowed=("fr",))
    assert languages.recognise("ada", speech("de")).language == "fr"
    assert languages.of("anybody") == "fr"
    assert (engine.asked, engine.detections) == (["fr"], 0)


def test_a_bad_text_is_heard_again_in_the_language_that_it_is_in() -> None:
    engine = Polyglot()
    languages = SpokenLanguages(engine)
    languages.recognise("ada", speech("en"))
    assert languages.recognise("ada", speech("fr")).language == "fr"
    assert engine.asked == ["en", "en", "fr"]
    assert languages.of("ada") == "fr"
    languages.recognise("ada", speech("fr"))
    assert engine.asked[3:] == ["fr"]


def test_a_short_word_changes_nobodys_language() -> None:
    engine = Polyglot()
    languages = SpokenLanguages(engine)
    languages.recognise("ada", speech("en"))
    languages.recognise("ada", speech("de", 0.5))
    assert languages.of("ada") == "en"
    assert languages.recognise("bert", speech("de", 0.5)).language == "de"
    assert languages.of("bert") == ""


def test_an_unsure_model_settles_by_and_by() -> None:
    engine = Polyglot()
    engine.share = 0.5
    languages = SpokenLanguages(engine)
    languages.recognise("ada", speech("de"))
    assert languages.of("ada") == ""
    for _ in range(3):
        languages.recognise("ada", speech("de"))
    assert languages.of("ada") == "de"


def test_a_wrong_language_that_sounds_right_is_noticed_within_minutes() -> None:
    engine = Polyglot()
    languages = SpokenLanguages(engine)
    languages.recognise("ada", speech("en"))
    fluent = Recognition((Word("translated", 0, 1, 0.9),), "en", -0.3)
    transcribe = engine.transcribe
    engine.transcribe = lambda audio, *, language: (
        fluent if language == "en" else transcribe(audio, language=language)
    )
    heard = [languages.recognise("ada", speech("de", 20)).language for _ in range(7)]
    assert heard[0] == "en"
    assert heard[-1] == "de"


def test_english_only_models_are_not_asked_about_languages() -> None:
    engine = Polyglot(multilingual=False, detects=False)
    SpokenLanguages(engine, allowed=("de", "fr")).recognise("ada", speech("de"))
    assert (engine.asked, engine.detections) == ([None], 0)


def test_a_broken_detector_or_language_costs_no_text() -> None:
    engine = Polyglot()
    engine.detector_broken = True
    languages = SpokenLanguages(engine)
    assert languages.recognise("ada", speech("de")).language == "de"
    engine.detector_broken = False
    languages.recognise("bert", speech("en"))
    engine.broken = {"fr"}
    assert languages.recognise("bert", speech("fr")).words  # bad, but there
    engine.broken = {"de"}
    with pytest.raises(EngineError, match="no de today"):
        languages.recognise("cy", speech("de"))


def test_engines_that_find_no_language_out_try_the_allowed_ones_once() -> None:
    engine = Polyglot(detects=False)
    languages = SpokenLanguages(engine, allowed=("en", "de", "fr"))
    assert languages.recognise("ada", speech("de")).language == "de"
    assert engine.asked == ["en", "de", "fr"]
    languages.recognise("ada", speech("de"))
    assert engine.asked[3:] == ["de"]
    assert languages.recognise("ada", speech("fr")).language == "fr"
    assert languages.recognise("bert", speech("en", 0.5)).language == "en"
    anything = Polyglot(detects=False)
    SpokenLanguages(anything).recognise("ada", speech("de"))
    assert anything.asked == [None]


def test_captions_hear_each_speaker_in_the_language_that_is_known_of_them() -> None:
    asked: list[str | None] = []

    class Listening(Polyglot):
        def hypothesise(self, audio, *, language, context_s, complete) -> Recognition:
            asked.append(language)
            return Recognition((), language or "")

    def caption(language: str | None) -> None:
        board = CaptionBoard(
            Listening(),
            options=CaptionOptions(
                language=language, language_of=lambda who: "de" if who == "s-bob" else ""
            ),
            publish=lambda _: None,
            report_metric=lambda *_: None,
        )
        for session_id in ("s-bob", "s-new"):
            board.hear(session_id, UtteranceStarted(0, 0, speech("de", 1)), now_s=0.0)
            board.hear(session_id, UtteranceEnded(0, 10**9, 10**9), now_s=0.0)
        while (job := board.next_job(1.0)) is not None:
            job.run()

    caption(None)
    caption("fr")
    assert asked == ["de", None, "fr", "fr"]
