"""What an admin may wish of every recording, by the plugin's environment (docs/recording.md).

`MM_CALLS_RECORDER_<X>` of the plugin reaches the job as the variable `<X>` (calls-plugin.md 6.5). A value
that means nothing costs a warning and never a recording: the default is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

LAYOUTS: Final = ("auto", "grid", "screen", "speaker")
QUALITIES: Final = ("low", "medium", "high", "best")
ENCODERS: Final = ("software", "auto", "nvenc", "qsv")
ARTIFACTS: Final = ("chapters", "poster", "speakers")
_NO_CAP: Final = 60
"""The most pictures a second that the plugin can ask for."""


@dataclass(frozen=True, slots=True)
class Options:
    """All of them, and what was wrong with some."""

    audio_only: bool = False
    layout: str = "auto"
    frame_rate_cap: int = _NO_CAP
    quality: str = "medium"
    encoder: str = "software"
    chapters: bool = True
    artifacts: str = ""
    """Names with commas, in the order of ARTIFACTS."""
    warnings: tuple[str, ...] = ()


def read_options(environ: Mapping[str, str]) -> Options:
    """Never raises; every warning names variable, value, wanted form and what is used instead."""
    reader = _Reader(environ)
    return Options(
        audio_only=reader.truth("AUDIO_ONLY", default=False),
        layout=reader.choice("LAYOUT", LAYOUTS),
        frame_rate_cap=reader.number("FRAME_RATE_CAP", low=2, high=_NO_CAP, default=_NO_CAP),
        quality=reader.choice("QUALITY", QUALITIES, default="medium"),
        encoder=reader.choice("ENCODER", ENCODERS),
        chapters=reader.truth("CHAPTERS", default=True),
        artifacts=reader.names("ARTIFACTS", ARTIFACTS),
        warnings=tuple(reader.warnings),
    )


class _Reader:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.warnings: list[str] = []

    def truth(self, variable: str, *, default: bool) -> bool:
        text = self._text(variable)
        if text in ("1", "t", "true"):
            return True
        if text in ("0", "f", "false"):
            return False
        if text:
            self._refuse(variable, "true or false", str(default).lower())
        return default

    def choice(self, variable: str, choices: tuple[str, ...], *, default: str = "") -> str:
        text, default = self._text(variable), default or choices[0]
        if text in choices:
            return text
        if text:
            self._refuse(variable, f"one of {', '.join(choices)}", default)
        return default

    def number(self, variable: str, *, low: int, high: int, default: int) -> int:
        """Empty and 0 mean the default, as for the reference's numbers."""
        text = self._text(variable)
        value = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None
        if not text or value == 0:
            return default
        if value is None or not low <= value <= high:
            self._refuse(variable, f"a whole number from {low} to {high}", str(default))
            return default
        return value

    def names(self, variable: str, known: tuple[str, ...]) -> str:
        """A list of names; `all` and `none` stand for what they say. Unknown names alone are left out."""
        wanted = {name.strip() for name in self._text(variable).split(",")} - {"", "none"}
        if "all" in wanted:
            wanted = wanted - {"all"} | set(known)
        used = ",".join(name for name in known if name in wanted)
        if wanted - set(known):
            self._refuse(variable, f"a list of {', '.join(known)} with commas", used or "none")
        return used

    def _text(self, variable: str) -> str:
        return self._environ.get(variable, "").strip().lower()

    def _refuse(self, variable: str, wanted: str, used: str) -> None:
        value = self._environ[variable].strip()[:80]
        self.warnings.append(f"{variable} = {value!r} should be {wanted}; {used} is used")
