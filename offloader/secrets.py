"""Keeps secret values of `input_data` out of the store, of answers and of logs.

The client's document is split once, at the door: a public copy, in which every secret is `***`, goes
everywhere; the real values go to the backend's `launch` and nowhere else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

MASK: Final = "***"
_SECRET_KEY: Final = re.compile(
    r"token|secret|passw|credential|auth_?key|api_?key|access_?key|private_?key|speech_?key|"
    r"authorization|transcribe_api_options",
    re.IGNORECASE,
)
"""`transcribe_api_options` is a JSON string that may hold a speech service's key (calls-plugin.md 6.4)."""

_URL_CREDENTIALS: Final = re.compile(r"(://)[^/?#@\s]+@")


def masked(input_data: Mapping[str, Any]) -> dict[str, Any]:
    """`input_data` with the same keys, secret values replaced by `***`.

    Values that can hold no secret stay readable: empty ones, booleans and `"null"`. Credentials inside
    URLs are masked wherever they stand.
    """
    return {key: _masked_value(key, value) for key, value in input_data.items()}


def _masked_value(key: str, value: Any) -> Any:
    if isinstance(value, bool) or value in (None, "", "null"):
        return value
    if _SECRET_KEY.search(key):
        return MASK
    if isinstance(value, dict):
        return masked(value)
    if isinstance(value, list):
        return [_masked_value(key, item) for item in value]
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        return _masked_json(key, value)
    if isinstance(value, str):
        return _URL_CREDENTIALS.sub(rf"\1{MASK}@", value)
    return value


def _masked_json(key: str, text: str) -> str:
    """A text that is itself a JSON document keeps its form, its secrets masked."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return text
    hidden = _masked_value(key, document)
    return text if hidden == document else json.dumps(hidden)
