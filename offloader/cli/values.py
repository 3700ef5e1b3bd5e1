"""Values of options, checked while the command line is read: argparse names the option, these the rest."""

from __future__ import annotations

import argparse
import re
from typing import Final

_ID: Final = re.compile(r"[a-z0-9]{26}")
_LONGEST_REASON: Final = 120
_LONGEST_QUOTE: Final = 40


def positive(text: str) -> int:
    """Raises ArgumentTypeError: it is no whole number above 0."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}: should be a whole number above 0")
    return value


def mattermost_id(text: str) -> str:
    """Raises ArgumentTypeError: it is no ID as Mattermost and its plugin make them."""
    if not _ID.fullmatch(text):
        wanted = "should be an ID of 26 characters a-z and 0-9"
        raise argparse.ArgumentTypeError(f"{_quoted(text)}: {wanted}")
    return text


def hold_reason(text: str) -> str:
    """Raises ArgumentTypeError: the service would not take it."""
    if not text.strip() or not text.isprintable() or len(text) > _LONGEST_REASON:
        wanted = f"should be 1 to {_LONGEST_REASON} printable characters"
        raise argparse.ArgumentTypeError(f"{_quoted(text)}: {wanted}")
    return text


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…")
