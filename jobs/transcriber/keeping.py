"""Which files an admin wishes to keep: variables that only administrators send (calls-plugin.md 6.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

ARTIFACTS: Final = ("json", "srt", "md", "vtt", "txt")
_TRUE: Final = ("1", "t", "true")
_FALSE: Final = ("", "0", "f", "false")


def artifacts(environ: Mapping[str, str], warnings: list[str]) -> str:
    """ARTIFACTS: names with commas, each once, in the order of `ARTIFACTS`; unknown ones are left out."""
    given = [name.strip().lower() for name in environ.get("ARTIFACTS", "").split(",")]
    unknown = sorted({name for name in given if name and name not in ARTIFACTS})
    if unknown:
        warnings.append(
            f"ARTIFACTS: {', '.join(unknown)!r} should be of {', '.join(ARTIFACTS)}; left out"
        )
    return ",".join(name for name in ARTIFACTS if name in given)


def keep_audio(environ: Mapping[str, str], warnings: list[str]) -> bool:
    """KEEP_AUDIO; what cannot be understood keeps nothing."""
    text = environ.get("KEEP_AUDIO", "").strip().lower()
    if text not in _TRUE + _FALSE:
        warnings.append(f"KEEP_AUDIO={text!r}: should be true or false; no audio is kept")
    return text in _TRUE
