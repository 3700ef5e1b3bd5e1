"""Sockets tell where they were made: one that a test leaves open is reported in whichever test runs then."""

from __future__ import annotations

import socket
import sys
from types import FrameType
from typing import Any, Final

_FRAMES: Final = 8
_made: dict[int, list[str]] = {}
"""By the socket's address in memory, which is used again."""
_init, _repr = socket.socket.__init__, socket.socket.__repr__


def _made_here(self: socket.socket, *arguments: Any, **options: Any) -> None:
    _init(self, *arguments, **options)
    frame: FrameType | None = sys._getframe(1)
    origin: list[str] = []
    while frame is not None and len(origin) < _FRAMES:
        origin.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        frame = frame.f_back
    _made[id(self)] = origin


def _with_origin(self: socket.socket) -> str:
    origin = " < ".join(_made.get(id(self), ["?"]))
    return f"{_repr(self)} made at {origin}"


socket.socket.__init__ = _made_here  # type: ignore[method-assign]  # the purpose
socket.socket.__repr__ = _with_origin  # type: ignore[method-assign]  # the purpose
