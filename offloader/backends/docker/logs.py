"""A container's log: its end by bytes, and what is new since the last reading. Blocks.

The engine keeps lines with their times and sends them in frames (Docker Engine API 1.41, "Attach to a
container"): 8 bytes, of which the last four are the payload's length, then the payload.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final, Protocol

from docker.errors import APIError

from offloader.backends.docker.engine import Engine
from offloader.backends.docker.observation import parse_time

_FRAME: Final = struct.Struct(">BxxxL")
_USUAL_LINE_BYTES: Final = 150
_ENOUGH_LINES: Final = 1 << 20
_CHUNK_BYTES: Final = 256 * 1024
_NO_SUCH_CONTAINER: Final = 404


class Readable(Protocol):
    """The body of an answer."""

    def read(self, amount: int, /) -> bytes: ...


def frames(body: Readable) -> Iterator[bytes]:
    """The payloads of a stream, in order; one that breaks off in mid-frame ends there."""
    while len(header := _read(body, _FRAME.size)) == _FRAME.size:
        _, size = _FRAME.unpack(header)
        payload = _read(body, size)
        if payload:
            yield payload
        if len(payload) < size:
            return


def read_log(engine: Engine, container: str) -> Iterator[bytes]:
    """All that is kept, oldest first, in large chunks; nothing of a container that is gone."""
    gathered = bytearray()
    for payload in _log(engine, container, tail="all"):
        gathered += payload
        if len(gathered) >= _CHUNK_BYTES:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)


def read_tail(engine: Engine, container: str, tail_bytes: int) -> bytes:
    """About the last `tail_bytes`: the engine counts lines, so more are asked for until they suffice."""
    if tail_bytes <= 0:
        return b""
    lines = tail_bytes // _USUAL_LINE_BYTES + 8
    while True:
        payloads = list(_log(engine, container, tail=lines))
        log = b"".join(payloads)
        if len(log) >= tail_bytes or len(payloads) < lines or lines > _ENOUGH_LINES:
            return log[-tail_bytes:]
        lines *= 8


class LogFollower:
    """Reads on where it stopped, by the times that the engine gives each line."""

    def __init__(self, container: str) -> None:
        self._container = container
        self._last = b""
        """Time of the last payload that was given out."""
        self._same = 0
        """How many payloads of that very time were given out."""

    def read(self, engine: Engine) -> bytes:
        """What is new, 256 KiB at a time; empty when everything written so far was read."""
        options: dict[str, Any] = {"tail": "all", "timestamps": 1}
        if self._last:
            options["since"] = _epoch(self._last)
        same = self._same
        new = bytearray()
        for payload in _log(engine, self._container, **options):
            time, _, text = payload.partition(b" ")
            if time < self._last:
                continue
            if time == self._last and same > 0:
                same -= 1
                continue
            self._same = self._same + 1 if time == self._last else 1
            self._last = time
            new += text
            if len(new) > _CHUNK_BYTES:
                break
        return bytes(new)


def _log(engine: Engine, container: str, **options: Any) -> Iterator[bytes]:
    params = {"stdout": 1, "stderr": 1, **options}
    try:
        response = engine.stream("GET", f"/containers/{container}/logs", params=params)
    except APIError as error:
        if error.response is not None and error.response.status_code == _NO_SUCH_CONTAINER:
            return
        raise
    with response:
        yield from frames(response.raw)


def _epoch(time: bytes) -> str:
    """Seconds and nanoseconds of the engine's `2026-11-21T07:16:51.576741634Z`, as its `since` takes them."""
    text = time.decode()
    moment = parse_time(text)
    assert moment is not None
    nanoseconds = text.removesuffix("Z").partition(".")[2].ljust(9, "0")[:9]
    return f"{int(moment.timestamp())}.{nanoseconds}"


def _read(body: Readable, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = body.read(size - len(parts))
        if not part:
            break
        parts += part
    return bytes(parts)
