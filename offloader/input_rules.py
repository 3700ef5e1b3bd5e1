"""Bounds and forms of `input_data`, whatever its keys mean. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from offloader.backends.environment import plain_text
from offloader.errors import InvalidJob

MOST_KEYS: Final = 128
LONGEST_KEY: Final = 128
"""Characters."""
LONGEST_VALUE_BYTES: Final = 32 * 1024
MOST_BYTES: Final = 64 * 1024
"""Of all keys and values together, escaped as the job gets them; an engine holds it before the job runs."""
DEEPEST: Final = 8
_MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MODELS: Final = frozenset(
    {"MODEL_SIZE", "MODEL", "FALLBACK_MODEL", "LIVE_CAPTIONS_MODEL_SIZE", "LIVE_CAPTIONS_MODEL"}
)
"""They become folders below MODELS_DIR."""
_SHOWN: Final = 64


def check_input(input_data: Mapping[str, Any]) -> None:
    """Raises InvalidJob for the first rule broken, in the wire's words; shows values of models alone."""
    if len(input_data) > MOST_KEYS:
        raise InvalidJob(
            f"invalid InputData value: {len(input_data)} entries: should be at most {MOST_KEYS}"
        )
    total_bytes = 0
    for key, value in input_data.items():
        shown = key[:_SHOWN]
        if len(key) > LONGEST_KEY:
            raise _wrong(shown, f"should be a name of at most {LONGEST_KEY} characters")
        if _depth(value) > DEEPEST:
            raise _wrong(shown, f"should be nested at most {DEEPEST} levels deep")
        if not _is_finite(value):
            raise _wrong(shown, "should hold no number beyond all bounds")
        text = "" if value is None else plain_text(value)
        if "\0" in text:
            raise _wrong(shown, "should not hold a NUL character")
        try:
            size_bytes = len(text.encode())
            total_bytes += len(json.dumps(key + text, ensure_ascii=False).encode()) - len('""')
        except UnicodeEncodeError:
            raise _wrong(shown, "should hold characters only, no halves of them") from None
        if size_bytes > LONGEST_VALUE_BYTES:
            raise _wrong(shown, f"should be at most {LONGEST_VALUE_BYTES} bytes long")
        if key.upper() in _MODELS and text and not _MODEL.fullmatch(text.strip()):
            raise _wrong(
                shown, f"is {text[:_SHOWN]!r}: should be the name of a model, such as base"
            )
    if total_bytes > MOST_BYTES:
        raise InvalidJob(
            f"invalid InputData value: {total_bytes} bytes: should be at most {MOST_BYTES} in all"
        )


def _depth(value: Any) -> int:
    """Levels of lists and objects; at most one more than `DEEPEST` are looked at."""
    level, depth = [value], 0
    while depth <= DEEPEST:
        inner = [v for v in level if isinstance(v, dict | list)]
        if not inner:
            return depth
        level = [item for v in inner for item in (v.values() if isinstance(v, dict) else v)]
        depth += 1
    return depth


def _is_finite(value: Any) -> bool:
    """Infinity (`1e999`) and NaN, however deep, would make JSON of every answer with it that nobody reads."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def _wrong(key: str, text: str) -> InvalidJob:
    return InvalidJob(f'invalid InputData value: "{key}" {text}')
