from __future__ import annotations

import io
import struct

from offloader.backends.docker.logs import frames


def frame(payload: bytes, *, size: int | None = None) -> bytes:
    return struct.pack(">BxxxL", 1, len(payload) if size is None else size) + payload


class Trickle(io.BytesIO):
    """Gives one byte at a time, as a slow connection may."""

    def read(self, amount: int | None = -1, /) -> bytes:
        return super().read(min(1, amount or 0))


def test_payloads_come_in_order_however_slowly() -> None:
    body = Trickle(frame(b"one\n") + frame(b"") + frame(b"two"))
    assert list(frames(body)) == [b"one\n", b"two"]


def test_a_stream_that_breaks_off_ends() -> None:
    assert list(frames(io.BytesIO(frame(b"one") + frame(b"tw", size=9)))) == [b"one", b"tw"]
    assert list(frames(io.BytesIO(frame(b"one") + b"\x01\x00"))) == [b"one"]
