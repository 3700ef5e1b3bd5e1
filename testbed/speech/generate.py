"""Makes the bundled clips: one sentence per Ogg Opus file, text and word times of all in clips.json.

    python -m testbed.speech.generate          (from the repository root; needs libespeak-ng1)

Not needed to run anything: its results are kept beside it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from testbed.speech.clips import CLIPS_DIRECTORY, INDEX_NAME
from testbed.speech.opus_file import resample, write_opus
from tools.train_words_model.espeak import Espeak, Utterance, Voice

_PEAK: Final = 0.4
"""Two clips at once still stay below full scale."""
_LEAD_S: Final = 0.1
_TAIL_S: Final = 0.2
_SOUND_LEVEL: Final = 0.01

VOICES: Final = {
    "alice": Voice("gmw/en+f2", rate_wpm=150, pitch=60),
    "bob": Voice("en-us+m3", rate_wpm=155, pitch=40),
    "carol": Voice("en-gb-x-rp+f1", rate_wpm=145, pitch=55),
}
"""Voices the bundled model was trained on, one per bot."""

SENTENCES: Final = {
    "alice": (
        "good morning everyone welcome",
        "start the recording now please",
        "the new budget will need more review",
        "bob will check the server on monday",
        "thank you everyone the meeting is done",
        "the next meeting is on wednesday",
    ),
    "bob": (
        "hello alice the report is done",
        "we will finish the project next week",
        "the customer will need the update today",
        "please send the notes and the summary",
        "the second problem is closed now",
    ),
    "carol": (
        "the new server is open now",
        "please share the plan with everyone",
        "we will need one more review",
        "the report and the summary is done",
        "thanks everyone and goodbye",
        "the last deadline is on tuesday",
    ),
}


def main() -> None:
    """Write every clip and the index."""
    espeak = Espeak()
    CLIPS_DIRECTORY.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, Any]] = []
    for speaker, sentences in SENTENCES.items():
        for number, text in enumerate(sentences, 1):
            entries.append(_make_clip(espeak, speaker, number, text, CLIPS_DIRECTORY))
    document = {"made_with": "espeak-ng", "clips": entries}
    (CLIPS_DIRECTORY / INDEX_NAME).write_text(json.dumps(document, indent=1) + "\n")


def _make_clip(
    espeak: Espeak, speaker: str, number: int, text: str, directory: Path
) -> dict[str, Any]:
    spoken = espeak.say(text, VOICES[speaker])
    samples, cut_s = trimmed(spoken)
    name = f"{speaker}-{number:02}.opus"
    write_opus(directory / name, resample(samples, spoken.rate_hz))
    shift_s = _LEAD_S - cut_s
    words = [
        # espeak's first word event comes before its first sound; a listener hears the sound.
        {
            "word": word,
            "start_s": round(max(start, cut_s) + shift_s, 3),
            "end_s": round(end + shift_s, 3),
        }
        for word, start, end in every_word(text, spoken)
    ]
    voice = VOICES[speaker]
    return {"file": name, "speaker": speaker, "voice": voice.name, "text": text, "words": words}


def every_word(text: str, spoken: Utterance) -> list[tuple[str, float, float]]:
    """(word, start_s, end_s) of all words of `text`.

    espeak reports pairs such as "with the" as one word; they share its span by their length.
    """
    events = list(spoken.words)
    groups: list[tuple[list[str], float, float]] = []
    for word in text.split():
        if events and events[0][0] == word:
            _, start_s, end_s = events.pop(0)
            groups.append(([word], start_s, end_s))
        else:
            groups[-1][0].append(word)
    timed: list[tuple[str, float, float]] = []
    for words, start_s, end_s in groups:
        per_letter_s = (end_s - start_s) / sum(map(len, words))
        for word in words:
            timed.append((word, start_s, start_s + per_letter_s * len(word)))
            start_s = timed[-1][2]
    return timed


def trimmed(spoken: Utterance) -> tuple[NDArray[np.float32], float]:
    """The sound between fixed silences, and how much of espeak's own lead was cut off, s."""
    loud = np.flatnonzero(np.abs(spoken.samples) > _SOUND_LEVEL)
    first, last = int(loud[0]), int(loud[-1])
    sound = spoken.samples[first : last + 1]
    lead = np.zeros(round(_LEAD_S * spoken.rate_hz), np.float32)
    tail = np.zeros(round(_TAIL_S * spoken.rate_hz), np.float32)
    scaled = sound * (_PEAK / float(np.abs(sound).max()))
    return np.concatenate([lead, scaled, tail]), first / spoken.rate_hz


if __name__ == "__main__":
    main()
