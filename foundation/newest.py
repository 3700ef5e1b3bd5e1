"""Bounded memory: a dict of which only the newest entries stay."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


def keep_newest(entries: dict[_Key, _Value], key: _Key, value: _Value, *, most: int) -> None:
    """Set `key`, which becomes the newest entry; the oldest goes where there would be more than `most`."""
    entries.pop(key, None)  # a dict remembers when a key came, not when its value did
    if len(entries) >= most:
        del entries[next(iter(entries))]
    entries[key] = value
