"""libespeak-ng through ctypes: speech with the start time of every word, no process per sentence.

Needs the Debian package `libespeak-ng1`. One synthesiser per process: the library keeps global state.
"""

from __future__ import annotations

import ctypes
from ctypes.util import find_library
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_EVENT_END_OF_LIST = 0
_EVENT_WORD = 1
_OUTPUT_SYNCHRONOUS = 2
_CHARACTERS_UTF8 = 1
_PARAMETERS = {"rate_wpm": 1, "volume": 2, "pitch": 3, "pitch_range": 4}
_SILENCE_LEVEL = 0.004


class _EventId(ctypes.Union):
    _fields_ = (
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * 8),
    )


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True, slots=True)
class Voice:
    """How a sentence is spoken."""

    name: str = "en-us"
    """espeak voice with an optional variant, such as `gmw/en+f2`. `en-gb` does not load; `gmw/en` does."""
    rate_wpm: int = 160
    pitch: int = 50
    pitch_range: int = 50


@dataclass(frozen=True, slots=True)
class Utterance:
    """What was synthesised."""

    samples: NDArray[np.float32]
    """Mono, ±1, at `rate_hz`; silence before and after is kept as espeak made it."""
    rate_hz: int
    words: tuple[tuple[str, float, float], ...]
    """(word, start_s, end_s); a word ends where the next one starts, the last one at the last sound."""


class Espeak:
    """The synthesiser. Raises OSError when the library is missing or refuses a voice."""

    def __init__(self) -> None:
        path = find_library("espeak-ng") or "libespeak-ng.so.1"
        self._library = ctypes.CDLL(path)
        self.rate_hz = int(self._library.espeak_Initialize(_OUTPUT_SYNCHRONOUS, 500, None, 0))
        if self.rate_hz <= 0:
            raise OSError(f"espeak_Initialize failed with {self.rate_hz}")
        self._samples: list[NDArray[np.int16]] = []
        self._starts: list[tuple[int, int, int]] = []
        # Kept as an attribute: the library calls it long after this constructor returned.
        self._callback = _CALLBACK(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def say(self, text: str, voice: Voice) -> Utterance:
        """Speak `text`, words separated by single spaces, without punctuation."""
        if self._library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise OSError(f"espeak does not know the voice {voice.name!r}")
        for name, number in _PARAMETERS.items():
            value = getattr(voice, name, 100)
            self._library.espeak_SetParameter(number, value, 0)
        self._samples.clear()
        self._starts.clear()
        encoded = text.encode() + b"\0"
        self._library.espeak_Synth(encoded, len(encoded), 0, 1, 0, _CHARACTERS_UTF8, None, None)
        self._library.espeak_Synchronize()
        samples = np.concatenate(self._samples).astype(np.float32) / 32768
        return Utterance(samples, self.rate_hz, self._words(text, samples))

    def _words(
        self, text: str, samples: NDArray[np.float32]
    ) -> tuple[tuple[str, float, float], ...]:
        loud = np.flatnonzero(np.abs(samples) > _SILENCE_LEVEL)
        end_s = float(loud[-1]) / self.rate_hz if loud.size else len(samples) / self.rate_hz
        starts = [sample / self.rate_hz for _, _, sample in self._starts]
        ends = [*starts[1:], end_s]
        words = [text[p - 1 : p - 1 + length] for p, length, _ in self._starts]
        return tuple(zip(words, starts, ends, strict=True))

    def _receive(self, samples: ctypes.Array[ctypes.c_short], count: int, events: object) -> int:
        if count > 0:
            block = np.ctypeslib.as_array(samples, shape=(count,)).copy()
            self._samples.append(block)
        index = 0
        while events[index].type != _EVENT_END_OF_LIST:
            event = events[index]
            if event.type == _EVENT_WORD:
                self._starts.append((event.text_position, event.length, event.sample))
            index += 1
        return 0
