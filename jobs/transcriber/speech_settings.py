"""Which languages, words, models and services: variables that only administrators send (calls-plugin.md 6.5).

What cannot be used here is a warning and is left out: a slip in a word list must not cost a transcript.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

from foundation.logs import get_logger
from jobs.settings import SettingsError
from jobs.transcriber.engines.devices import AUTOMATIC, COMPUTE_TYPES
from jobs.transcriber.engines.hints import MAX_WORD_CHARACTERS, MAX_WORDS, clean
from jobs.transcriber.engines.languages import code_of
from jobs.transcriber.engines.remote_options import OPTION_NAMES, may_go

_CAPTION_LANGUAGE: Final = "en"
_CAPTION_CONTEXT_S: Final = 10.0
_LEAST_CONTEXT_S: Final = 8.0
_FULL_CONTEXT_S: Final = 30.0
_log = get_logger(component="speech-settings")
_SEPARATORS: Final = re.compile(r"[,;\n]+")


def model_name(environ: Mapping[str, str], variable: str) -> str:
    """A folder of MODELS_DIR, or empty. Raises SettingsError for what is no name."""
    text = environ.get(variable, "").strip()
    if "/" in text or "\\" in text or text.startswith("."):
        raise SettingsError(f"{variable}={text!r}: should be the name of a folder in MODELS_DIR")
    return text


def languages(environ: Mapping[str, str], warnings: list[str]) -> str:
    """LANGUAGES: what is spoken, separated by commas; empty or `auto`: anything goes."""
    found = [
        language
        for text in _SEPARATORS.split(environ.get("LANGUAGES", ""))
        if text.strip().lower() not in ("", AUTOMATIC)
        and (language := _language(text.strip(), warnings))
    ]
    return ",".join(dict.fromkeys(found))


def caption_language(environ: Mapping[str, str], warnings: list[str]) -> str:
    """LIVE_CAPTIONS_LANGUAGE: one for everybody, `en` when it is not usable; empty for `auto`."""
    text = environ.get("LIVE_CAPTIONS_LANGUAGE", "").strip() or _CAPTION_LANGUAGE
    if text.lower() == AUTOMATIC:
        return ""
    if not code_of(text):
        warnings.append(
            f"LIVE_CAPTIONS_LANGUAGE={text!r}: should be auto or a code such as en or de"
        )
        return _CAPTION_LANGUAGE
    return text


def caption_context(environ: Mapping[str, str], warnings: list[str]) -> float:
    """LIVE_CAPTIONS_CONTEXT_S: what captions' models hear at least, s; 30 is what they are made for."""
    text = environ.get("LIVE_CAPTIONS_CONTEXT_S", "").strip()
    try:
        value = float(text or _CAPTION_CONTEXT_S)
    except ValueError:
        value = 0.0
    if not _LEAST_CONTEXT_S <= value <= _FULL_CONTEXT_S:
        warnings.append(
            f"LIVE_CAPTIONS_CONTEXT_S={text!r}: should be {_LEAST_CONTEXT_S:g} to {_FULL_CONTEXT_S:g}; "
            f"{_CAPTION_CONTEXT_S:g} is used"
        )
        return _CAPTION_CONTEXT_S
    return value


def vocabulary(environ: Mapping[str, str], warnings: list[str]) -> str:
    """VOCABULARY: words and names, separated by commas, semicolons or lines. Never in a log line."""
    given = [text.strip() for text in _SEPARATORS.split(environ.get("VOCABULARY", ""))]
    words = list(dict.fromkeys(clean(text) for text in given if clean(text)))
    long = sum(len(text) > MAX_WORD_CHARACTERS for text in given)
    if long:
        warnings.append(
            f"VOCABULARY: {long} entries are longer than {MAX_WORD_CHARACTERS} characters and were cut"
        )
    if len(words) > MAX_WORDS:
        warnings.append(f"VOCABULARY: {len(words)} entries; the first {MAX_WORDS} are used")
    return ",".join(words[:MAX_WORDS])


def compute_type(environ: Mapping[str, str], warnings: list[str]) -> str:
    """COMPUTE_TYPE of the local engine."""
    text = environ.get("COMPUTE_TYPE", "").strip().lower() or AUTOMATIC
    if text not in COMPUTE_TYPES:
        warnings.append(f"COMPUTE_TYPE={text!r}: should be one of {', '.join(COMPUTE_TYPES)}")
        return AUTOMATIC
    return text


def api_options(environ: Mapping[str, str]) -> str:
    """TRANSCRIBE_API_OPTIONS as JSON, completed by variables of the options' own names.

    The four letters `null` are the usual value (trap 39).

    Raises:
        SettingsError: it is no JSON object.
    """
    text = environ.get("TRANSCRIBE_API_OPTIONS", "")
    try:
        value = json.loads(text) if text.strip() else None
    except ValueError:
        raise SettingsError("failed to parse TranscribeAPIOptions: should be JSON") from None
    if value is not None and not isinstance(value, dict):
        raise SettingsError("failed to parse TranscribeAPIOptions: should be an object or null")
    own = {name: environ[name].strip() for name in OPTION_NAMES if environ.get(name, "").strip()}
    options = {**(value or {}), **own}
    if "ALLOWED_SPEECH_URLS" in environ and not may_go(options, environ["ALLOWED_SPEECH_URLS"]):
        # Let in by an earlier release: what is finished now is transcribed here.
        _log.warning(
            "service.not_allowed", reason="see jobs.allowed_speech_urls of the job service"
        )
        return "null"
    return json.dumps(options or None)


def _language(text: str, warnings: list[str]) -> str:
    """`de`, or a locale as it is: `de-AT`; empty with a warning when there is no such language."""
    code = code_of(text)
    if not code:
        warnings.append(
            f"LANGUAGES: {text!r} is no language code such as en, de or pt-BR; it is left out"
        )
        return ""
    region = text.replace("_", "-").partition("-")[2]
    return f"{code}-{region.upper()}" if re.fullmatch(r"[A-Za-z]{2}|\d{3}", region) else code
