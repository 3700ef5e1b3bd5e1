"""Above the call client nobody knows how a call is signaled, so that another media stack can take its place.

What may be imported is in pyproject.toml (import-linter); this is about words.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORDS = re.compile(
    r"\b(sdp|msid|mid|ufrag|candidate|data[_ -]?channel|websocket|custom_com\S*|calls_dc)\b", re.I
)
ACTIONS = {
    "join",
    "leave",
    "reconnect",
    "sdp",
    "ice",
    "mute",
    "unmute",
    "screen_on",
    "screen_off",
    "video_on",
    "video_off",
    "raise_hand",
    "unraise_hand",
    "react",
    "caption",
    "metric",
    "call_state",
}
FILES = sorted((ROOT / "jobs").rglob("*.py"))


def code_of(path: Path) -> str:
    """Without comments and docstrings: they may explain."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r'^\s*(r?""".*?""")', "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"#.*", "", text)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_jobs_name_nothing_of_the_wire(path: Path) -> None:
    code = code_of(path)
    assert WORDS.findall(code) == []
    quoted = set(re.findall(r'"([a-z_]+)"', code))
    assert quoted & ACTIONS == set()


def test_the_words_are_found_where_they_are() -> None:
    assert WORDS.search(code_of(ROOT / "callclient/media.py"))
    assert '"screen_on"' in code_of(ROOT / "callclient/client.py")
